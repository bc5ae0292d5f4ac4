#include <algorithm>

#include "scan_carry.h"
#include "scan_math.h"

namespace serpent::cuda {
namespace {

constexpr int kMaxSegments = 16;
constexpr int kAhead = 8;  // chunks read before their turn: the recurrence is short, and memory far

// One state of one channel, for one picture and direction, over the chunks in the order of the direction.
struct Chain {
  float* states;
  const float* dt_sums;
  int64_t chunks, state_stride, sum_stride;  // strides from chunk to chunk
  float rate;

  SERPENT_DEVICE Chain(const ScanSizes& sizes, int64_t picture, int direction, int64_t element) {
    const int64_t channel = element % sizes.channels;
    const int64_t n = element / sizes.channels;
    const bool reversed = direction >= 2;
    const int64_t record = sizes.record(picture, direction, reversed ? sizes.chunks - 1 : 0);
    chunks = sizes.chunks;
    state_stride = (reversed ? -1 : 1) * sizes.states * sizes.channels;
    sum_stride = (reversed ? -1 : 1) * sizes.channels;
    states = sizes.chunk_states + record * sizes.states * sizes.channels + element;
    dt_sums = sizes.dt_sums + record * sizes.channels + channel;
    rate = kLog2OfE * load(sizes.A + (direction * sizes.channels + channel) * sizes.states + n);
  }

  // Takes h from before chunk `first` to before chunk `end`; adds up dt. With kWrite each chunk is left what enters it.
  template <bool kWrite>
  SERPENT_DEVICE void walk(int64_t first, int64_t end, float& h, float& dt_sum) const {
    for (int64_t base = first; base < end; base += kAhead) {
      float left[kAhead], dt[kAhead];
      SERPENT_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int64_t chunk = base + i;
        const bool read = chunk < end && chunk < chunks - 1;
        left[i] = read ? states[chunk * state_stride] : 0.0F;
        dt[i] = read ? dt_sums[chunk * sum_stride] : 0.0F;
      }
      SERPENT_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int64_t chunk = base + i;
        if (kWrite && chunk < end) {
          states[chunk * state_stride] = h;
        }
        h = fma(exp2_fast(dt[i] * rate), h, left[i]);
        dt_sum += dt[i];
      }
    }
  }
};

// A lane has one state of one channel; each warp has one segment of the chunks. Segments are summed up first, all at
// once, and then walked from what enters them.
SERPENT_KERNEL(kMaxSegments* kWarpThreads, 1)
void scan_carry(const ScanSizes sizes) {
  struct Segment {
    float h[kWarpThreads];
    float dt_sum[kWarpThreads];
  };
  auto* shared = reinterpret_cast<Segment*>(shared_memory());
  const int64_t elements = static_cast<int64_t>(sizes.states) * sizes.channels;
  const int64_t groups = (elements + kWarpThreads - 1) / kWarpThreads;
  int64_t rest = folded_block();
  const int lane = static_cast<int>(thread_index() % kWarpThreads);
  const int segment = static_cast<int>(thread_index() / kWarpThreads);
  const int segments = static_cast<int>(block_size() / kWarpThreads);
  const int64_t element = rest % groups * kWarpThreads + lane;
  rest /= groups;
  if (rest >= 4 * sizes.batch) {
    return;
  }
  const bool present = element < elements;
  const Chain chain(sizes, rest / 4, static_cast<int>(rest % 4), present ? element : 0);
  const int64_t length = (sizes.chunks + segments - 1) / segments;
  const int64_t first = segment * length < sizes.chunks ? segment * length : sizes.chunks;
  const int64_t end = first + length < sizes.chunks ? first + length : sizes.chunks;

  float h = 0;
  float dt_sum = 0;
  if (segments > 1) {
    if (present) {
      chain.walk<false>(first, end, h, dt_sum);
    }
    shared[segment].h[lane] = h;
    shared[segment].dt_sum[lane] = dt_sum;
    SERPENT_BLOCK_SYNC(segments_summed);
    h = 0;
    for (int i = 0; i < segment; ++i) {
      h = fma(exp2_fast(shared[i].dt_sum[lane] * chain.rate), h, shared[i].h[lane]);
    }
  }
  if (present) {
    chain.walk<true>(first, end, h, dt_sum);
  }
}

}  // namespace

void launch_scan_carry(const ScanSizes& sizes, void* stream) {
  const int64_t elements = static_cast<int64_t>(sizes.states) * sizes.channels;
  const int64_t blocks = 4 * sizes.batch * ((elements + kWarpThreads - 1) / kWarpThreads);
  const auto segments = static_cast<unsigned>(std::clamp<int64_t>(sizes.chunks / (2 * kAhead), 1, kMaxSegments));
  launch(scan_carry, folded_grid(blocks), segments * kWarpThreads, segments * 2 * kWarpThreads * sizeof(float), stream,
         sizes);
}

}  // namespace serpent::cuda
