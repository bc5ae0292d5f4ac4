// The gradients of the selective scan on the CPU.
#pragma once

#include "serpent/scan.h"

namespace serpent {

// Checked arguments only; shape.batch may be 0. Bit-equal for every num_threads >= 1. Throws std::bad_alloc.
void scan_backward_cpu(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                       const serpent_scan_gradients& gradients, int64_t num_threads);

}  // namespace serpent
