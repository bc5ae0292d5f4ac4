// A few tokens in the shared memory of one warp: copied, widened to f32, and with dt = softplus(dt_weight dt_r +
// dt_bias) computed once for each channel.
#pragma once

#include "scan_arguments.h"
#include "scan_math.h"
#include "scan_variant.h"

namespace serpent::cuda {

constexpr int kVectorBytes = 16;

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T low, high;
};

// Read or written by one instruction.
template <int kCount>
struct alignas(4 * kCount) Words {
  float v[kCount];
};

template <int kCount>
SERPENT_DEVICE Words<kCount> read_words(const float* p) {
  return *reinterpret_cast<const Words<kCount>*>(p);
}

// Where the part of a row of x_dbl that belongs to one direction lies, in vectors of kPer elements.
template <int kColumns, int kPer>
struct RowVectors {
  SERPENT_HOST_DEVICE static constexpr int shift(int direction) { return direction * kColumns % kPer; }

  // That hold the first `elements` of the part, whatever the direction.
  SERPENT_HOST_DEVICE static constexpr int most(int elements) {
    int vectors = 1;
    for (int direction = 0; direction < 4; ++direction) {
      const int needed = (shift(direction) + elements + kPer - 1) / kPer;
      vectors = needed > vectors ? needed : vectors;
    }
    return vectors;
  }
};

SERPENT_HOST_DEVICE constexpr int power_of_two_from(int value) {
  int power = 1;
  while (power < value) {
    power *= 2;
  }
  return power;
}

template <class T, class V>
struct alignas(kVectorBytes) ScanTile {
  static constexpr int kPer = kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int kRowVectors = RowVectors<V::kColumns, kPer>::most(V::kColumns);

  struct Place {
    uint64_t y;   // offset in an image of the token's first channel in the warp's tile, in bytes
    int64_t row;  // offset in x_dbl of the direction's part of the token's row
  };

  float rows[V::kTokens][V::kRowFloats];
  float dt_x[V::kTokens][V::kGroups][V::kOwnChannels][2];  // dt and x
  float weight[V::kR + 1][V::kTileChannels];               // dt_weight, if its width is known, and dt_bias
  alignas(kVectorBytes) T raw_x[V::kTokens][V::kTileChannels];
  alignas(kVectorBytes) T raw_rows[V::kVectors ? V::kTokens : 1][kRowVectors * kPer];
  Place places[2][V::kTokens];  // of this tile's tokens and of the next one's
};

// One lane's share of filling a tile, in steps that a barrier of the warp must follow, as it must the constructor:
//   request   starts to copy a tile's elements as they are, until copy_async_wait
//   widen     writes the rows
//   project   computes dt
// Where elements cannot be copied as vectors, widen does what request could not.
template <class T, class V, bool kNeedsC>
class ScanStage {
 public:
  using Tile = ScanTile<T, V>;
  using Place = typename Tile::Place;

