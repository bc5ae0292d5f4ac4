// The stand-in's GPU over host memory (host_device.h).
#include <cstring>

#include "../../src/engine/failure.h"
#include "host_device.h"
#include "standin_gpu.h"

using serpent::engine::fail;
using standin::Mark;

struct serpent_adapter_event {
  std::shared_ptr<Mark> mark;
};

namespace standin::gpu {

void* allocate(std::size_t bytes) {
  void* address = device().memory.allocate(bytes);
  if (address == nullptr) {
    fail(SERPENT_ENGINE_OUT_OF_MEMORY, "the stand-in has no " + std::to_string(bytes) + " bytes");
  }
  return address;
}

void release(void* address) { device().memory.release(address); }

std::size_t allocations() { return device().memory.count(); }

serpent_adapter_place locate(const void* address) {
  return {device().memory.holds(address, 1) ? SERPENT_ENGINE_DEVICE : SERPENT_ENGINE_HOST, 0};
}

void copy(const serpent_adapter_copy& piece, void* stream) {
  const std::size_t source_bytes = (piece.rows - 1) * piece.source_pitch + piece.width;
  const std::size_t target_bytes = (piece.rows - 1) * piece.target_pitch + piece.width;
  const bool from_device = device().memory.holds(piece.source, source_bytes);
  const bool to_device = device().memory.holds(piece.target, target_bytes);
  if (from_device != (piece.direction != SERPENT_ADAPTER_TO_DEVICE) ||
      to_device != (piece.direction != SERPENT_ADAPTER_TO_HOST)) {
    fail(SERPENT_ENGINE_CUDA, "the stand-in sees a copy beyond its memory");
  }
  device().stream(stream).push([piece] {
    for (uint64_t row = 0; row < piece.rows; ++row) {
      std::memcpy(static_cast<char*>(piece.target) + row * piece.target_pitch,
                  static_cast<const char*>(piece.source) + row * piece.source_pitch, piece.width);
    }
  });
}

serpent_adapter_event* create_event() { return new serpent_adapter_event; }

void destroy_event(serpent_adapter_event* event) { delete event; }

void record(serpent_adapter_event& event, void* stream) {
  event.mark = std::make_shared<Mark>();
  device().stream(stream).push([mark = event.mark] { mark->reach(); });
}

void wait(serpent_adapter_event& event, void* stream) {
  if (event.mark != nullptr) {
    device().stream(stream).push([mark = event.mark] { mark->wait(); });
  }
}

void finish_event(serpent_adapter_event& event) {
  if (event.mark != nullptr) {
    event.mark->wait();
  }
}

void finish_stream(void* stream) { device().stream(stream).finish(); }

void launch(void* stream, const void* image, void* restored, std::size_t bytes,
            std::function<void(const void*, void*)> body) {
  if (!device().memory.holds(image, bytes) || !device().memory.holds(restored, bytes)) {
    fail(SERPENT_ENGINE_TENSORRT, "the stand-in's tensors are not in device memory of their size");
  }
  device().stream(stream).push([body = std::move(body), image, restored] { body(image, restored); });
}

void* stream(int number) {
  static char handles[64];
  return &handles[number];
}

}  // namespace standin::gpu
