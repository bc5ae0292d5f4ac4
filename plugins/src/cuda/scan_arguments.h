// What the scan kernels are given, and how their blocks and warps divide the work.
#pragma once

#include <cstdint>

#include "device.h"

namespace serpent::cuda {

// Sizes, weights and workspace; the parts of the workspace are laid out as workspace.h says.
struct ScanSizes {
  int64_t batch, height, width, tokens, channels;
  int64_t chunk_tokens, chunks, part_tokens, tiles;  // tiles of channels, the widest that one warp has
  int states, ranks;
  int parts;       // of a chunk, a warp each
  int directions;  // of a block: 2, a direction and its reverse, or 4, all, which are then also added up
  bool vectors;    // rows of x and x_dbl are whole vectors of 16 bytes, aligned to that
  const float *dt_weight, *dt_bias, *A, *D_skip;
  float *chunk_states, *dt_sums, *row_image, *column_image;

  SERPENT_HOST_DEVICE int row_columns() const { return ranks + 2 * states; }

  // Of one picture, direction and chunk: states (N, D) and sums of dt (D).
  SERPENT_DEVICE int64_t record(int64_t picture, int direction, int64_t chunk) const {
    return (picture * 4 + direction) * chunks + chunk;
  }
};

template <class T>
struct ScanArguments : ScanSizes {
  const T *x, *x_dbl;
  T* y;
};

// Blocks are numbered by a 64-bit count, folded into the grid's x and y.
constexpr int64_t kGridSide = int64_t{1} << 30;

inline Index3 folded_grid(int64_t blocks) {
  return {static_cast<unsigned>(blocks < kGridSide ? blocks : kGridSide),
          static_cast<unsigned>((blocks + kGridSide - 1) / kGridSide), 1};
}

SERPENT_DEVICE int64_t folded_block() { return block_index().y * kGridSide + block_index().x; }

// Of one warp. Neighbouring blocks have the same pixels, and other channels of them.
struct ScanWarp {
  int64_t picture, chunk, first_channel;
  int64_t begin;  // the first position, along the forward direction, of this warp's part of the chunk
  int count;      // its tokens
  int direction, slot;
  int part;  // in the order in which the direction visits them
  int lane;

  // False for blocks past the last one, which the grid may have.
  SERPENT_DEVICE static bool present(const ScanSizes& sizes) { return folded_block() < blocks(sizes); }

  SERPENT_HOST_DEVICE static int64_t blocks(const ScanSizes& sizes) {
    return sizes.batch * (4 / sizes.directions) * sizes.chunks * sizes.tiles;
  }

  SERPENT_DEVICE ScanWarp(const ScanSizes& sizes, int tile_channels)
      : lane(static_cast<int>(thread_index() % kWarpThreads)) {
    int64_t rest = folded_block();
    first_channel = rest % sizes.tiles * tile_channels;
    rest /= sizes.tiles;
    chunk = rest % sizes.chunks;
    rest /= sizes.chunks;
    const int pairs = 4 / sizes.directions;
    const int warp = static_cast<int>(thread_index() / kWarpThreads);
    slot = warp % sizes.directions;
    part = warp / sizes.directions;
    direction = pairs == 1 ? slot : static_cast<int>(rest % 2) + 2 * slot;
    picture = rest / pairs;

    const int64_t start = chunk * sizes.chunk_tokens;
    const int64_t chunk_end = start + sizes.chunk_tokens;
    const int64_t end = chunk_end < sizes.tokens ? chunk_end : sizes.tokens;
    begin = start + (reversed() ? sizes.parts - 1 - part : part) * sizes.part_tokens;
    const int64_t left = end - begin;
    count = static_cast<int>(left < 0 ? 0 : left < sizes.part_tokens ? left : sizes.part_tokens);
  }

  SERPENT_DEVICE bool reversed() const { return direction >= 2; }
  SERPENT_DEVICE bool columns() const { return direction % 2 == 1; }

  // No chunk follows it in its direction.
  SERPENT_DEVICE bool last_chunk(const ScanSizes& sizes) const { return chunk == (reversed() ? 0 : sizes.chunks - 1); }
};

}  // namespace serpent::cuda
