// Workspace of the CUDA backward pass: one layout, from which the size is told and the launch takes its pointers.
#pragma once

#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

constexpr int64_t kBackwardSubtile = 8;    // tokens whose states a thread holds at once
constexpr int64_t kBackwardStates = 6;     // states of one channel in one thread
constexpr int64_t kBackwardChannels = 32;  // of one tile, a lane each

// What may be chosen freely, from 1 on: results differ by rounding only.
struct BackwardTuning {
  int64_t chunk_tokens = 64;    // longer chunks need less memory, and are fewer blocks
  int64_t warps_wanted = 2048;  // that fill a large GPU; where chunks are few, several blocks share one's channels
};

// Sizes derived from the shape, and where each part starts, in bytes. Parts hold f32 of one pair of directions at a
// time (a direction and its reverse); the second pair overwrites the first pair's.
//   records      (2, B, chunks, tiles, 2N + R + 2, 32): adjoints and states that enter a chunk, its sum of dt; the
//                gradients of the weights from one chunk take the place of the states and the sum
//   checkpoints  (B, chunks, splits, subtiles - 1, N, 32): states inside a chunk
//   image        (B, L, D): dL/dx so far, from the directions that are done
//   columns      (splits, 2, B, L, R + 2N): dL/dx_dbl from the channels of one split
// So with D a multiple of 32 and L one of 64 a pixel takes
//   D (2N + R + 2) / 8 + 4 D + splits * (14 N + 8 (R + 2N)) bytes,
// where splits = clamp(2048 / (B L / 64 * ceil(N / 6)), 1, D / 32) is 1 for all but small pictures.
struct BackwardLayout {
  int64_t tokens, chunk_tokens, chunks, subtiles, tiles, warps, splits;
  uint64_t records, checkpoints, image, columns, bytes;
};

BackwardLayout backward_layout(const serpent_scan_shape& shape, const BackwardTuning& tuning = {});

}  // namespace serpent
