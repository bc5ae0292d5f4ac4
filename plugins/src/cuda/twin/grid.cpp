#include "grid.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "failure.h"
#include "futex.h"
#include "thread.h"

namespace serpent::cuda::twin {
namespace {

// Two teams take the blocks of the shuffled order in turn, and nothing orders one team's memory with the other's:
// ThreadSanitizer sees it if two blocks touch the same place. Within a team no thread waits for a block's end either.
constexpr unsigned kTeams = 2;

struct Launch {
  Index3 grid;
  unsigned threads;
  const std::function<void()>* kernel;
  std::deque<Block> blocks;  // in the order of their execution
};

void run_share(const Launch& launch, std::deque<Block>& blocks, unsigned worker) {
  const unsigned team = worker / launch.threads;
  for (size_t i = team; i < blocks.size(); i += kTeams) {
    Block& block = blocks[i];
    // A CPU thread is another thread of each block: what thread t of one block does is not ordered before what
    // thread t of the next does.
    const auto index = static_cast<unsigned>((worker + i / kTeams * 7) % launch.threads);
    Thread thread{.block = &block,
                  .shared = block.shared(),
                  .block_index = block.index(),
                  .grid_size = launch.grid,
                  .index = index,
                  .block_size = launch.threads};
    set_current(&thread);
    try {
      (*launch.kernel)();
      block.leave(index);
    } catch (const Abandoned&) {  // the block keeps the message; the team's other blocks still need this thread
    }
  }
}

// CPU threads that live as long as the process: starting them costs more than a small launch.
class Pool {
 public:
  ~Pool() {
    launch_ = nullptr;
    for (Worker& worker : workers_) {
      call(worker);
      worker.thread.join();
    }
  }

  void run(Launch& launch, unsigned needed) {
    const std::lock_guard lock(mutex_);
    while (workers_.size() < needed) {
      Worker& worker = workers_.emplace_back();
      worker.thread = std::thread(&Pool::work, this, &worker, static_cast<unsigned>(workers_.size() - 1));
    }
    launch_ = &launch;
    busy_.store(needed, std::memory_order_relaxed);
    for (unsigned i = 0; i < needed; ++i) {
      call(workers_[i]);
    }
    uint32_t busy = busy_.load(std::memory_order_acquire);
    while (busy != 0) {
      sleep_while(busy_, busy);
      busy = busy_.load(std::memory_order_acquire);
    }
  }

 private:
  struct Worker {
    std::thread thread;
    std::atomic<uint32_t> calls{0};
  };

  static void call(Worker& worker) {
    worker.calls.fetch_add(1, std::memory_order_release);
    wake_all(worker.calls);
  }

  void work(const Worker* self, unsigned index) {
    for (uint32_t done = 0;; ++done) {
      while (self->calls.load(std::memory_order_acquire) == done) {
        sleep_while(self->calls, done);
      }
      if (launch_ == nullptr) {
        return;
      }
      run_share(*launch_, launch_->blocks, index);
      if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        wake_all(busy_);
      }
    }
  }

  std::mutex mutex_;
  std::deque<Worker> workers_;
  Launch* launch_ = nullptr;
  std::atomic<uint32_t> busy_{0};
};

std::atomic<uint64_t> shuffle_seed{0};

void check_range(const char* name, uint64_t value, uint64_t low, uint64_t high) {
  if (value < low || value > high) {
    fail(SERPENT_STATUS_CUDA, std::string("launch: ") + name + " is " + std::to_string(value) + "; expected " +
                                  std::to_string(low) + " .. " + std::to_string(high));
  }
}

}  // namespace

void set_seed(uint64_t seed) { shuffle_seed = seed; }

void run_grid(Index3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel) {
  check_range("grid.x", grid.x, 1, 0x7fffffff);
  check_range("grid.y", grid.y, 1, 65535);
  check_range("grid.z", grid.z, 1, 65535);
  check_range("threads", threads, 1, 1024);
  check_range("threads modulo 32", threads % kWarpThreads, 0, 0);
  check_range("shared_bytes", shared_bytes, 0, kMaxSharedBytes);

  std::vector<Index3> order;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        order.push_back({x, y, z});
      }
    }
  }
  std::mt19937_64 generator(shuffle_seed);
  std::shuffle(order.begin(), order.end(), generator);

  Launch launch{grid, threads, &kernel, {}};
  for (const Index3& index : order) {
    launch.blocks.emplace_back(index, threads, shared_bytes);
  }
  static Pool pool;
  pool.run(launch, threads * static_cast<unsigned>(std::min<size_t>(kTeams, order.size())));
  for (const Block& block : launch.blocks) {
    if (block.failed()) {
      fail(SERPENT_STATUS_INTERNAL, block.message());
    }
  }
}

}  // namespace serpent::cuda::twin
