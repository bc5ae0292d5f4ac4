// The selective scan on the CPU.
#pragma once

#include "serpent/scan.h"

namespace serpent {

// Checked arguments only. Bit-equal for every num_threads >= 1. Throws std::bad_alloc.
void scan_cpu(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, int64_t num_threads);

}  // namespace serpent
