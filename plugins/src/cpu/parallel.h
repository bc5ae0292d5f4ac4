// Runs independent tasks on the calling thread and a few more.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace serpent {

// Calls task(i), or task(i, worker) with worker in [0, threads), once for every i in [0, count). Tasks must not throw.
// No two tasks with equal `worker` run at once. Where the system refuses a thread, the ones that did start do the work.
template <class Task>
void parallel_for(int64_t count, int64_t threads, const Task& task) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t worker) noexcept {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      if constexpr (std::is_invocable_v<const Task&, int64_t, int64_t>) {
        task(i, worker);
      } else {
        task(i);
      }
    }
  };
  const int64_t extra = (threads < count ? threads : count) - 1;
  std::vector<std::thread> pool;
  pool.reserve(extra > 0 ? static_cast<size_t>(extra) : 0);
  for (int64_t i = 0; i < extra; ++i) {
    try {
      pool.emplace_back(work, i + 1);
    } catch (...) {  // anything else would end the process, with the threads that did start
      break;
    }
  }
  work(0);
  for (std::thread& thread : pool) {
    thread.join();
  }
}

}  // namespace serpent
