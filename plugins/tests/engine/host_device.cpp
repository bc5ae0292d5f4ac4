#include "host_device.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace standin {

void* Memory::allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* address = std::aligned_alloc(kAlignment, rounded);
  if (address != nullptr) {
    std::memset(address, 0xFF, rounded);  // NaN in every float
    const std::lock_guard lock(mutex_);
    sizes_[reinterpret_cast<uintptr_t>(address)] = bytes;
  }
  return address;
}

void Memory::release(void* address) {
  {
    const std::lock_guard lock(mutex_);
    sizes_.erase(reinterpret_cast<uintptr_t>(address));
  }
  std::free(address);
}

bool Memory::holds(const void* address, std::size_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(address);
  const std::lock_guard lock(mutex_);
  auto next = sizes_.upper_bound(first);
  if (next == sizes_.begin()) {
    return false;
  }
  const auto& [start, size] = *--next;
  return first + bytes <= start + size;
}

std::size_t Memory::count() {
  const std::lock_guard lock(mutex_);
  return sizes_.size();
}

void Mark::reach() {
  const std::lock_guard lock(mutex_);
  is_reached_ = true;
  reached_.notify_all();
}

void Mark::wait() {
  std::unique_lock lock(mutex_);
  reached_.wait(lock, [this] { return is_reached_; });
}

Stream::Stream() : thread_([this] { work(); }) {}

Stream::~Stream() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Stream::push(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

void Stream::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return tasks_.empty() && !busy_; });
}

void Stream::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !tasks_.empty() || ending_; });
    if (tasks_.empty()) {
      return;
    }
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

Stream& Device::stream(void* handle) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Stream>& found = streams_[handle];
  if (found == nullptr) {
    found = std::make_unique<Stream>();
  }
  return *found;
}

Device& device() {
  // Never destroyed: joining threads while the process ends invites deadlocks, and their memory goes with it.
  static Device* const the_device = new Device;
  return *the_device;
}

}  // namespace standin