  SERPENT_DEVICE ScanStage(const ScanArguments<T>& arguments, const ScanWarp& me, Tile& tile)
      : arguments_(arguments), me_(me), tile_(tile) {
    SERPENT_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      const int64_t row = me.direction * arguments.channels + channel(c);
      if (me.lane < kChannelLanes) {
        SERPENT_UNROLL
        for (int r = 0; r < kR; ++r) {
          tile.weight[r][own() + c * kChannelLanes] = present(c) ? load(arguments.dt_weight + row * kR + r) : 0.0F;
        }
        tile.weight[kR][own() + c * kChannelLanes] = present(c) ? load(arguments.dt_bias + row) : 0.0F;
      }
    }
  }

  SERPENT_DEVICE void request(const Place* places, int count) {
    if constexpr (V::kVectors) {
      if (!arguments_.vectors) {
        return;
      }
      constexpr int kRows = Rows::most(kNeeded);
      // A vector that only other directions need may lie past the end of x_dbl.
      constexpr bool kAllExist = kRows * kPer <= Rows::shift(3) + V::kColumns;
      each_vector<kRows>(count, [&](int t, int v) {
        if (kAllExist || v * kPer < Rows::shift(me_.direction) + kNeeded) {
          copy_async<kVectorBytes>(&tile_.raw_rows[t][v * kPer],
                                   arguments_.x_dbl + (places[t].row + v * kPer - Rows::shift(me_.direction)));
        }
      });
      each_vector<V::kTileChannels / kPer>(count, [&](int t, int v) {
        if (me_.first_channel + v * kPer < arguments_.channels) {
          copy_async<kVectorBytes>(&tile_.raw_x[t][v * kPer], arguments_.x + (places[t].y / kImageBytes + v * kPer));
        }
      });
      copy_async_commit();
    }
  }

  SERPENT_DEVICE void widen(const Place* places, int count) {
    if (V::kVectors && arguments_.vectors) {
      const T* raw = tile_.raw_rows[0] + Rows::shift(me_.direction);
      SERPENT_UNROLL
      for (int first = 0; first < V::kTokens; first += kPairTokens) {
        const int t = first + me_.lane / kPairLanes;
        SERPENT_UNROLL
        for (int p = me_.lane % kPairLanes; p < kPairs; p += kPairLanes) {
          const auto pair = *reinterpret_cast<const Pair<T>*>(raw + t * Tile::kRowVectors * kPer + 2 * p);
          tile_.rows[t][place_of(2 * p)] = to_float(pair.low);
          tile_.rows[t][place_of(2 * p + 1)] = to_float(pair.high);
        }
      }
      return;
    }
    const int needed = arguments_.row_columns() - (kNeedsC ? 0 : arguments_.states);
    SERPENT_UNROLL_BY(1)
    for (int i = me_.lane; i < count * needed; i += kLanes) {
      const int t = i / needed;
      const int e = i % needed;
      tile_.rows[t][place_of(e)] = load(arguments_.x_dbl + places[t].row + e);
    }
    SERPENT_UNROLL_BY(1)
    for (int i = me_.lane; i < count * V::kTileChannels; i += kLanes) {
      const int t = i / V::kTileChannels;
      const int c = i % V::kTileChannels;
      if (me_.first_channel + c < arguments_.channels) {
        tile_.raw_x[t][c] = arguments_.x[places[t].y / kImageBytes + c];
      }
    }
  }

  // For all tokens that the tile has room for, and all channels: those that are absent have no effect on others.
  SERPENT_DEVICE void project() {
    constexpr int kStep = kLanes / kChannelLanes;
    float weight[kChannels][kR + 1];
    SERPENT_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      SERPENT_UNROLL
      for (int r = 0; r <= kR; ++r) {
        weight[c][r] = tile_.weight[r][own() + c * kChannelLanes];
      }
    }
    [[maybe_unused]] constexpr int kAtOnce = kR < 16 ? 4 : 2;  // as many as there are registers for
    SERPENT_UNROLL_BY(kAtOnce)
    for (int first = 0; first < V::kTokens; first += kStep) {
      const int t = first + me_.lane / kChannelLanes;
      float v[kChannels];
      SERPENT_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        v[c] = weight[c][kR];
      }
      add_ranks(weight, tile_.rows[t], v);
      Words<2 * kChannels> dt_x;
      SERPENT_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        dt_x.v[2 * c] = softplus(v[c]);
        dt_x.v[2 * c + 1] = to_float(tile_.raw_x[t][own() + c * kChannelLanes]);
      }
      *reinterpret_cast<Words<2 * kChannels>*>(tile_.dt_x[t][own() % V::kGroups][own() / V::kGroups]) = dt_x;
    }
  }

 private:
  static constexpr int kLanes = static_cast<int>(kWarpThreads);
  static constexpr int kPer = Tile::kPer;
  static constexpr int kN = V::kN, kR = V::kR;
  static constexpr int kNeeded = kNeedsC ? V::kColumns : kR + kN;  // elements of a row
  static constexpr uint64_t kImageBytes = sizeof(float);
  using Rows = RowVectors<V::kColumns, kPer>;

  // Lanes over the pairs of a row, or over as much of it as there are lanes.
  static constexpr int kPairs = (kNeeded + 1) / 2;
  static constexpr int kPairLanes = kPairs >= kLanes ? kLanes : power_of_two_from(kPairs);
  static constexpr int kPairTokens = kLanes / kPairLanes;

  // Lanes over the channels of the tile: with several sharers a lane computes dt of one channel and has states of two.
  static constexpr int kChannels = V::kTileChannels > kLanes ? V::kTileChannels / kLanes : 1;
  static constexpr int kChannelLanes = V::kTileChannels / kChannels;
  static_assert((!V::kVectors || V::kTokens % kPairTokens == 0) && V::kTokens % (kLanes / kChannelLanes) == 0);

  // visit(t, v) for each of the kCount vectors of each of `count` tokens, a lane each.
  template <int kCount, class Visit>
  SERPENT_DEVICE void each_vector(int count, const Visit& visit) const {
    constexpr int kWide = power_of_two_from(kCount);
    static_assert(kWide <= kLanes);
    SERPENT_UNROLL_BY(2)  // more at once would need registers
    for (int first = 0; first < V::kTokens; first += kLanes / kWide) {
      const int t = first + me_.lane / kWide;
      const int v = me_.lane % kWide;
      if (t < count && v < kCount) {
        visit(t, v);
      }
    }
  }

  SERPENT_DEVICE int own() const { return me_.lane % kChannelLanes; }  // the first of the lane's channels in the tile
  SERPENT_DEVICE int64_t channel(int c) const { return me_.first_channel + own() + c * kChannelLanes; }
  SERPENT_DEVICE bool present(int c) const { return channel(c) < arguments_.channels; }

  // Where element e of a row of x_dbl, [dt_r, B, C], belongs in the tile's row.
  SERPENT_DEVICE int place_of(int e) const {
    const int ranks = kR > 0 ? kR : arguments_.ranks;
    if (e < ranks) {
      return e;
    }
    const int n = e - ranks;
    const int states = kN > 0 ? kN : arguments_.states;
    const bool is_C = n >= states;
    const int state = is_C ? n - states : n;
    return (is_C ? V::kC : V::kB) + state % V::kSharers * V::kStates + state / V::kSharers;
  }

  SERPENT_DEVICE void add_ranks(const float (&weight)[kChannels][kR + 1], const float* row,
                                float (&v)[kChannels]) const {
    if constexpr (kR > 0) {
      constexpr int kVector = kR % 4 == 0 ? 4 : kR % 2 == 0 ? 2 : 1;
      SERPENT_UNROLL
      for (int r = 0; r < kR; r += kVector) {
        const Words<kVector> dt_r = read_words<kVector>(row + r);
        SERPENT_UNROLL
        for (int i = 0; i < kVector; ++i) {
          SERPENT_UNROLL
          for (int c = 0; c < kChannels; ++c) {
            v[c] = fma(weight[c][r + i], dt_r.v[i], v[c]);
          }
        }
      }
    } else {
      SERPENT_UNROLL_BY(1)
      for (int r = 0; r < arguments_.ranks; ++r) {
        SERPENT_UNROLL
        for (int c = 0; c < kChannels; ++c) {
          const int64_t place = (me_.direction * arguments_.channels + channel(c)) * arguments_.ranks + r;
          v[c] = fma(present(c) ? load(arguments_.dt_weight + place) : 0.0F, row[r], v[c]);
        }
      }
    }
  }

  const ScanArguments<T>& arguments_;
  const ScanWarp& me_;
  Tile& tile_;
};

}  // namespace serpent::cuda
