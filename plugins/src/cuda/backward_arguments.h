// What the kernels of the backward pass are given, and where they find it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backward_workspace.h"
#include "device.h"

namespace serpent::cuda {

constexpr int kSubtile = static_cast<int>(kBackwardSubtile);
constexpr int kStates = static_cast<int>(kBackwardStates);
constexpr int kLanes = static_cast<int>(kBackwardChannels);
static_assert(kLanes == kWarpThreads);

// Sizes, weights and workspace; the parts of the workspace are laid out as backward_workspace.h says.
struct BackwardSizes {
  int64_t batch, height, width, tokens, channels;
  int chunks, tiles, splits, states, ranks, chunk_tokens, subtiles;
  int pair;               // 0: directions 0 and 2, 1: directions 1 and 3
  double inverse_height;  // 1 / H
  const float *dt_weight, *dt_bias, *A, *D_skip;
  float *grad_dt_weight, *grad_dt_bias, *grad_A, *grad_D_skip;
  float *records, *checkpoints, *image, *columns;

  SERPENT_HOST_DEVICE int record_rows() const { return 2 * states + ranks + 2; }
  SERPENT_HOST_DEVICE int row_columns() const { return ranks + 2 * states; }

  // One chunk and channel tile under direction pair + 2 * reversed, a row of 32 channels for each of
  //   N adjoints that enter the chunk from the steps after it
  //   N states that enter it; later dL/dA
  //   the sum of dt; later dL/dD_skip
  //   R of dL/d(dt_weight) and one of dL/d(dt_bias)
  SERPENT_DEVICE float* record(int reversed, int chunk_of_batch, int tile) const {
    return records + ((reversed * batch * chunks + chunk_of_batch) * tiles + tile) * record_rows() * kLanes;
  }
};

template <class T>
struct BackwardArguments : BackwardSizes {
  const T *x, *x_dbl, *grad_y;
  T *grad_x, *grad_x_dbl;
};

// The pixels of one chunk. A pair of directions splits the sequence at the same places and differs in the order of
// chunks and of the tokens in them; positions count along the direction that is not reversed.
struct ChunkPixels {
  int64_t picture;       // its first pixel
  int64_t start;         // the chunk's first position in the picture
  int64_t line, offset;  // that position's column and row, along columns
  int count;

  SERPENT_DEVICE ChunkPixels(const BackwardSizes& sizes, int chunk_of_batch)
      : picture(chunk_of_batch / sizes.chunks * sizes.tokens),
        start(static_cast<int64_t>(chunk_of_batch % sizes.chunks) * sizes.chunk_tokens),
        line(static_cast<int64_t>(static_cast<double>(start) * sizes.inverse_height)),
        offset(start - line * sizes.height),
        count(sizes.tokens - start < sizes.chunk_tokens ? static_cast<int>(sizes.tokens - start) : sizes.chunk_tokens) {
    // start / H by a 64-bit division would cost registers. The product is off by one at most, below 2^51 pixels.
    if (offset < 0) {
      --line;
      offset += sizes.height;
    } else if (offset >= sizes.height) {
      ++line;
      offset -= sizes.height;
    }
  }

  SERPENT_DEVICE int in_order(int step, bool reversed) const { return reversed ? count - 1 - step : step; }

  SERPENT_DEVICE int64_t position(int step, bool reversed) const { return picture + start + in_order(step, reversed); }

  SERPENT_DEVICE int64_t pixel(const BackwardSizes& sizes, int step, bool reversed) const {
    if (sizes.pair == 0) {
      return position(step, reversed);
    }
    int64_t column = line;
    int64_t row = offset + in_order(step, reversed);
    if (row >= sizes.height) {  // rare, and `past` is small: no 64-bit division
      const auto past = static_cast<unsigned>(row - sizes.height);
      const auto side = static_cast<unsigned>(sizes.height < INT32_MAX ? sizes.height : INT32_MAX);
      column += 1 + past / side;
      row = past % side;
    }
    return picture + row * sizes.width + column;
  }
};

}  // namespace serpent::cuda
