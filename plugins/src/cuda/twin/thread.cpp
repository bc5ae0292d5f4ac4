#include "thread.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace serpent::cuda::twin {
namespace {

thread_local Thread* current_thread = nullptr;

}  // namespace

Thread& current() { return *current_thread; }

void set_current(Thread* thread) { current_thread = thread; }

void block_sync(const char* name) {
  Thread& thread = current();
  thread.block->block_sync(thread.index, name);
}

void warp_sync(const char* name) {
  Thread& thread = current();
  thread.block->warp_sync(thread.index, name);
}

uint32_t shuffle_xor(uint32_t value, int mask) {
  Thread& thread = current();
  return thread.block->shuffle_xor(thread.index, thread.shuffles, value, mask);
}

void check_aligned(const char* what, const void* pointer, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) {
    current().block->fail(std::string(what) + " of a pointer that is not aligned to " + std::to_string(bytes) +
                          " bytes");
  }
}

void copy_async(void* shared, const void* global, size_t bytes) {
  check_aligned("copy_async", shared, bytes);
  check_aligned("copy_async", global, bytes);
  std::memset(shared, 0xff, bytes);
  current().copies.back().push_back({shared, global, bytes});
}

void copy_async_commit() { current().copies.emplace_back(); }

void copy_async_wait(int pending) {
  auto& groups = current().copies;
  const auto committed = static_cast<std::ptrdiff_t>(groups.size()) - 1;
  const auto arrived = groups.begin() + std::max<std::ptrdiff_t>(committed - pending, 0);
  for (auto group = groups.begin(); group != arrived; ++group) {
    for (const Thread::Copy& copy : *group) {
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
  }
  groups.erase(groups.begin(), arrived);
}

}  // namespace serpent::cuda::twin
