// The device that the harness runs the plugin on: a GPU, or CPU threads under the host twin of the kernels.
#pragma once

#include <cstddef>
#include <functional>

namespace plugin_harness {

struct Stream;  // a cudaStream_t

// The functions below throw std::runtime_error with the device's own words.

// Memory of the device, aligned to 256 bytes.
void* allocate(size_t bytes);
void release(void* memory) noexcept;
void fill(void* memory, int byte, size_t bytes);
void copy_in(void* to, const void* from, size_t bytes);
void copy_out(void* to, const void* from, size_t bytes);

// The one stream that everything is enqueued on.
Stream* stream();
void synchronise();

// Whether this device has graphs.
bool has_graphs();

// Captures what `enqueue` enqueues into a graph, calls `between`, and launches the graph `times` times.
void run_captured(const std::function<void()>& enqueue, const std::function<void()>& between, int times);

}  // namespace plugin_harness
