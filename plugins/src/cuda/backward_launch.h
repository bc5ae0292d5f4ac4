// The CUDA backward pass on checked arguments, with a tuning that tests may choose: short chunks and one split make
// several chunks, and several channel tiles in one block, out of a few tokens.
#pragma once

#include "backward_workspace.h"
#include "serpent/scan.h"

namespace serpent::cuda {

// `workspace` has backward_layout(shape, tuning).bytes bytes.
void launch_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                     const serpent_scan_gradients& gradients, void* workspace, void* stream,
                     const BackwardTuning& tuning);

}  // namespace serpent::cuda
