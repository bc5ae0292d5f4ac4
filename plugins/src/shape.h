// Checks of the sizes and pointers that callers pass in.
#pragma once

#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

constexpr int64_t kDirections = 4;
constexpr int64_t kMaxState = 256;   // N; the CPU's backward pass has arrays of this size, and of the next
constexpr int64_t kMaxDtRank = 256;  // R
constexpr int64_t kMaxCudaState = 64;
constexpr int64_t kMaxCudaDtRank = 64;

// Throws Failure naming the first size that is out of range, or whose arrays 64-bit offsets cannot address.
void check_shape(const serpent_scan_shape* shape, int64_t max_state = kMaxState, int64_t max_dt_rank = kMaxDtRank);

// check_shape, and the narrower limits of the CUDA kernels.
void check_cuda_shape(const serpent_scan_shape* shape);

// Throws Failure naming the first null pointer of a scan. An empty batch needs no pointers.
void check_tensors(const serpent_scan_shape& shape, const serpent_scan_tensors* tensors);

// Throws Failure naming the first pointer of a scan, or of a backward pass, which leaves y alone, that is not aligned
// to its elements: an access would end the CUDA context. Null pointers pass.
void check_cuda_alignment(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const void* workspace);
void check_cuda_alignment(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                          const serpent_scan_gradients& gradients, const void* workspace);

// Throws Failure naming the first null pointer of a backward pass. An empty batch needs those of the weights'
// gradients.
void check_gradients(const serpent_scan_shape& shape, const serpent_scan_tensors* tensors,
                     const serpent_scan_gradients* gradients);

}  // namespace serpent
