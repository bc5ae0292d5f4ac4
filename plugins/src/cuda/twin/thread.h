// What a kernel running on a CPU thread knows of itself, and what it may call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "block.h"

namespace serpent::cuda::twin {

// One thread of one block. Asynchronous copies happen when they are waited for, the last moment they may; their
// destination is spoilt when they are issued, the first moment it may change.
struct Thread {
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };

  Block* block;
  unsigned char* shared;
  Index3 block_index;
  Index3 grid_size;
  unsigned index;
  unsigned block_size;
  uint32_t shuffles = 0;
  std::vector<std::vector<Copy>> copies = {{}};  // groups, the open one last
};

// The calling CPU thread's; only inside a kernel.
Thread& current();
void set_current(Thread* thread);

void block_sync(const char* name);
void warp_sync(const char* name);
uint32_t shuffle_xor(uint32_t value, int mask);
void check_aligned(const char* what, const void* pointer, size_t bytes);
void copy_async(void* shared, const void* global, size_t bytes);
void copy_async_commit();
void copy_async_wait(int pending);

}  // namespace serpent::cuda::twin
