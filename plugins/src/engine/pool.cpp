#include "pool.h"

#include <string>
#include <utility>

#include "failure.h"

namespace serpent::engine {

Slot::Slot(const serpent_adapter& calls, serpent_adapter_runtime* runtime, serpent_adapter_engine* engine)
    : calls_(calls), runtime_(runtime) {
  call(calls.create_context, engine, &context);
  try {
    call(calls.create_event, runtime, &done);
  } catch (...) {
    release();
    throw;
  }
}

Slot::~Slot() { release(); }

void Slot::release() noexcept {
  if (done != nullptr) {
    // Where even waiting fails the device is lost, and there is nothing left to wait for.
    (void)calls_.finish_event(runtime_, done, nullptr);
  }
  for (const Buffer* buffer : {&image, &restored}) {
    if (buffer->data != nullptr) {
      calls_.release(runtime_, buffer->data);
    }
  }
  if (done != nullptr) {
    calls_.destroy_event(runtime_, done);
  }
  if (context != nullptr) {
    calls_.destroy_context(context);
  }
}

void Slot::reserve(Buffer& buffer, uint64_t bytes) {
  if (buffer.bytes >= bytes) {
    return;
  }
  if (buffer.data != nullptr) {
    call(calls_.finish_event, runtime_, done);  // the last run may still be using it
    calls_.release(runtime_, std::exchange(buffer.data, nullptr));
    buffer.bytes = 0;
  }
  void* address = nullptr;
  call(calls_.allocate, runtime_, bytes, &address);
  buffer.data = static_cast<char*>(address);
  buffer.bytes = bytes;
}

Pool::Pool(const serpent_adapter& calls, serpent_adapter_runtime* runtime, serpent_adapter_engine* engine,
           int32_t capacity, serpent_engine_when_busy when_busy)
    : calls_(calls),
      runtime_(runtime),
      engine_(engine),
      capacity_(static_cast<std::size_t>(capacity)),
      when_busy_(when_busy) {
  idle_.reserve(capacity_);  // room for all: giving back then never allocates, and cannot fail
  // The first context shows at once whether the plan can run here.
  idle_.push_back(std::make_unique<Slot>(calls, runtime, engine));
  slots_ = 1;
}

Pool::~Pool() {
  std::unique_lock lock(mutex_);
  closing_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return idle_.size() == slots_ && waiting_ == 0; });
}

std::unique_ptr<Slot> Pool::take() {
  {
    std::unique_lock lock(mutex_);
    const auto available = [this] { return !idle_.empty() || slots_ < capacity_ || closing_; };
    if (!available()) {
      if (when_busy_ == SERPENT_ENGINE_FAIL) {
        fail(SERPENT_ENGINE_BUSY,
             "all " + std::to_string(capacity_) +
                 " contexts of the engine are in use; open it with more contexts, or let runs wait");
      }
      ++waiting_;
      changed_.wait(lock, available);
      --waiting_;
    }
    if (closing_) {
      changed_.notify_all();
      fail(SERPENT_ENGINE_INVALID_ARGUMENT, "the engine was closed while this run waited for a context");
    }
    if (!idle_.empty()) {
      std::unique_ptr<Slot> slot = std::move(idle_.back());  // the one used last: its memory is most likely enough
      idle_.pop_back();
      return slot;
    }
    ++slots_;
  }
  // Outside the lock, since it takes time; TensorRT lets several threads make contexts of an engine at once.
  try {
    return std::make_unique<Slot>(calls_, runtime_, engine_);
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void Pool::give_back(std::unique_ptr<Slot> slot) noexcept {
  const std::lock_guard lock(mutex_);
  if (slot != nullptr) {
    idle_.push_back(std::move(slot));
  } else {
    --slots_;
  }
  changed_.notify_all();
}

Pool::Lease Pool::borrow() { return {*this, take()}; }

}  // namespace serpent::engine
