// The barriers of one block of threads, and what goes wrong with them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../device_types.h"

namespace serpent::cuda::twin {

// Thrown through a kernel once its block has failed; carries nothing, since the block holds the message.
struct Abandoned {};

// A meeting point of a fixed number of threads, again and again.
struct Barrier {
  std::atomic<uint32_t> phase{0};          // counts completed meetings; kFailed is set when the block fails
  std::atomic<uint32_t> arrived{0};        // counts arrivals of all meetings
  std::atomic<const char*> name{nullptr};  // of the meeting in progress, which all who arrive must agree on
};

struct Warp {
  Barrier sync;
  // Shuffles order no memory on a GPU. So they do here: all their accesses are relaxed, and a race between lanes that
  // only a shuffle keeps apart is visible to ThreadSanitizer. A slot holds a lane's value and, above it, the number of
  // the shuffle it belongs to with its mask; two banks, since a lane may be one shuffle ahead of another.
  Barrier shuffle;
  std::atomic<uint64_t> slots[2][kWarpThreads]{};
};

class Block {
 public:
  Block(Index3 index, unsigned threads, size_t shared_bytes);

  // Each throws Abandoned when the block has failed, on this thread or another.
  void block_sync(unsigned thread, const char* name);
  void warp_sync(unsigned thread, const char* name);
  uint32_t shuffle_xor(unsigned thread, uint32_t& count, uint32_t value, int mask);

  void leave(unsigned thread);  // the kernel has returned on this thread
  [[noreturn]] void fail(const std::string& message);

  Index3 index() const { return index_; }
  unsigned threads() const { return threads_; }
  unsigned char* shared() const { return shared_.get(); }
  size_t shared_bytes() const { return shared_bytes_; }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  const std::string& message() const { return message_; }  // once every thread has left or been abandoned

 private:
  void meet(Barrier& barrier, uint32_t members, unsigned thread, const char* place, bool orders_memory);
  void stop_running();
  std::string whereabouts() const;

  struct AlignedDelete {
    void operator()(unsigned char* bytes) const;
  };

  Index3 index_;
  unsigned threads_;
  size_t shared_bytes_;
  std::unique_ptr<unsigned char, AlignedDelete> shared_;
  Barrier barrier_;
  std::vector<Warp> warps_;
  std::vector<std::atomic<const char*>> places_;  // where each thread waits; null while it runs
  std::atomic<uint32_t> running_;                 // threads that neither wait nor have left
  std::atomic<bool> failed_{false};
  std::string message_;
};

}  // namespace serpent::cuda::twin
