#include "cuda_driver.h"

#include <dlfcn.h>

#include "../failure.h"

namespace serpent::engine {
namespace {

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    fail(SERPENT_ENGINE_UNSUPPORTED, std::string("the NVIDIA driver is too old: it has no ") + name);
  }
}

}  // namespace

// cuda.h renames functions to their current revision (cuMemAlloc is cuMemAlloc_v2); so must the name that is looked up.
#define SERPENT_NAME_OF(function) #function
#define SERPENT_FIND(member, function) find(library, SERPENT_NAME_OF(function), member)

CudaDriver::CudaDriver(int32_t number) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    fail(SERPENT_ENGINE_UNSUPPORTED,
         std::string("this machine has no NVIDIA driver (") + (reason != nullptr ? reason : "libcuda.so.1") +
             "), which running a plan needs; run the .onnx file of the same export instead");
  }
  SERPENT_FIND(init, cuInit);
  SERPENT_FIND(error_string, cuGetErrorString);
  SERPENT_FIND(device_count, cuDeviceGetCount);
  SERPENT_FIND(device_get, cuDeviceGet);
  SERPENT_FIND(device_name, cuDeviceGetName);
  SERPENT_FIND(device_attribute, cuDeviceGetAttribute);
  SERPENT_FIND(retain_context, cuDevicePrimaryCtxRetain);
  SERPENT_FIND(release_context, cuDevicePrimaryCtxRelease);
  SERPENT_FIND(push_context, cuCtxPushCurrent);
  SERPENT_FIND(pop_context, cuCtxPopCurrent);
  SERPENT_FIND(allocate, cuMemAlloc);
  SERPENT_FIND(free, cuMemFree);
  SERPENT_FIND(copy, cuMemcpy2DAsync);
  SERPENT_FIND(pointer_attribute, cuPointerGetAttribute);
  SERPENT_FIND(event_create, cuEventCreate);
  SERPENT_FIND(event_destroy, cuEventDestroy);
  SERPENT_FIND(event_record, cuEventRecord);
  SERPENT_FIND(event_synchronize, cuEventSynchronize);
  SERPENT_FIND(stream_wait, cuStreamWaitEvent);
  SERPENT_FIND(stream_synchronize, cuStreamSynchronize);

  check(init(0), "cuInit");
  int count = 0;
  check(device_count(&count), "cuDeviceGetCount");
  if (number >= count) {
    fail(SERPENT_ENGINE_UNSUPPORTED,
         "there is no CUDA device " + std::to_string(number) + ": CUDA sees " + std::to_string(count));
  }
  check(device_get(&device, number), "cuDeviceGet");
  check(retain_context(&context_, device), "cuDevicePrimaryCtxRetain");
}

CudaDriver::~CudaDriver() { (void)release_context(device); }

CudaDriver::Scope::Scope(const CudaDriver& driver) : driver_(driver) {
  driver.check(driver.push_context(driver.context_), "cuCtxPushCurrent");
}

CudaDriver::Scope::~Scope() {
  CUcontext own = nullptr;
  (void)driver_.pop_context(&own);
}

void CudaDriver::check(CUresult result, const char* function) const {
  if (result == CUDA_SUCCESS) {
    return;
  }
  const char* text = nullptr;
  if (error_string(result, &text) != CUDA_SUCCESS || text == nullptr) {
    text = "unknown error";
  }
  fail(result == CUDA_ERROR_OUT_OF_MEMORY ? SERPENT_ENGINE_OUT_OF_MEMORY : SERPENT_ENGINE_CUDA,
       std::string(function) + " failed: " + text + " (" + std::to_string(static_cast<int>(result)) + ")");
}

int CudaDriver::attribute(CUdevice_attribute which) const {
  int value = 0;
  check(device_attribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

}  // namespace serpent::engine
