// One warp's walk over its part of a chunk: the recurrence itself.
#pragma once

#include "scan_tile.h"
#include "scan_walk.h"

namespace serpent::cuda {

// One thread's states of its channels, and what they decay by.
template <class V>
struct ScanStates {
  int sharer;                                  // which of the lanes that have these channels
  int group;                                   // which of the groups of such lanes
  int64_t first_channel;                       // the thread's first
  float rate[V::kOwnStates][V::kOwnChannels];  // A log2(e): exp(dt A) is exp2 of a product
  float h[V::kOwnStates][V::kOwnChannels];
  float dt_sum[V::kOwnChannels];

  SERPENT_DEVICE ScanStates(const ScanSizes& sizes, const ScanWarp& me)
      : sharer(me.lane % V::kSharers), group(me.lane / V::kSharers), first_channel(me.first_channel + group) {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      const float* row = sizes.A + (me.direction * sizes.channels + channel(c)) * sizes.states;
      SERPENT_UNROLL
      for (int i = 0; i < V::kOwnStates; ++i) {
        rate[i][c] = present(sizes, c) && has(sizes, i) ? kLog2OfE * load(row + state(i)) : 0.0F;
      }
    }
    clear();
  }

  SERPENT_DEVICE void clear() {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      SERPENT_UNROLL
      for (int i = 0; i < V::kOwnStates; ++i) {
        h[i][c] = 0;
      }
      dt_sum[c] = 0;
    }
  }

  SERPENT_DEVICE int64_t channel(int c) const { return first_channel + c * V::kGroups; }
  SERPENT_DEVICE bool present(const ScanSizes& sizes, int c) const { return channel(c) < sizes.channels; }
  SERPENT_DEVICE int state(int i) const { return i * V::kSharers + sharer; }

  // Some sharers may have fewer states than registers for them. Those are left out, not padded with zeros, which an
  // infinite x would turn into NaN.
  SERPENT_DEVICE bool has(const ScanSizes& sizes, int i) const {
    return V::kN > 0 ? (i + 1) * V::kSharers <= V::kN || state(i) < V::kN : state(i) < sizes.states;
  }

  // One token, in shared memory. Adds C h to y.
  template <bool kOutput>
  SERPENT_DEVICE void step(const ScanSizes& sizes, const float* row, const float (&dt)[V::kOwnChannels],
                           const float (&dt_x)[V::kOwnChannels], float (&y)[V::kOwnChannels]) {
    SERPENT_UNROLL
    for (int first = 0; first < V::kOwnStates; first += V::kVector) {
      const auto B = read_words<V::kVector>(row + V::kB + sharer * V::kStates + first);
      Words<V::kVector> C{};
      if constexpr (kOutput) {
        C = read_words<V::kVector>(row + V::kC + sharer * V::kStates + first);
      }
      SERPENT_UNROLL
      for (int j = 0; j < V::kVector; ++j) {
        const int i = first + j;
        if (i >= V::kOwnStates || !has(sizes, i)) {
          continue;
        }
        SERPENT_UNROLL
        for (int c = 0; c < V::kOwnChannels; ++c) {
          h[i][c] = fma(exp2_fast(dt[c] * rate[i][c]), h[i][c], dt_x[c] * B.v[j]);
          if constexpr (kOutput) {
            y[c] = fma(C.v[j], h[i][c], y[c]);
          }
        }
      }
    }
  }

  // Takes h from before a stretch of tokens to after it. read(i, c) is what the stretch makes of a zero state,
  // read(kOwnStates, c) its sum of dt.
  template <class Read>
  SERPENT_DEVICE void pass_through(const ScanSizes& sizes, const Read& read) {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      const float sum = read(V::kOwnStates, c);
      dt_sum[c] += sum;
      SERPENT_UNROLL
      for (int i = 0; i < V::kOwnStates; ++i) {
        if (has(sizes, i)) {
          h[i][c] = fma(exp2_fast(sum * rate[i][c]), h[i][c], read(i, c));
        }
      }
    }
  }
};

// Where one warp's y goes: an image in f32 that the two directions of a pair share. Each direction writes the first
// half of its tokens, and then adds to the half that the other one wrote. Places are offsets in bytes.
template <class V>
struct ScanOutput {
  unsigned char* image;
  bool writes[V::kOwnChannels];
  float skip[V::kOwnChannels];

  template <class T>
  SERPENT_DEVICE ScanOutput(const ScanArguments<T>& arguments, const ScanWarp& me, const ScanStates<V>& states)
      : image(reinterpret_cast<unsigned char*>((me.columns() ? arguments.column_image : arguments.row_image) +
                                               states.group)) {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      writes[c] = states.sharer == 0 && states.present(arguments, c);
      skip[c] = writes[c] ? load(arguments.D_skip + me.direction * arguments.channels + states.channel(c)) : 0.0F;
    }
  }

  SERPENT_DEVICE float* pixel(uint64_t place) const { return reinterpret_cast<float*>(image + place); }

  SERPENT_DEVICE void read(uint64_t place, float (&y)[V::kOwnChannels]) const {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      if (writes[c]) {
        y[c] = pixel(place)[c * V::kGroups];
      }
    }
  }

  SERPENT_DEVICE void write(uint64_t place, const float (&y)[V::kOwnChannels]) const {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      if (writes[c]) {
        pixel(place)[c * V::kGroups] = y[c];
      }
    }
  }
};

