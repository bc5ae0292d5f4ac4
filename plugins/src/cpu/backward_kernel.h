// The backward pass of one task: a kernel for each instruction set and storage type, behind a plain function pointer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

// One direction of one tile of channels of one picture, and the buffers that are its own. Real is the type of sums:
// f64 for f64 storage, else f32.
struct BackwardTask {
  int64_t picture;
  int64_t direction;
  int64_t first;       // channel
  void* grad_x;        // Real (tokens, tile): this direction's part of dL/dx, in the order of its tokens
  void* grad_x_dbl;    // Real (tokens, R + 2N): this tile's part of dL/dx_dbl, in the order of the tokens
  double* weights;     // (N + R + 2, tile): dL/dA, dL/d dt_weight, dL/d dt_bias, dL/dD_skip
  void* chunk_states;  // Real (chunks, N, tile)
  void* scratch;       // scratch_bytes
};

struct BackwardKernel {
  void (*run)(const serpent_scan_shape&, const serpent_scan_tensors&, const void* grad_y, const BackwardTask&);
  int64_t tile;   // channels
  int64_t chunk;  // tokens between two kept states
  size_t scratch_bytes;
};

BackwardKernel portable_backward_kernel(int32_t dtype);
BackwardKernel avx2_backward_kernel(int32_t dtype);
BackwardKernel avx512_backward_kernel(int32_t dtype);

// As choose_kernel.
BackwardKernel choose_backward_kernel(int32_t dtype);

}  // namespace serpent
