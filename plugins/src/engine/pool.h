// The execution contexts of an engine: made when first needed, lent to one run at a time.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "adapter.h"
#include "transfer.h"

namespace serpent::engine {

// A context and what belongs to it. `done` is reached when the device has finished the last run.
class Slot {
 public:
  Slot(const serpent_adapter& calls, serpent_adapter_runtime* runtime, serpent_adapter_engine* engine);
  ~Slot();
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  // Device memory for one tensor, kept between runs and never shrunk.
  struct Buffer {
    char* data = nullptr;
    uint64_t bytes = 0;
  };

  // Gives `buffer` at least `bytes`.
  void reserve(Buffer& buffer, uint64_t bytes);

  serpent_adapter_context* context = nullptr;
  serpent_adapter_event* done = nullptr;
  Shape shape = {};  // the context's, of the last run
  Buffer image;
  Buffer restored;

 private:
  void release() noexcept;

  const serpent_adapter& calls_;
  serpent_adapter_runtime* runtime_;
};

class Pool {
 public:
  Pool(const serpent_adapter& calls, serpent_adapter_runtime* runtime, serpent_adapter_engine* engine, int32_t capacity,
       serpent_engine_when_busy when_busy);
  // Turns waiting runs away, waits for those under way, on the device too, and destroys the contexts.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Gives its slot back at the end of its life.
  class Lease {
   public:
    Lease(Pool& pool, std::unique_ptr<Slot> slot) : pool_(pool), slot_(std::move(slot)) {}
    ~Lease() { pool_.give_back(std::move(slot_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Slot* operator->() const { return slot_.get(); }
    Slot& operator*() const { return *slot_; }

    // After a failed run: nobody says what state it left the context in.
    void discard() noexcept { slot_.reset(); }

   private:
    Pool& pool_;
    std::unique_ptr<Slot> slot_;
  };

  // Fails with SERPENT_ENGINE_BUSY where all are lent and the pool does not wait, and as making a context does.
  Lease borrow();

 private:
  std::unique_ptr<Slot> take();
  void give_back(std::unique_ptr<Slot> slot) noexcept;

  const serpent_adapter& calls_;
  serpent_adapter_runtime* runtime_;
  serpent_adapter_engine* engine_;
  const std::size_t capacity_;
  const serpent_engine_when_busy when_busy_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Slot>> idle_;
  std::size_t slots_ = 0;  // idle, lent, and being made
  int waiting_ = 0;
  bool closing_ = false;
};

}  // namespace serpent::engine
