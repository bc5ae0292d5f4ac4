// The CUDA driver, loaded at run time: building needs its header alone, and nothing is linked.
//
// The driver's interface rather than the runtime's: it comes with the driver, and it lends a device's context to a call
// without changing the device that the caller's thread has chosen.
#pragma once

#include <cuda.h>

#include <string>

namespace serpent::engine {

class CudaDriver {
 public:
  // Fails with SERPENT_ENGINE_UNSUPPORTED: no driver, or no such device.
  explicit CudaDriver(int32_t device);
  ~CudaDriver();
  CudaDriver(const CudaDriver&) = delete;
  CudaDriver& operator=(const CudaDriver&) = delete;

  // Makes the device current for the calling thread during its life.
  class Scope {
   public:
    explicit Scope(const CudaDriver& driver);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const CudaDriver& driver_;
  };

  // Fails with SERPENT_ENGINE_CUDA, or SERPENT_ENGINE_OUT_OF_MEMORY, where `result` is an error of `function`.
  void check(CUresult result, const char* function) const;

  int attribute(CUdevice_attribute which) const;

  CUdevice device = 0;

  decltype(&::cuInit) init;
  decltype(&::cuGetErrorString) error_string;
  decltype(&::cuDeviceGetCount) device_count;
  decltype(&::cuDeviceGet) device_get;
  decltype(&::cuDeviceGetName) device_name;
  decltype(&::cuDeviceGetAttribute) device_attribute;
  decltype(&::cuDevicePrimaryCtxRetain) retain_context;
  decltype(&::cuDevicePrimaryCtxRelease) release_context;
  decltype(&::cuCtxPushCurrent) push_context;
  decltype(&::cuCtxPopCurrent) pop_context;
  decltype(&::cuMemAlloc) allocate;
  decltype(&::cuMemFree) free;
  decltype(&::cuMemcpy2DAsync) copy;
  decltype(&::cuPointerGetAttribute) pointer_attribute;
  decltype(&::cuEventCreate) event_create;
  decltype(&::cuEventDestroy) event_destroy;
  decltype(&::cuEventRecord) event_record;
  decltype(&::cuEventSynchronize) event_synchronize;
  decltype(&::cuStreamWaitEvent) stream_wait;
  decltype(&::cuStreamSynchronize) stream_synchronize;

 private:
  CUcontext context_ = nullptr;
};

}  // namespace serpent::engine
