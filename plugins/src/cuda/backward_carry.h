// Links the chunks of each sequence: replaces what each chunk adds to the state and to the adjoint by what enters it.
#pragma once

#include "backward_tokens.h"

namespace serpent::cuda {

constexpr int kMaxCarryWarps = 16;
constexpr int kCarryAhead = 8;  // chunks whose numbers are asked for at once

// One state of one channel under one direction.
struct ChunkSequence {
  const float* dt_sum;  // of the first chunk that the direction meets; the others follow at `stride`
  int64_t stride;
  float rate;

  // Calls body(decay, value, place) for chunks begin .. end - 1, or back from end - 1, with a chunk's decay, its
  // number among `values` and where that lies.
  template <bool back, class Body>
  SERPENT_DEVICE void walk(float* values, int begin, int end, const Body& body) const {
    const int count = end - begin;
    for (int done = 0; done < count; done += kCarryAhead) {
      float decay[kCarryAhead];
      float value[kCarryAhead];
      float* place[kCarryAhead];
      SERPENT_UNROLL
      for (int i = 0; i < kCarryAhead; ++i) {
        if (done + i < count) {
          const int64_t offset = (back ? end - 1 - done - i : begin + done + i) * stride;
          place[i] = values + offset;
          decay[i] = exp2_fast(rate * dt_sum[offset]);
          value[i] = *place[i];
        }
      }
      SERPENT_UNROLL
      for (int i = 0; i < kCarryAhead; ++i) {
        if (done + i < count) {
          body(decay[i], value[i], place[i]);
        }
      }
    }
  }
};

// A block has the 32 channels of a tile, and gives each warp a run of neighbouring chunks: it sums its run from zero,
// then learns from the runs before (state) and after it (adjoint) what enters it, and walks it once more.
SERPENT_KERNEL(kMaxCarryWarps* kLanes, 1)
void backward_carry(const BackwardSizes sizes) {
  auto rest = static_cast<int>(block_index().x);
  const int state = rest % sizes.states;
  rest /= sizes.states;
  const int tile = rest % sizes.tiles;
  rest /= sizes.tiles;
  const bool reversed = rest % 2 == 1;
  const int image = rest / 2;
  const int direction = sizes.pair + (reversed ? 2 : 0);
  const Lane me(sizes, tile);

  float* record = sizes.record(reversed, image * sizes.chunks + (reversed ? sizes.chunks - 1 : 0), tile) + me.lane;
  float* adjoints = record + state * kLanes;
  float* states = record + (sizes.states + state) * kLanes;
  const int64_t row = (direction * sizes.channels + me.channel) * sizes.states + state;
  const ChunkSequence chunks{record + 2 * sizes.states * kLanes,
                             (reversed ? -1 : 1) * static_cast<int64_t>(sizes.tiles) * sizes.record_rows() * kLanes,
                             me.present ? kLog2OfE * load(sizes.A + row) : 0.0F};
  const int length = (sizes.chunks + me.warps - 1) / me.warps;
  const int begin = me.warp * length < sizes.chunks ? me.warp * length : sizes.chunks;
  const int end = begin + length < sizes.chunks ? begin + length : sizes.chunks;

  float h = 0;
  float e = 0;
  float decays = 1;
  chunks.walk<false>(states, begin, end, [&](float decay, float value, float*) {
    h = fma(decay, h, value);
    decays *= decay;
  });
  chunks.walk<true>(adjoints, begin, end, [&](float decay, float value, float*) { e = fma(decay, e, value); });
  auto* runs = reinterpret_cast<float (*)[3][kLanes]>(shared_memory());
  runs[me.warp][0][me.lane] = h;
  runs[me.warp][1][me.lane] = e;
  runs[me.warp][2][me.lane] = decays;
  SERPENT_BLOCK_SYNC(carry_runs_summed);

  h = 0;
  for (int run = 0; run < me.warp; ++run) {
    h = fma(runs[run][2][me.lane], h, runs[run][0][me.lane]);
  }
  e = 0;
  for (int run = me.warps - 1; run > me.warp; --run) {
    e = fma(runs[run][2][me.lane], e, runs[run][1][me.lane]);
  }
  chunks.walk<false>(states, begin, end, [&](float decay, float value, float* place) {
    *place = h;
    h = fma(decay, h, value);
  });
  chunks.walk<true>(adjoints, begin, end, [&](float decay, float value, float* place) {
    *place = e;
    e = fma(decay, e, value);
  });
}

}  // namespace serpent::cuda
