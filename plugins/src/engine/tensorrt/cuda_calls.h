// The half of an adapter that is CUDA's: memory, copies, events. Nothing here is TensorRT's, so that the tests'
// stand-in for TensorRT runs over CUDA memory with the same code.
//
// All fail with SERPENT_ENGINE_CUDA or SERPENT_ENGINE_OUT_OF_MEMORY, and lend the device to the calling thread.
#pragma once

#include "../adapter.h"
#include "../failure.h"
#include "cuda_driver.h"

struct serpent_adapter_event {
  CUevent event;
};

namespace serpent::engine {

// Destruction needs the device, and must go on where it is lost.
template <class Body>
void on_device(const CudaDriver& cuda, const Body& body) noexcept {
  (void)guarded(nullptr, [&] {
    const CudaDriver::Scope current(cuda);
    body();
  });
}

serpent_adapter_device describe_device(const CudaDriver& cuda);

void* allocate(const CudaDriver& cuda, uint64_t bytes);
void release(const CudaDriver& cuda, void* address) noexcept;
serpent_adapter_place locate(const CudaDriver& cuda, const void* address);
void copy(const CudaDriver& cuda, const serpent_adapter_copy& piece, void* stream);

serpent_adapter_event* create_event(const CudaDriver& cuda);
void destroy_event(const CudaDriver& cuda, serpent_adapter_event* event) noexcept;
void record(const CudaDriver& cuda, const serpent_adapter_event& event, void* stream);
void wait(const CudaDriver& cuda, const serpent_adapter_event& event, void* stream);
void finish_event(const CudaDriver& cuda, const serpent_adapter_event& event);
void finish_stream(const CudaDriver& cuda, void* stream);

}  // namespace serpent::engine
