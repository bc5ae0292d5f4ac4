// The backward pass of one task, one kernel per instruction set and storage type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

// One direction of one channel tile of one picture, and the buffers that are its own. Real is the type of sums.
struct BackwardTask {
  int64_t picture;
  int64_t direction;
  int64_t first;       // channel at which the tile starts
  void* grad_x;        // Real (tokens, tile): this direction's part of dL/dx, in the order of its tokens
  void* grad_x_dbl;    // Real (tokens, R + 2N): this tile's part of dL/dx_dbl, in the order of the tokens
  void* chunk_states;  // Real (chunks, N, tile)
  void* scratch;       // scratch_bytes
  double* weights;     // (N + R + 2, tile): dL/dA, dL/d dt_weight, dL/d dt_bias, dL/dD_skip
};

struct BackwardKernel {
  void (*run)(const serpent_scan_shape&, const serpent_scan_tensors&, const void* grad_y, const BackwardTask&);
  int64_t tile;   // channels
  int64_t chunk;  // tokens
  size_t scratch_bytes;
};

BackwardKernel portable_backward_kernel(int32_t dtype);
BackwardKernel avx2_backward_kernel(int32_t dtype);
BackwardKernel avx512_backward_kernel(int32_t dtype);

// As choose_kernel.
BackwardKernel choose_backward_kernel(int32_t dtype);

}  // namespace serpent
