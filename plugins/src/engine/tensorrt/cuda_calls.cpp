#include "cuda_calls.h"

#include <algorithm>
#include <memory>

namespace serpent::engine {
namespace {

CUdeviceptr pointer(const void* address) { return reinterpret_cast<CUdeviceptr>(address); }

void copy_block(const CudaDriver& cuda, const serpent_adapter_copy& block, void* stream) {
  const bool from_host = block.direction == SERPENT_ADAPTER_TO_DEVICE;
  const bool to_host = block.direction == SERPENT_ADAPTER_TO_HOST;
  CUDA_MEMCPY2D what = {};
  what.srcMemoryType = from_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  what.srcHost = from_host ? block.source : nullptr;
  what.srcDevice = from_host ? 0 : pointer(block.source);
  what.srcPitch = block.source_pitch;
  what.dstMemoryType = to_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  what.dstHost = to_host ? block.target : nullptr;
  what.dstDevice = to_host ? 0 : pointer(block.target);
  what.dstPitch = block.target_pitch;
  what.WidthInBytes = block.width;
  what.Height = block.rows;
  cuda.check(cuda.copy(&what, static_cast<CUstream>(stream)), "cuMemcpy2DAsync");
}

}  // namespace

serpent_adapter_device describe_device(const CudaDriver& cuda) {
  serpent_adapter_device device = {};
  device.major = cuda.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  device.minor = cuda.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  cuda.check(cuda.device_name(device.name, sizeof(device.name), cuda.device), "cuDeviceGetName");
  return device;
}

void* allocate(const CudaDriver& cuda, uint64_t bytes) {
  const CudaDriver::Scope current(cuda);
  CUdeviceptr memory = 0;
  cuda.check(cuda.allocate(&memory, bytes), "cuMemAlloc");
  return reinterpret_cast<void*>(memory);
}

void release(const CudaDriver& cuda, void* address) noexcept {
  on_device(cuda, [&] { (void)cuda.free(pointer(address)); });
}

serpent_adapter_place locate(const CudaDriver& cuda, const void* address) {
  const CudaDriver::Scope current(cuda);
  serpent_adapter_place place = {SERPENT_ENGINE_HOST, 0};
  CUmemorytype kind = CU_MEMORYTYPE_HOST;
  const CUresult known = cuda.pointer_attribute(&kind, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer(address));
  if (known == CUDA_ERROR_INVALID_VALUE) {
    return place;  // how the driver speaks of memory that is none of its own
  }
  cuda.check(known, "cuPointerGetAttribute");
  if (kind == CU_MEMORYTYPE_DEVICE) {
    place.memory = SERPENT_ENGINE_DEVICE;
    cuda.check(cuda.pointer_attribute(&place.device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer(address)),
               "cuPointerGetAttribute");
  }
  return place;
}

void copy(const CudaDriver& cuda, const serpent_adapter_copy& piece, void* stream) {
  const CudaDriver::Scope current(cuda);
  const auto most = static_cast<uint64_t>(cuda.attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH));
  if (std::max(piece.source_pitch, piece.target_pitch) <= most) {
    copy_block(cuda, piece, stream);
    return;
  }
  // Rows further apart than a copy may have them, as the planes of a picture of 2 GiB each are: one by one, and in
  // parts where a row itself is longer.
  for (uint64_t row = 0; row < piece.rows; ++row) {
    for (uint64_t start = 0; start < piece.width; start += most) {
      serpent_adapter_copy part = piece;
      part.source = static_cast<const char*>(piece.source) + row * piece.source_pitch + start;
      part.target = static_cast<char*>(piece.target) + row * piece.target_pitch + start;
      part.width = std::min(most, piece.width - start);
      part.source_pitch = part.target_pitch = part.width;
      part.rows = 1;
      copy_block(cuda, part, stream);
    }
  }
}

serpent_adapter_event* create_event(const CudaDriver& cuda) {
  const CudaDriver::Scope current(cuda);
  auto made = std::make_unique<serpent_adapter_event>();
  cuda.check(cuda.event_create(&made->event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  return made.release();
}

void destroy_event(const CudaDriver& cuda, serpent_adapter_event* event) noexcept {
  on_device(cuda, [&] { (void)cuda.event_destroy(event->event); });
  delete event;
}

void record(const CudaDriver& cuda, const serpent_adapter_event& event, void* stream) {
  const CudaDriver::Scope current(cuda);
  cuda.check(cuda.event_record(event.event, static_cast<CUstream>(stream)), "cuEventRecord");
}

void wait(const CudaDriver& cuda, const serpent_adapter_event& event, void* stream) {
  const CudaDriver::Scope current(cuda);
  cuda.check(cuda.stream_wait(static_cast<CUstream>(stream), event.event, 0), "cuStreamWaitEvent");
}

void finish_event(const CudaDriver& cuda, const serpent_adapter_event& event) {
  const CudaDriver::Scope current(cuda);
  cuda.check(cuda.event_synchronize(event.event), "cuEventSynchronize");
}

void finish_stream(const CudaDriver& cuda, void* stream) {
  const CudaDriver::Scope current(cuda);
  cuda.check(cuda.stream_synchronize(static_cast<CUstream>(stream)), "cuStreamSynchronize");
}

}  // namespace serpent::engine
