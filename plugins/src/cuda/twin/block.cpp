#include "block.h"

#include <cstring>
#include <new>

#include "futex.h"

namespace serpent::cuda::twin {
namespace {

constexpr uint32_t kFailed = 1U << 31;
constexpr std::align_val_t kSharedAlignment{16};
constexpr const char* kLeft = "has left the kernel";
constexpr const char* kShuffle = "a shuffle";

}  // namespace

void Block::AlignedDelete::operator()(unsigned char* bytes) const { operator delete(bytes, kSharedAlignment); }

// Shared memory has exactly the launch's size, so that AddressSanitizer sees an access past it, and starts as NaN.
Block::Block(Index3 index, unsigned threads, size_t shared_bytes)
    : index_(index),
      threads_(threads),
      shared_bytes_(shared_bytes),
      shared_(static_cast<unsigned char*>(operator new(shared_bytes, kSharedAlignment))),
      warps_(threads / kWarpThreads),
      places_(threads),
      running_(threads) {
  std::memset(shared_.get(), 0xff, shared_bytes);
}

void Block::block_sync(unsigned thread, const char* name) { meet(barrier_, threads_, thread, name, true); }

void Block::warp_sync(unsigned thread, const char* name) {
  meet(warps_[thread / kWarpThreads].sync, kWarpThreads, thread, name, true);
}

uint32_t Block::shuffle_xor(unsigned thread, uint32_t& count, uint32_t value, int mask) {
  const unsigned lane = (thread % kWarpThreads) ^ static_cast<unsigned>(mask);
  if (lane >= kWarpThreads) {
    fail("a shuffle with mask " + std::to_string(mask) + "; expected 0 .. 31");
  }
  Warp& warp = warps_[thread / kWarpThreads];
  auto& slots = warp.slots[count % 2];
  ++count;
  const uint64_t tag = uint64_t{count} << 5 | static_cast<uint64_t>(mask);
  slots[thread % kWarpThreads].store(tag << 32 | value, std::memory_order_relaxed);
  meet(warp.shuffle, kWarpThreads, thread, kShuffle, false);
  const auto published = [&](unsigned source) {
    uint64_t slot = slots[source].load(std::memory_order_relaxed);
    while (slot >> 37 != count) {  // stored before the meeting, yet perhaps not visible here: nothing is ordered
      slot = slots[source].load(std::memory_order_relaxed);
    }
    if (slot >> 32 != tag) {
      fail("lanes of one warp take part in different shuffles");
    }
    return slot;
  };
  published((thread + 1) % kWarpThreads);  // each lane looks at one other, and so all at all
  return static_cast<uint32_t>(published(lane));
}

// A thread that has arrived and must wait stops running; the last to arrive sets all of them running again. Its own
// count never falls to zero meanwhile, so a count of zero means that nobody is left to complete any meeting.
void Block::meet(Barrier& barrier, uint32_t members, unsigned thread, const char* place, bool orders_memory) {
  const auto order = [&](std::memory_order ordered) { return orders_memory ? ordered : std::memory_order_relaxed; };
  const uint32_t phase = barrier.phase.load(std::memory_order_relaxed);
  if ((phase & kFailed) != 0) {
    throw Abandoned{};
  }
  const char* first = nullptr;
  if (!barrier.name.compare_exchange_strong(first, place, std::memory_order_relaxed) &&
      std::strcmp(first, place) != 0) {
    fail(std::string("threads meet at different barriers, ") + first + " and " + place);
  }
  places_[thread].store(place, std::memory_order_relaxed);
  if (barrier.arrived.fetch_add(1, order(std::memory_order_acq_rel)) % members == members - 1) {
    running_.fetch_add(members - 1, std::memory_order_relaxed);
    places_[thread].store(nullptr, std::memory_order_relaxed);
    barrier.name.store(nullptr, std::memory_order_relaxed);
    barrier.phase.fetch_add(1, order(std::memory_order_release));
    wake_all(barrier.phase);
    return;
  }
  stop_running();
  uint32_t seen = barrier.phase.load(order(std::memory_order_acquire));
  while (seen == phase) {
    sleep_while(barrier.phase, phase);
    seen = barrier.phase.load(order(std::memory_order_acquire));
  }
  if ((seen & kFailed) != 0) {
    throw Abandoned{};
  }
  places_[thread].store(nullptr, std::memory_order_relaxed);
}

void Block::leave(unsigned thread) {
  places_[thread].store(kLeft, std::memory_order_relaxed);
  stop_running();
}

void Block::stop_running() {
  if (running_.fetch_sub(1, std::memory_order_relaxed) != 1) {
    return;
  }
  for (const auto& place : places_) {
    if (place.load(std::memory_order_relaxed) != kLeft) {
      fail("threads wait for each other: " + whereabouts());
    }
  }
}

void Block::fail(const std::string& message) {
  if (!failed_.exchange(true, std::memory_order_relaxed)) {
    message_ = "block (" + std::to_string(index_.x) + ", " + std::to_string(index_.y) + ", " +
               std::to_string(index_.z) + "): " + message;
  }
  const auto stop = [](Barrier& barrier) {
    barrier.phase.fetch_or(kFailed, std::memory_order_relaxed);
    wake_all(barrier.phase);
  };
  stop(barrier_);
  for (Warp& warp : warps_) {
    stop(warp.sync);
    stop(warp.shuffle);
  }
  throw Abandoned{};
}

// The first thread at each place.
std::string Block::whereabouts() const {
  std::string text;
  std::vector<const char*> listed;
  for (unsigned thread = 0; thread < threads_; ++thread) {
    const char* place = places_[thread].load(std::memory_order_relaxed);
    bool known = place == nullptr;
    for (const char* other : listed) {
      known = known || std::strcmp(other, place) == 0;
    }
    if (!known) {
      listed.push_back(place);
      text += text.empty() ? "" : ", ";
      text += "thread " + std::to_string(thread) + (place == kLeft ? " " : " waits at ") + place;
    }
  }
  return text;
}

}  // namespace serpent::cuda::twin
