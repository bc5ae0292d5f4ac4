// The CUDA scan, or its stand-in where the library is built without CUDA.
#pragma once

#include "scan_plan.h"
#include "serpent/scan.h"

namespace serpent {

bool has_cuda() noexcept;

// Which kernels a scan of a checked shape, batch >= 1, runs on the current device; who runs a shape often asks once.
cuda::ScanPlan choose_scan(const serpent_scan_shape& shape);

// Checked arguments only, batch >= 1; `plan` is choose_scan's for this shape and device, or one that tests made with
// plan_scan; `workspace` has scan_layout(shape, plan.chunk_tokens).bytes, which for a plan of choose_scan are never
// more than workspace_bytes(shape); `stream` is a cudaStream_t.
void scan_cuda(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const cuda::ScanPlan& plan,
               void* workspace, void* stream);

// Checked arguments only, batch >= 0; `workspace` has backward_workspace_bytes(shape) bytes.
void scan_backward_cuda(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                        const serpent_scan_gradients& gradients, void* workspace, void* stream);

}  // namespace serpent
