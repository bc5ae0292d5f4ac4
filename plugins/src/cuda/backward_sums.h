// The last sums of the backward pass, each in one fixed order.
#pragma once

#include "backward_arguments.h"

namespace serpent::cuda {

constexpr int kMaxSumWarps = 32;
constexpr unsigned kColumnThreads = 256;

// dL/d(weights) from those of all chunks, which may be hundreds of thousands: in f64, rounded once. A block has one
// row of the records for one channel tile; its warps take the chunks in turn.
SERPENT_KERNEL(kMaxSumWarps* kLanes, 1)
void backward_weight_sums(const BackwardSizes sizes) {
  const int rows = sizes.record_rows() - sizes.states;
  auto rest = static_cast<int>(block_index().x);
  const int row = rest % rows;
  rest /= rows;
  const int tile = rest % sizes.tiles;
  const int reversed = rest / sizes.tiles;
  const int direction = sizes.pair + 2 * reversed;
  const int warps = static_cast<int>(block_size()) / kLanes;
  const int warp = static_cast<int>(thread_index()) / kLanes;
  const int lane = static_cast<int>(thread_index()) % kLanes;

  const float* parts = sizes.record(reversed, 0, tile) + (sizes.states + row) * kLanes + lane;
  const int64_t stride = static_cast<int64_t>(sizes.tiles) * sizes.record_rows() * kLanes;
  double sum = 0;
  SERPENT_UNROLL_BY(4)
  for (int64_t chunk = warp; chunk < sizes.batch * sizes.chunks; chunk += warps) {
    sum += parts[chunk * stride];
  }
  auto* sums = reinterpret_cast<double (*)[kLanes]>(shared_memory());
  sums[warp][lane] = sum;
  SERPENT_BLOCK_SYNC(weight_parts_summed);

  const int64_t channel = static_cast<int64_t>(tile) * kLanes + lane;
  if (warp != 0 || channel >= sizes.channels) {
    return;
  }
  for (int other = 1; other < warps; ++other) {
    sum += sums[other][lane];
  }
  const int64_t place = direction * sizes.channels + channel;
  const auto result = static_cast<float>(sum);
  if (row < sizes.states) {
    sizes.grad_A[place * sizes.states + row] = result;
  } else if (row == sizes.states) {
    sizes.grad_D_skip[place] = result;
  } else if (row <= sizes.states + sizes.ranks) {
    sizes.grad_dt_weight[place * sizes.ranks + row - sizes.states - 1] = result;
  } else {
    sizes.grad_dt_bias[place] = result;
  }
}

// dL/dx_dbl of a pair of directions from those of all splits. A block has one chunk, a warp one token at a time.
template <class T>
SERPENT_KERNEL(kColumnThreads, 4)
void backward_columns(const BackwardArguments<T> arguments) {
  const ChunkPixels pixels(arguments, static_cast<int>(block_index().x));
  const int warps = static_cast<int>(block_size()) / kLanes;
  const int warp = static_cast<int>(thread_index()) / kLanes;
  const int lane = static_cast<int>(thread_index()) % kLanes;
  const int ranks = arguments.ranks;
  const int count = arguments.row_columns();
  const int64_t direction_stride = arguments.batch * arguments.tokens * count;
  for (int i = warp; i < 2 * pixels.count; i += warps) {
    const int reversed = i < pixels.count ? 0 : 1;
    const int step = i - reversed * pixels.count;
    const float* from = arguments.columns + reversed * direction_stride + pixels.position(step, false) * count;
    T* to = arguments.grad_x_dbl + (pixels.pixel(arguments, step, false) * 4 + arguments.pair + 2 * reversed) * count;
    SERPENT_UNROLL_BY(1)
    for (int column = lane; column < count; column += kLanes) {
      int place = column;
      if (column >= ranks) {  // B and C of a state lie side by side
        const int state = (column - ranks) % arguments.states;
        place = ranks + 2 * state + (column - ranks) / arguments.states;
      }
      float sum = 0;
      for (int split = 0; split < arguments.splits; ++split) {
        sum += from[split * 2 * direction_stride + place];
      }
      store(sum, to + column);
    }
  }
}

}  // namespace serpent::cuda
