// A sub-tile of tokens in shared memory: what the threads of a block, lanes = channels and warps = groups of states,
// need to know of it.
#pragma once

#include "backward_arguments.h"
#include "scan_math.h"
#include "shape.h"

namespace serpent::cuda {

// Of one thread: its channel, and kStates of that channel's states. What it computes for states past the last one, from
// whatever their B and C are, nobody reads: zeros in their place would become NaN where dt or x is infinite.
struct Lane {
  int warps, warp, lane, first_state, states;
  int64_t channel;
  bool present;

  SERPENT_DEVICE Lane(const BackwardSizes& sizes, int tile)
      : warps(static_cast<int>(block_size()) / kLanes),
        warp(static_cast<int>(thread_index()) / kLanes),
        lane(static_cast<int>(thread_index()) % kLanes),
        first_state(warp * kStates),
        states(sizes.states - first_state < kStates ? sizes.states - first_state : kStates),
        channel(static_cast<int64_t>(tile) * kLanes + lane),
        present(channel < sizes.channels) {}

  // Rows of 32 channels, of which this thread's states are some.
  SERPENT_DEVICE void read(const float* rows, float (&values)[kStates]) const {
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      values[i] = i < states ? rows[(first_state + i) * kLanes + lane] : 0.0F;
    }
  }

  SERPENT_DEVICE void write(const float (&values)[kStates], float* rows) const {
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      if (i < states) {
        rows[(first_state + i) * kLanes + lane] = values[i];
      }
    }
  }

  // A log2(e): exp(dt A) is then exp2 of a product.
  SERPENT_DEVICE void read_rates(const BackwardSizes& sizes, int direction, float (&rates)[kStates]) const {
    const float* row = sizes.A + (direction * sizes.channels + channel) * sizes.states + first_state;
    SERPENT_UNROLL
    for (int i = 0; i < kStates; ++i) {
      rates[i] = present && i < states ? kLog2OfE * load(row + i) : 0.0F;
    }
  }
};

// B and C of one token, for the states of one warp.
struct alignas(16) Projections {
  float B[kStates];
  float C[kStates];
};
static_assert(sizeof(Projections) == 48);

struct alignas(16) TokenTile {
  float x[kSubtile][kLanes];
  float grad_y[kSubtile][kLanes];
  float dt[kSubtile][kLanes];
  float slope[kSubtile][kLanes];  // of softplus
  int64_t pixel[2][kSubtile];     // of this sub-tile and the one before it, in turn
};

// The dynamic shared memory of both kernels; the first needs no more than the first four parts.
struct BackwardShared {
  static constexpr int kPitch = kLanes + 1;  // of rows that lanes also read along a column

  TokenTile* tile;
  ChunkPixels* pixels;       // of the block; here it takes no registers
  Projections* projections;  // (warps, kSubtile)
  float* weight;             // (R + 2, kPitch): dt_weight, dt_bias and D_skip of the block's channels
  float* sums;               // (warps, 2, kSubtile, kPitch): each warp's part of a sum over states
  float* weight_sums;        // (R + 1, kLanes): dL/d(dt_weight) and dL/d(dt_bias)

  static constexpr size_t kPixelBytes = (sizeof(ChunkPixels) + 15) / 16 * 16;

  SERPENT_DEVICE BackwardShared(unsigned char* memory, int warps, int ranks)
      : tile(reinterpret_cast<TokenTile*>(memory)),
        pixels(reinterpret_cast<ChunkPixels*>(memory + sizeof(TokenTile))),
        projections(reinterpret_cast<Projections*>(memory + sizeof(TokenTile) + kPixelBytes)),
        weight(reinterpret_cast<float*>(projections + kSubtile * warps)),
        sums(weight + (ranks + 2) * kPitch),
        weight_sums(sums + warps * 2 * kSubtile * kPitch) {}

  static constexpr size_t bytes_of_states(int64_t warps, int64_t ranks) {
    return sizeof(TokenTile) + kPixelBytes + static_cast<size_t>(kSubtile * warps) * sizeof(Projections) +
           static_cast<size_t>((ranks + 2) * kPitch) * sizeof(float);
  }

