// Runs the blocks of a launch on CPU threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "../device_types.h"

namespace serpent::cuda::twin {

// Returns when the grid is done. Throws Failure: SERPENT_STATUS_CUDA for sizes that a GPU would refuse,
// SERPENT_STATUS_INTERNAL for what a block did wrong (threads that wait for each other, unaligned accesses).
void run_grid(Index3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel);

// Of the order in which later launches visit their blocks.
void set_seed(uint64_t seed);

}  // namespace serpent::cuda::twin
