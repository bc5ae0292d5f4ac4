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

// Tokens whose arithmetic the compiler may overlap: with all 8 of a sub-tile it runs out of registers.
constexpr int kHalf = kSubtile / 2;

// Sums over the 32 channels of a warp, of one number for each of its 6 states and of 8 tokens: 3 of these 48 sums end
// in each lane of a half-warp, less the addition of both half-warps.
struct ChannelSums {
  static constexpr int kPairs = kStates / 2;
  static_assert(kStates == 2 * kPairs && kHalf == 4);
  float one[kPairs] = {};  // sums of 1, 2 and 4 tokens, until as many more are there
  float two[kPairs] = {};
  float four[kPairs] = {};
  float eight[kPairs] = {};

  // Tokens 0 .. 3 of one half, then those of the other.
  SERPENT_DEVICE void add(int token, const float (&values)[kStates], int lane) {
    SERPENT_UNROLL
    for (int j = 0; j < kPairs; ++j) {
      const float sum = merge(values[2 * j], values[2 * j + 1], 1, lane);
      if (token % 2 == 0) {
        one[j] = sum;
        continue;
      }
      const float pair = merge(one[j], sum, 2, lane);
      if (token == 1) {
        two[j] = pair;
        continue;
      }
      const float half = merge(two[j], pair, 4, lane);
      eight[j] = merge(four[j], half, 8, lane);
      four[j] = half;
    }
  }
};

// dL/dB and dL/dC of one warp's states at 8 tokens: total[j] of a lane is one of these.
struct ProjectionSums {
  float total[ChannelSums::kPairs];

  // The tokens of grad_B came in falling order.
  SERPENT_DEVICE ProjectionSums(const ChannelSums& grad_B, const ChannelSums& grad_C, int lane) {
    SERPENT_UNROLL
    for (int j = 0; j < ChannelSums::kPairs; ++j) {
      total[j] = merge(grad_B.eight[j], grad_C.eight[j], 16, lane);
    }
  }

  SERPENT_DEVICE static bool is_C(int lane) { return lane >= 16; }
  SERPENT_DEVICE static int token(int lane) { return is_C(lane) ? lane / 2 % kSubtile : kSubtile - 1 - lane / 2; }
  SERPENT_DEVICE static int state(int lane, int j) { return 2 * j + lane % 2; }
};

// Takes the state h from before the sub-tile to after it.
SERPENT_DEVICE void walk_forward(const BackwardShared& shared, const Lane& me, const float (&rate)[kStates],
                                 float (&h)[kStates]) {
  SERPENT_UNROLL
  for (int t = 0; t < kSubtile; ++t) {
    const float dt = shared.tile->dt[t][me.lane];
    const float dt_x = dt * shared.tile->x[t][me.lane];
    const Projections& token = shared.projections[me.warp * kSubtile + t];
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      h[i] = fma(exp2_fast(dt * rate[i]), h[i], dt_x * token.B[i]);
    }
  }
}

SERPENT_DEVICE void copy(const float (&from)[kHalf][kStates], float (&to)[kHalf][kStates]) {
  SERPENT_UNROLL
  for (int s = 0; s < kHalf; ++s) {
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      to[s][i] = from[s][i];
    }
  }
}

// Takes the adjoint e = a g from after the sub-tile to before it, from the state before it. Adds to the gradients of A
// and D_skip, and leaves the sums over this warp's states of B g and of (A log2(e)) g a h' in shared memory. `count`
// tokens of the sub-tile are inside the chunk.
SERPENT_DEVICE ProjectionSums walk_back(const BackwardShared& shared, const Lane& me, int count,
                                        const float (&rate)[kStates], const float (&entering)[kStates],
                                        float (&e)[kStates], float (&grad_A)[kStates], float& grad_skip) {
  float h[2][kHalf][kStates] = {};  // before each token
  float last[kStates];
  SERPENT_UNROLL
  for (int i = 0; i < kStates; ++i) {
    last[i] = entering[i];
  }
  ChannelSums sums_C;
  SERPENT_UNROLL_BY(1)
  for (int first = 0; first < kSubtile; first += kHalf) {
    copy(h[1], h[0]);
    SERPENT_UNROLL
    for (int s = 0; s < kHalf; ++s) {
      const int t = first + s;
      const float dt = shared.tile->dt[t][me.lane];
      const float dt_x = dt * shared.tile->x[t][me.lane];
      const float grad_y = shared.tile->grad_y[t][me.lane];
      const Projections& token = shared.projections[me.warp * kSubtile + t];
      float grad_C[kStates];
      SERPENT_UNROLL
      for (int i = 0; i < kStates; ++i) {
        h[1][s][i] = last[i];
        last[i] = fma(exp2_fast(dt * rate[i]), last[i], dt_x * token.B[i]);
        grad_C[i] = grad_y * last[i];
      }
      sums_C.add(s, grad_C, me.lane);
    }
  }

  ChannelSums sums_B;
  SERPENT_UNROLL_BY(1)
  for (int first = kHalf; first >= 0; first -= kHalf) {
    SERPENT_UNROLL
    for (int s = kHalf - 1; s >= 0; --s) {
      const int t = first + s;
      const float dt = shared.tile->dt[t][me.lane];
      const float x = shared.tile->x[t][me.lane];
      const float grad_y = shared.tile->grad_y[t][me.lane];
      const float dt_x = dt * x;
      const Projections token = shared.projections[me.warp * kSubtile + t];
      float grad_B[kStates];
      float sum_B = 0;
      float sum_A = 0;
      SERPENT_UNROLL
      for (int i = 0; i < kStates; ++i) {
        const float g = fma(token.C[i], grad_y, e[i]);
        grad_B[i] = dt_x * g;
        e[i] = exp2_fast(dt * rate[i]) * g;
        const float kept = e[i] * h[1][s][i];
        if (i < me.states) {
          sum_B = fma(token.B[i], g, sum_B);
          sum_A = fma(rate[i], kept, sum_A);
        }
        if (t < count) {  // a state that is not finite must not reach dL/dA through dt = 0
          grad_A[i] = fma(dt, kept, grad_A[i]);
        }
      }
      grad_skip = fma(grad_y, x, grad_skip);
      shared.sum(me.warp, 0, t)[me.lane] = sum_B;
      shared.sum(me.warp, 1, t)[me.lane] = sum_A;
      sums_B.add(kHalf - 1 - s, grad_B, me.lane);
    }
    copy(h[0], h[1]);
  }
  return ProjectionSums(sums_B, sums_C, me.lane);
}

}  // namespace serpent::cuda