  static constexpr size_t bytes(int64_t warps, int64_t ranks) {
    return bytes_of_states(warps, ranks) +
           static_cast<size_t>(warps * 2 * kSubtile * kPitch + (ranks + 1) * kLanes) * sizeof(float);
  }

  SERPENT_DEVICE float* sum(int warp, int which, int token) const {
    return sums + ((warp * 2 + which) * kSubtile + token) * kPitch;
  }
};

static_assert(BackwardShared::bytes((kMaxCudaState + kStates - 1) / kStates, kMaxCudaDtRank) <= kMaxSharedBytes);

// softplus as in scan_math.h, and its slope 1 / (1 + exp(-v)).
SERPENT_DEVICE void softplus_and_slope(float v, float& value, float& slope) {
  const float e = exp2_fast((v < 0 ? v : -v) * kLog2OfE);
  const float r = reciprocal_fast(1.0F + e);
  value = fma(e, log1p_ratio(e), v > 0 ? v : 0.0F);
  slope = v > 0 ? r : e * r;
}

SERPENT_DEVICE void stage_weight(const BackwardSizes& sizes, const BackwardShared& shared, const Lane& me,
                                 int direction) {
  const int64_t row = direction * sizes.channels + me.channel;
  for (int r = me.warp; r < sizes.ranks + 2; r += me.warps) {
    const float* from = r < sizes.ranks    ? sizes.dt_weight + row * sizes.ranks + r
                        : r == sizes.ranks ? sizes.dt_bias + row
                                           : sizes.D_skip + row;
    shared.weight[r * BackwardShared::kPitch + me.lane] = me.present ? load(from) : 0.0F;
  }
}

// Tokens `first` .. `first` + 7 of the chunk, each by one warp. Tokens past the chunk's end change nothing, and
// channels past the last one add nothing: dt = 0. Without `adjoint` grad_y, slope and C are not needed and stay as they
// are.
template <bool adjoint, class T>
SERPENT_DEVICE void stage_tokens(const BackwardArguments<T>& arguments, const BackwardShared& shared, const Lane& me,
                                 int direction, int first) {
  SERPENT_UNROLL_BY(4)
  for (int t = me.warp; t < kSubtile; t += me.warps) {
    const bool inside = first + t < shared.pixels->count;
    const int64_t pixel = shared.pixels->pixel(arguments, inside ? first + t : first, direction >= 2);
    const T* row = arguments.x_dbl + (pixel * 4 + direction) * arguments.row_columns();
    float dt = 0;
    float slope = 0;
    const bool read = inside && me.present;
    if (read) {
      float v = shared.weight[arguments.ranks * BackwardShared::kPitch + me.lane];
      for (int r = 0; r < arguments.ranks; ++r) {
        v = fma(shared.weight[r * BackwardShared::kPitch + me.lane], load(row + r), v);
      }
      softplus_and_slope(v, dt, slope);
    }
    const int64_t place = pixel * arguments.channels + me.channel;
    shared.tile->x[t][me.lane] = read ? load(arguments.x + place) : 0.0F;
    shared.tile->dt[t][me.lane] = dt;
    if (adjoint) {
      shared.tile->grad_y[t][me.lane] = read ? load(arguments.grad_y + place) : 0.0F;
      shared.tile->slope[t][me.lane] = slope;
      if (me.lane == 0) {
        shared.tile->pixel[first / kSubtile % 2][t] = pixel;
      }
    }
    SERPENT_UNROLL_BY(1)
    for (int n = me.lane; n < arguments.states; n += kLanes) {
      Projections& to = shared.projections[n / kStates * kSubtile + t];
      to.B[n % kStates] = inside ? load(row + arguments.ranks + n) : 0.0F;
      if (adjoint) {
        to.C[n % kStates] = inside ? load(row + arguments.ranks + arguments.states + n) : 0.0F;
      }
    }
  }
}

}  // namespace serpent::cuda
