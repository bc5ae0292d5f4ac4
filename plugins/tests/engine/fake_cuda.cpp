// A CUDA driver over host memory: one device, of compute capability 8.9, whose streams do everything at once.
#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace {

std::mutex mutex;  // of the allocations
std::map<CUdeviceptr, std::size_t> allocations;
constexpr int kMaxPitch = 100;  // 2^31 - 1 in truth: here small pictures have planes, and even rows, beyond it
thread_local int contexts = 0;  // pushed and not popped: calls that need a context find out where there is none
int context = 0;                // what a context's handle points at

bool on_device(CUdeviceptr address) {
  const std::lock_guard lock(mutex);
  const auto next = allocations.upper_bound(address);
  return next != allocations.begin() && address < std::prev(next)->first + std::prev(next)->second;
}

CUresult with_context() { return contexts > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }

}  // namespace

extern "C" {

#define FAKE CUresult CUDAAPI

FAKE cuInit(unsigned int) { return CUDA_SUCCESS; }
FAKE cuGetErrorString(CUresult, const char** text) {
  *text = "an error of the fake";
  return CUDA_SUCCESS;
}
FAKE cuDeviceGetCount(int* count) {
  *count = 1;
  return CUDA_SUCCESS;
}
FAKE cuDeviceGet(CUdevice* device, int number) {
  *device = number;
  return CUDA_SUCCESS;
}
FAKE cuDeviceGetName(char* name, int size, CUdevice) {
  std::snprintf(name, static_cast<std::size_t>(size), "fake GPU");
  return CUDA_SUCCESS;
}
FAKE cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
  switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = 8;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = 9;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_PITCH:
      *value = kMaxPitch;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
FAKE cuDevicePrimaryCtxRetain(CUcontext* found, CUdevice) {
  *found = reinterpret_cast<CUcontext>(&context);
  return CUDA_SUCCESS;
}
FAKE cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
FAKE cuCtxPushCurrent(CUcontext) {
  ++contexts;
  return CUDA_SUCCESS;
}
FAKE cuCtxPopCurrent(CUcontext*) {
  --contexts;
  return CUDA_SUCCESS;
}
FAKE cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  *address = reinterpret_cast<CUdeviceptr>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  const std::lock_guard lock(mutex);
  allocations[*address] = bytes;
  return with_context();
}
FAKE cuMemFree(CUdeviceptr address) {
  {
    const std::lock_guard lock(mutex);
    allocations.erase(address);
  }
  std::free(reinterpret_cast<void*>(address));
  return with_context();
}
FAKE cuPointerGetAttribute(void* value, CUpointer_attribute which, CUdeviceptr address) {
  if (!on_device(address)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const int found = which == CU_POINTER_ATTRIBUTE_MEMORY_TYPE ? CU_MEMORYTYPE_DEVICE : 0;
  std::memcpy(value, &found, sizeof(found));
  return CUDA_SUCCESS;
}
FAKE cuMemcpy2DAsync(const CUDA_MEMCPY2D* copy, CUstream) {
  const auto place = [](CUmemorytype type, const void* host, CUdeviceptr device) {
    const bool right = (type == CU_MEMORYTYPE_DEVICE) == on_device(device) && (type == CU_MEMORYTYPE_HOST) == !!host;
    return right ? reinterpret_cast<char*>(host != nullptr ? reinterpret_cast<CUdeviceptr>(host) : device) : nullptr;
  };
  const char* source = place(copy->srcMemoryType, copy->srcHost, copy->srcDevice);
  char* target = place(copy->dstMemoryType, copy->dstHost, copy->dstDevice);
  if (source == nullptr || target == nullptr || copy->srcPitch < copy->WidthInBytes ||
      copy->dstPitch < copy->WidthInBytes || std::max(copy->srcPitch, copy->dstPitch) > kMaxPitch) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (std::size_t row = 0; row < copy->Height; ++row) {
    std::memcpy(target + row * copy->dstPitch, source + row * copy->srcPitch, copy->WidthInBytes);
  }
  return with_context();
}
FAKE cuEventCreate(CUevent* event, unsigned int) {
  *event = reinterpret_cast<CUevent>(&context);
  return with_context();
}
FAKE cuEventDestroy(CUevent) { return with_context(); }
FAKE cuEventRecord(CUevent, CUstream) { return with_context(); }
FAKE cuEventSynchronize(CUevent) { return with_context(); }
FAKE cuStreamWaitEvent(CUstream, CUevent, unsigned int) { return with_context(); }
FAKE cuStreamSynchronize(CUstream) { return with_context(); }

// What the stand-in asks of it beyond the adapters.
FAKE cuMemsetD8(CUdeviceptr address, unsigned char value, size_t bytes) {
  std::memset(reinterpret_cast<void*>(address), value, bytes);
  return with_context();
}
FAKE cuMemHostAlloc(void** address, size_t bytes, unsigned int) {
  *address = std::malloc(bytes);
  return with_context();
}
FAKE cuStreamCreate(CUstream* stream, unsigned int) {
  *stream = reinterpret_cast<CUstream>(&context);
  return with_context();
}
FAKE cuLaunchHostFunc(CUstream, CUhostFn task, void* given) {
  task(given);
  return with_context();
}

}  // extern "C"
