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
  buffer.data = static_cast<float*>(address);
  buffer.bytes = bytes;
}

Pool::Pool(const serpent_adapter& calls, serpent_adapter_runtime* runtime, serpent_adapter_engine* engine,
           int32_t capacity, serpent_engine_when_busy when_busy)
    : calls_(calls),
      runtime_(runtime),
      engine_(engine),
      capacity_(static_cast<std::size_t>(capacity)),
      when_busy_(when_busy) {
  // Room for all at once: giving back then never allocates, and cannot fail.
  slots_.reserve(capacity_);
  idle_.reserve(capacity_);
  // The first context shows at once whether the plan can run here.
  slots_.push_back(std::make_unique<Slot>(calls, runtime, engine));
  idle_.push_back(slots_.back().get());
}

Pool::~Pool() {
  std::unique_lock lock(mutex_);
  closing_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return idle_.size() == slots_.size() && waiting_ == 0; });
}

Slot& Pool::take() {
  std::unique_lock lock(mutex_);
  const auto available = [this] { return !idle_.empty() || slots_.size() < capacity_ || closing_; };
  if (!available()) {
    if (when_busy_ == SERPENT_ENGINE_FAIL) {
      fail(SERPENT_ENGINE_BUSY, "all " + std::to_string(capacity_) +
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
  if (idle_.empty()) {
    // Under the lock: TensorRT does not promise that contexts can be made by several threads at once.
    slots_.push_back(std::make_unique<Slot>(calls_, runtime_, engine_));
    return *slots_.back();
  }
  Slot& slot = *idle_.back();  // the one used last, whose memory is most likely large enough
  idle_.pop_back();
  return slot;
}

void Pool::give_back(Slot& slot) noexcept {
  const std::lock_guard lock(mutex_);
  idle_.push_back(&slot);
  changed_.notify_all();
}

Pool::Lease Pool::borrow() { return {*this, take()}; }

}  // namespace serpent::engine
