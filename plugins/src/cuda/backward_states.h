// States and adjoints at the borders of chunks.
//
// h runs forward, h' = a h + b, and so does not know what follows; the adjoint runs back, with e = a g,
// g = C grad_y + e' of the next token. Both are linear in what enters the chunk, so each chunk computes both from
// zero in one walk, and backward_carry.h links the chunks.
#pragma once

#include "backward_tokens.h"

namespace serpent::cuda {

constexpr int kMaxStateThreads = 352;  // 11 warps of 6 states

template <class T>
SERPENT_KERNEL(kMaxStateThreads, 1)
void backward_states(const BackwardArguments<T> arguments) {
  auto rest = static_cast<int>(block_index().x);
  const int tile = rest % arguments.tiles;
  rest /= arguments.tiles;
  const bool reversed = rest % 2 == 1;
  const int chunk = rest / 2;
  const int direction = arguments.pair + (reversed ? 2 : 0);
  const Lane me(arguments, tile);
  const BackwardShared shared(shared_memory(), me.warps, arguments.ranks);

  float rate[kStates];
  me.read_rates(arguments, direction, rate);
  if (thread_index() == 0) {
    *shared.pixels = ChunkPixels(arguments, chunk);
  }
  stage_weight(arguments, shared, me, direction);
  SERPENT_BLOCK_SYNC(state_weight_staged);

  float h[kStates] = {};
  float e[kStates] = {};
  float decay[kStates];  // of the tokens so far
  SERPENT_UNROLL
  for (int i = 0; i < kStates; ++i) {
    decay[i] = 1;
  }
  float dt_sum = 0;
  for (int first = 0; first < shared.pixels->count; first += kSubtile) {
    stage_tokens<true>(arguments, shared, me, direction, first);
    SERPENT_BLOCK_SYNC(state_tokens_staged);
    SERPENT_UNROLL
    for (int t = 0; t < kSubtile; ++t) {
      const float dt = shared.tile->dt[t][me.lane];
      const float dt_x = dt * shared.tile->x[t][me.lane];
      const float grad_y = shared.tile->grad_y[t][me.lane];
      const Projections token = shared.projections[me.warp * kSubtile + t];
      dt_sum += dt;
      SERPENT_UNROLL
      for (int i = 0; i < kStates; ++i) {
        const float a = exp2_fast(dt * rate[i]);
        h[i] = fma(a, h[i], dt_x * token.B[i]);
        decay[i] *= a;
        e[i] = fma(decay[i], token.C[i] * grad_y, e[i]);
      }
    }
    SERPENT_BLOCK_SYNC(state_tokens_read);
  }

  float* record = arguments.record(reversed, chunk, tile);
  me.write(e, record);
  me.write(h, record + arguments.states * kLanes);
  if (me.warp == 0) {
    record[2 * arguments.states * kLanes + me.lane] = dt_sum;
  }
}

}  // namespace serpent::cuda
