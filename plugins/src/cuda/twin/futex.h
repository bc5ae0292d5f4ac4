// Sleeping on a 32-bit word. std::atomic::wait would do, but for what it does around the word: its bookkeeping orders
// memory between unrelated threads, so ThreadSanitizer would not see a race that a missing barrier leaves.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace serpent::cuda::twin {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

// Returns at once unless `word` holds `seen`; may return early, so callers look at the word again.
inline void sleep_while(const std::atomic<uint32_t>& word, uint32_t seen) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

inline void wake_all(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace serpent::cuda::twin