// The tokens of one tile. With kAdd y is added to what is there: `written` holds that of the first token, and is read
// one token ahead.
template <bool kOutput, bool kAdd, class T, class V>
SERPENT_DEVICE void scan_tile(const ScanSizes& sizes, const ScanTile<T, V>& tile,
                              const typename ScanTile<T, V>::Place* places, int count, const ScanOutput<V>& output,
                              float (&written)[V::kOwnChannels], ScanStates<V>& states) {
  for (int t = 0; t < count; ++t) {
    const auto token = read_words<2 * V::kOwnChannels>(tile.dt_x[t][states.group][0]);
    float dt[V::kOwnChannels], dt_x[V::kOwnChannels], y[V::kOwnChannels];
    float ahead[V::kOwnChannels] = {};
    if (kAdd && t + 1 < count) {
      output.read(places[t + 1].y, ahead);
    }
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      dt[c] = token.v[2 * c];
      dt_x[c] = dt[c] * token.v[2 * c + 1];
      y[c] = 0;
    }
    states.template step<kOutput>(sizes, tile.rows[t], dt, dt_x, y);
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      if constexpr (kOutput) {
        SERPENT_UNROLL
        for (int mask = 1; mask < V::kSharers; mask *= 2) {
          y[c] += shuffle_xor(y[c], mask);
        }
        y[c] = fma(output.skip[c], token.v[2 * c + 1], y[c]);
        if constexpr (kAdd) {
          y[c] += written[c];
          written[c] = ahead[c];
        }
      } else {
        states.dt_sum[c] += dt[c];
      }
    }
    if constexpr (kOutput) {
      output.write(places[t].y, y);
    }
  }
}

// Takes `states` from before the warp's tokens to after them, and writes y to the image if kOutput. Then all warps of
// the block come along, since there is a barrier of the block between the halves.
template <bool kOutput, class T, class V>
SERPENT_DEVICE void scan_chunk(const ScanArguments<T>& arguments, const ScanWarp& me, ScanTile<T, V>& tile,
                               ScanStates<V>& states) {
  ScanStage<T, V, kOutput> stage(arguments, me, tile);
  const ScanOutput<V> output(arguments, me, states);
  PixelWalk walk(arguments, me, me.lane);

  // The other direction of the pair meets this one after `half` tokens: those it wrote by then are not half's.
  const int half = !kOutput ? me.count : me.reversed() ? me.count - me.count / 2 : me.count / 2;
  const auto tile_count = [&](int done) {
    const int left = (done < half ? half : me.count) - done;
    return left < V::kTokens ? left : V::kTokens;
  };
  const auto locate = [&](typename ScanTile<T, V>::Place* places) {
    if (me.lane < V::kTokens) {
      const int64_t columns = V::kColumns > 0 ? V::kColumns : arguments.row_columns();
      const int64_t y = walk.pixel() * arguments.channels + me.first_channel;
      places[me.lane] = {static_cast<uint64_t>(y) * sizeof(float),
                         walk.pixel() * (4 * columns) + me.direction * columns};
    }
  };

  int parity = 0;
  int count = tile_count(0);
  locate(tile.places[0]);
  SERPENT_WARP_SYNC(first_tile_located);
  stage.request(tile.places[0], count);
  copy_async_wait<0>();
  SERPENT_WARP_SYNC(first_tile_arrived);

  int done = 0;
  SERPENT_UNROLL_BY(1)
  for (int phase = 0; phase < (kOutput ? 2 : 1); ++phase) {
    if (phase == 1) {
      SERPENT_BLOCK_SYNC(first_halves_written);
    }
    SERPENT_UNROLL_BY(1)
    for (const int end = phase == 0 ? half : me.count; done < end;) {
      const auto* places = tile.places[parity];
      stage.widen(places, count);
      SERPENT_WARP_SYNC(tile_widened);
      stage.project();
      float written[V::kOwnChannels] = {};  // by the other direction
      if (phase == 1) {
        output.read(places[0].y, written);
      }
      done += count;
      const int next = tile_count(done);
      walk.advance(count);
      locate(tile.places[1 - parity]);
      SERPENT_WARP_SYNC(tile_projected);
      stage.request(tile.places[1 - parity], next);
      if (phase == 0) {
        scan_tile<kOutput, false>(arguments, tile, places, count, output, written, states);
      } else {
        scan_tile<kOutput, true>(arguments, tile, places, count, output, written, states);
      }
      copy_async_wait<0>();
      SERPENT_WARP_SYNC(tile_read);  // and the next one has arrived
      count = next;
      parity = 1 - parity;
    }
  }
}

}  // namespace serpent::cuda
