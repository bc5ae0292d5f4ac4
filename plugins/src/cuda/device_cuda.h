// device.h on the GPU: intrinsics, PTX and the CUDA runtime, which appear nowhere else.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "device_types.h"
#include "failure.h"

#define SERPENT_KERNEL(threads, min_blocks) __global__ __launch_bounds__(threads, min_blocks)
#define SERPENT_DEVICE __device__ __forceinline__
#define SERPENT_HOST_DEVICE __host__ __device__ __forceinline__
#define SERPENT_PRAGMA(text) _Pragma(#text)
#define SERPENT_UNROLL SERPENT_PRAGMA(unroll)
#define SERPENT_UNROLL_BY(n) SERPENT_PRAGMA(unroll n)
#define SERPENT_BLOCK_SYNC(name) __syncthreads()
#define SERPENT_WARP_SYNC(name) __syncwarp()

namespace serpent::cuda {

SERPENT_DEVICE Index3 block_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
SERPENT_DEVICE Index3 grid_size() { return {gridDim.x, gridDim.y, gridDim.z}; }
SERPENT_DEVICE unsigned thread_index() { return threadIdx.x; }
SERPENT_DEVICE unsigned block_size() { return blockDim.x; }

SERPENT_DEVICE unsigned char* shared_memory() {
  extern __shared__ uint4 serpent_shared_memory[];  // the type gives the alignment
  return reinterpret_cast<unsigned char*>(serpent_shared_memory);
}

template <class V>
SERPENT_DEVICE V shuffle_xor(V value, int mask) {
  static_assert(sizeof(V) == 4);
  return __shfl_xor_sync(0xffffffffU, value, mask);
}

// Error 2 ulp; results below 2^-126 are 0, as are such arguments.
SERPENT_DEVICE float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

SERPENT_DEVICE float reciprocal_fast(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

SERPENT_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }

SERPENT_DEVICE float to_float(float value) { return value; }

SERPENT_DEVICE float to_float(Half value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}

SERPENT_DEVICE float to_float(BFloat16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }

SERPENT_DEVICE void round_to(float value, Half& out) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value)); }

SERPENT_DEVICE void round_to(float value, BFloat16& out) {
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
#else
  const uint32_t bits = __float_as_uint(value);
  const uint32_t rounded = value != value ? bits | 0x400000U : bits + 0x7fffU + ((bits >> 16) & 1U);
  out.bits = static_cast<uint16_t>(rounded >> 16);
#endif
}

SERPENT_DEVICE float load(const float* p) { return __ldg(p); }

template <class T>
SERPENT_DEVICE float load(const T* p) {
  return to_float(T{__ldg(&p->bits)});
}

SERPENT_DEVICE void store(float value, float* p) { *p = value; }

template <class T>
SERPENT_DEVICE void store(float value, T* p) {
  T rounded;
  round_to(value, rounded);
  *p = rounded;
}

template <int kBytes>
struct CopyWord;
template <>
struct CopyWord<4> {
  using Type = unsigned;
};
template <>
struct CopyWord<8> {
  using Type = uint2;
};
template <>
struct CopyWord<16> {
  using Type = uint4;
};

template <int kBytes>
SERPENT_DEVICE void copy_async(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
  } else {
    static_assert(kBytes == 4 || kBytes == 8);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(global), "n"(kBytes) : "memory");
  }
#else
  using Word = typename CopyWord<kBytes>::Type;
  *static_cast<Word*>(shared) = __ldg(static_cast<const Word*>(global));
#endif
}

SERPENT_DEVICE void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kPending>
SERPENT_DEVICE void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

inline void check_cuda(cudaError_t code, const std::string& what) {
  if (code != cudaSuccess) {
    cudaGetLastError();  // the caller learns of it here, and need not from its own next call
    // From here on codes tell of kernels that ran, and then every later call returns the same one.
    const char* culprit = code >= cudaErrorIllegalAddress ? ", or what ran on the device before" : "";
    // The reason first: names of kernels are long, and a message is cut at 255 characters.
    fail(SERPENT_STATUS_CUDA, std::string(cudaGetErrorString(code)) + " (" + what + culprit + ")");
  }
}

template <class... P, class... A>
void launch(void (*kernel)(P...), Index3 grid, unsigned threads, size_t shared_bytes, void* stream, A... arguments) {
  static_assert(sizeof...(P) == sizeof...(A));
  const auto enqueue = [&](P... values) {
    cudaLaunchConfig_t configuration{};
    configuration.gridDim = dim3(grid.x, grid.y, grid.z);
    configuration.blockDim = dim3(threads);
    configuration.dynamicSmemBytes = shared_bytes;
    configuration.stream = static_cast<cudaStream_t>(stream);
    void* pointers[] = {static_cast<void*>(&values)..., nullptr};
    return cudaLaunchKernelExC(&configuration, reinterpret_cast<const void*>(kernel), pointers);
  };
  const cudaError_t code = enqueue(static_cast<P>(arguments)...);
  if (code != cudaSuccess) {
    const char* name = nullptr;
    if (cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)) != cudaSuccess) {
      name = "a kernel";
    }
    check_cuda(code, std::string("launch of ") + name);
  }
}

inline void fill_zero(void* pointer, size_t bytes, void* stream) {
  check_cuda(cudaMemsetAsync(pointer, 0, bytes, static_cast<cudaStream_t>(stream)), "cudaMemsetAsync");
}

inline int device_multiprocessors() {
  int device = 0;
  int count = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return count;
}

}  // namespace serpent::cuda
