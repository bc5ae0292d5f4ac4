// One thread's walks over the tokens of a sub-tile, and the sums over the 32 channels of a warp.
#pragma once

#include "backward_tokens.h"

namespace serpent::cuda {

// Lanes with bit `mask` set end with the sum of `high` over both lanes of a pair, the others with that of `low`: two
// values take one shuffle and become one.
SERPENT_DEVICE float merge(float low, float high, int mask, int lane) {
  const bool upper = (lane & mask) != 0;
  const float kept = upper ? high : low;
  const float given = upper ? low : high;
  return kept + shuffle_xor(given, mask);
}

// Sums over the channels of a warp, for the 2 kStates values of each of 8 tokens: 96 = 3 * 32 sums, 3 of which end in
// each lane. Tokens come in falling order, their number known at compile time once the loop over them is unrolled.
struct ChannelSums {
  static constexpr int kPairs = kStates / 2;
  static_assert(kStates == 6 && kSubtile == 8);
  float odd[kPairs] = {};  // of the last odd token, until the even one before it comes; and so on
  float upper_half[kPairs] = {};
  float upper[kPairs] = {};
  float total[kPairs] = {};

  SERPENT_DEVICE void add(int token, const float (&grad_B)[kStates], const float (&grad_C)[kStates], int lane) {
    SERPENT_UNROLL
    for (int j = 0; j < kPairs; ++j) {
      const float even_state = merge(grad_B[2 * j], grad_C[2 * j], 1, lane);
      const float odd_state = merge(grad_B[2 * j + 1], grad_C[2 * j + 1], 1, lane);
      float value = merge(even_state, odd_state, 2, lane);
      if (token % 2 == 1) {
        odd[j] = value;
        continue;
      }
      value = merge(value, odd[j], 4, lane);
      if (token % 4 == 2) {
        upper_half[j] = value;
        continue;
      }
      value = merge(value, upper_half[j], 8, lane);
      if (token == 4) {
        upper[j] = value;
      } else {
        total[j] = merge(value, upper[j], 16, lane);
      }
    }
  }

  // What total[j] of a lane is the sum of: dL/dC or dL/dB of a state of its warp, at a token.
  SERPENT_DEVICE static int token(int lane) { return lane / 4; }
  SERPENT_DEVICE static int state(int lane, int j) { return 2 * j + lane / 2 % 2; }
  SERPENT_DEVICE static bool is_C(int lane) { return lane % 2 == 1; }
};

// Takes the state h from before the sub-tile to after it.
SERPENT_DEVICE void walk_forward(const BackwardShared& shared, const Lane& me, const float (&rate)[kStates],
                                 float (&h)[kStates]) {
  SERPENT_UNROLL
  for (int t = 0; t < kSubtile; ++t) {
    const float dt = shared.tile->dt[t][me.lane];
    const float dt_x = dt * shared.tile->x[t][me.lane];
    const Projections& token = shared.projections[t * me.warps + me.warp];
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      h[i] = fma(exp2_fast(dt * rate[i]), h[i], dt_x * token.B[i]);
    }
  }
}

// Takes the adjoint e = a g from after the sub-tile to before it, from the state h before it. Adds to the gradients of
// A and D_skip, leaves the sums over this warp's states of B g and of (A log2(e)) g a h' in shared memory, and returns
// the sums over its channels of dL/dB and dL/dC. `count` tokens of the sub-tile are inside the chunk.
SERPENT_DEVICE ChannelSums walk_back(const BackwardShared& shared, const Lane& me, int count,
                                     const float (&rate)[kStates], const float (&entering)[kStates],
                                     float (&e)[kStates], float (&grad_A)[kStates], float& grad_skip) {
  float h[kSubtile + 1][kStates];
  SERPENT_UNROLL
  for (int i = 0; i < kStates; ++i) {
    h[0][i] = entering[i];
  }
  SERPENT_UNROLL
  for (int t = 0; t < kSubtile; ++t) {
    const float dt = shared.tile->dt[t][me.lane];
    const float dt_x = dt * shared.tile->x[t][me.lane];
    const Projections& token = shared.projections[t * me.warps + me.warp];
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      h[t + 1][i] = fma(exp2_fast(dt * rate[i]), h[t][i], dt_x * token.B[i]);
    }
  }

  ChannelSums sums;
  SERPENT_UNROLL
  for (int t = kSubtile - 1; t >= 0; --t) {
    const float dt = shared.tile->dt[t][me.lane];
    const float x = shared.tile->x[t][me.lane];
    const float grad_y = shared.tile->grad_y[t][me.lane];
    const float dt_x = dt * x;
    const Projections token = shared.projections[t * me.warps + me.warp];
    float grad_B[kStates], grad_C[kStates];
    float sum_B = 0;
    float sum_A = 0;
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      const float a = exp2_fast(dt * rate[i]);
      const float g = fma(token.C[i], grad_y, e[i]);
      grad_C[i] = grad_y * h[t + 1][i];
      grad_B[i] = dt_x * g;
      sum_B = fma(token.B[i], g, sum_B);
      e[i] = a * g;
      const float kept = e[i] * h[t][i];
      sum_A = fma(rate[i], kept, sum_A);
      if (t < count) {  // a state that is not finite must not reach dL/dA through dt = 0
        grad_A[i] = fma(dt, kept, grad_A[i]);
      }
    }
    grad_skip = fma(grad_y, x, grad_skip);
    shared.sum(me.warp, 0, t)[me.lane] = sum_B;
    shared.sum(me.warp, 1, t)[me.lane] = sum_A;
    sums.add(t, grad_B, grad_C, me.lane);
  }
  return sums;
}

}  // namespace serpent::cuda
