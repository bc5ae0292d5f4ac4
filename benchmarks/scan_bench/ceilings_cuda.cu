// What this GPU can do at most: ex2 and FFMA per second, and bytes per second copied. A C interface, for ctypes.
#include <cuda_runtime.h>

#include <cstdint>

namespace {

constexpr int kThreads = 256;
constexpr int kChains = 8;  // independent instructions in flight per thread
constexpr int kSteps = 2048;

__device__ float exp2_instruction(float x) {
  float y;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

enum class Kind { kExp, kFma };

// Every chain feeds on its own result: the numbers mean nothing, and the rate does not depend on them. The store that
// never happens keeps the work alive.
template <Kind kKind>
__global__ void __launch_bounds__(kThreads) chains(float* sink, float scale) {
  float value[kChains];
  for (int chain = 0; chain < kChains; ++chain) {
    value[chain] = -0.01F * static_cast<float>(threadIdx.x + chain);
  }
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int chain = 0; chain < kChains; ++chain) {
      value[chain] = kKind == Kind::kExp ? exp2_instruction(value[chain]) : fmaf(value[chain], scale, 0.25F);
    }
  }
  float sum = 0;
  for (int chain = 0; chain < kChains; ++chain) {
    sum += value[chain];
  }
  if (sum == 12345.0F) {
    *sink = sum;
  }
}

__global__ void __launch_bounds__(kThreads) copy(const float4* from, float4* to, int64_t count) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride) {
    to[i] = from[i];
  }
}

struct Setting {
  int blocks = 0;
  cudaError_t status = cudaSuccess;

  Setting() {
    int device = 0;
    int multiprocessors = 0;
    status = cudaGetDevice(&device);
    if (status == cudaSuccess) {
      status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    blocks = multiprocessors * 8;  // 2048 threads each, which is as many as any architecture holds
  }
};

// Seconds of one launch, the shortest of `repeats` after one that is not counted; negative: -status.
template <class Launch>
double shortest(int repeats, const Launch& launch) {
  cudaEvent_t start = nullptr;
  cudaEvent_t stop = nullptr;
  cudaError_t status = cudaEventCreate(&start);
  if (status == cudaSuccess) {
    status = cudaEventCreate(&stop);
  }
  double best = 0;
  for (int repeat = 0; repeat <= repeats && status == cudaSuccess; ++repeat) {
    float milliseconds = 0;
    cudaEventRecord(start);
    launch();
    status = cudaGetLastError();
    cudaEventRecord(stop);
    if (status == cudaSuccess) {
      status = cudaEventSynchronize(stop);
    }
    if (status == cudaSuccess) {
      status = cudaEventElapsedTime(&milliseconds, start, stop);
    }
    const double seconds = milliseconds * 1e-3;
    if (repeat > 0 && (best == 0 || seconds < best)) {
      best = seconds;
    }
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  return status == cudaSuccess ? best : -static_cast<double>(status);
}

template <Kind kKind>
double chain_rate(float* sink, int repeats) {
  const Setting setting;
  if (setting.status != cudaSuccess) {
    return -static_cast<double>(setting.status);
  }
  const double seconds = shortest(repeats, [&] { chains<kKind><<<setting.blocks, kThreads>>>(sink, 0.75F); });
  return seconds < 0 ? seconds : static_cast<double>(setting.blocks) * kThreads * kChains * kSteps / seconds;
}

}  // namespace

// Per second, or the negative CUDA status. All on the current device and its default stream; `sink` is one device
// float that is never written.
extern "C" double ceiling_exp(float* sink, int repeats) { return chain_rate<Kind::kExp>(sink, repeats); }

extern "C" double ceiling_fma(float* sink, int repeats) { return chain_rate<Kind::kFma>(sink, repeats); }

// Bytes per second, read and written together; device pointers to `bytes` each, a multiple of 16, aligned to 16.
extern "C" double ceiling_copy(const void* from, void* to, int64_t bytes, int repeats) {
  const Setting setting;
  if (setting.status != cudaSuccess) {
    return -static_cast<double>(setting.status);
  }
  const double seconds = shortest(repeats, [&] {
    copy<<<setting.blocks, kThreads>>>(static_cast<const float4*>(from), static_cast<float4*>(to), bytes / 16);
  });
  return seconds < 0 ? seconds : 2.0 * static_cast<double>(bytes) / seconds;
}

extern "C" const char* ceiling_status_text(int status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }
