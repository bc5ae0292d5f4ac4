#include "misuse.h"

#include <map>

#include "cuda/device.h"
#include "failure.h"

namespace twin_test {
namespace {

using namespace serpent::cuda;

constexpr unsigned kThreads = 64;
constexpr size_t kShared = 1024;

SERPENT_KERNEL(kThreads, 1) void leave_before_a_barrier() {
  if (thread_index() == 5) {
    return;
  }
  SERPENT_BLOCK_SYNC(after_one_left);
}

SERPENT_KERNEL(kThreads, 1) void meet_at_two_barriers() {
  if (thread_index() < 40) {
    SERPENT_BLOCK_SYNC(here);
  } else {
    SERPENT_BLOCK_SYNC(there);
  }
}

SERPENT_KERNEL(kThreads, 1) void shuffle_with_half_a_warp() {
  if (thread_index() % 2 == 0) {
    shuffle_xor(1.0F, 2);
  }
  SERPENT_BLOCK_SYNC(after_half_a_warp);
}

SERPENT_KERNEL(kThreads, 1) void shuffle_differently() { shuffle_xor(1.0F, thread_index() % 2 == 0 ? 2 : 4); }

SERPENT_KERNEL(kThreads, 1) void shuffle_beyond_the_warp() { shuffle_xor(1.0F, 32); }

SERPENT_KERNEL(kThreads, 1) void copy_unaligned() { copy_async<16>(shared_memory() + 4, shared_memory() + 512); }

SERPENT_KERNEL(kThreads, 1) void nothing() {}

using Kernel = void (*)();

// Where a kernel stands for its sizes: the launch itself is refused.
const std::map<std::string, Kernel> kKernels = {
    {"leave-before-a-barrier", leave_before_a_barrier},     {"meet-at-two-barriers", meet_at_two_barriers},
    {"shuffle-with-half-a-warp", shuffle_with_half_a_warp}, {"shuffle-differently", shuffle_differently},
    {"shuffle-beyond-the-warp", shuffle_beyond_the_warp},   {"copy-unaligned", copy_unaligned},
};

}  // namespace

void run_misuse(const std::string& name) {
  if (name == "too-many-blocks") {
    launch(nothing, {1, 65536, 1}, kThreads, 0, nullptr);
  } else if (name == "part-of-a-warp") {
    launch(nothing, {1, 1, 1}, 48, 0, nullptr);
  } else if (name == "too-much-shared-memory") {
    launch(nothing, {1, 1, 1}, kThreads, kMaxSharedBytes + 1, nullptr);
  } else if (const auto found = kKernels.find(name); found != kKernels.end()) {
    launch(found->second, {3, 1, 1}, kThreads, kShared, nullptr);
  } else {
    serpent::fail(SERPENT_STATUS_INVALID_ARGUMENT, "no misuse is called " + name);
  }
}

}  // namespace twin_test
