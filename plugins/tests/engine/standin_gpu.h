// The half of the stand-in that is a GPU: memory, copies, streams, events. Over host memory in standin_host.cpp, over a
// GPU's with the adapters' own CUDA code in standin_cuda.cpp. Failures are thrown, as everywhere in the engine library.
#pragma once

#include <cstddef>
#include <functional>

#include "../../src/engine/adapter.h"

namespace standin::gpu {

void* allocate(std::size_t bytes);  // starts out as NaN
void release(void* address);
std::size_t allocations();
serpent_adapter_place locate(const void* address);
void copy(const serpent_adapter_copy& piece, void* stream);

serpent_adapter_event* create_event();
void destroy_event(serpent_adapter_event* event);
void record(serpent_adapter_event& event, void* stream);
void wait(serpent_adapter_event& event, void* stream);
void finish_event(serpent_adapter_event& event);
void finish_stream(void* stream);

// Enqueues `body`, which is given the content of `image` and fills that of `restored`, `bytes` each, where the CPU can
// reach them.
void launch(void* stream, const void* image, void* restored, std::size_t bytes,
            std::function<void(const void* image, void* restored)> body);

void* stream(int number);

}  // namespace standin::gpu
