#include <cstring>
#include <new>

#include "harness_device.h"

namespace plugin_harness {
namespace {

constexpr std::align_val_t kAlignment{256};

}  // namespace

void* allocate(size_t bytes) { return operator new(bytes, kAlignment); }

void release(void* memory) noexcept { operator delete(memory, kAlignment); }

void fill(void* memory, int byte, size_t bytes) { std::memset(memory, byte, bytes); }

void copy_in(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

void copy_out(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

Stream* stream() { return nullptr; }

void synchronise() {}

bool has_graphs() { return false; }

void run_captured(const std::function<void()>&, const std::function<void()>&, int) {}

}  // namespace plugin_harness
