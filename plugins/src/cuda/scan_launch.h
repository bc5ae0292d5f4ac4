// The CUDA scan on checked arguments, with a tuning that tests may choose.
#pragma once

#include <cstdint>

#include "serpent/scan.h"
#include "variants.h"

namespace serpent::cuda {

// Bytes of workspace under a plan: never more than workspace_bytes(shape), unless tests ask for shorter chunks.
uint64_t scan_workspace_bytes(const serpent_scan_shape& shape, const ScanPlan& plan);

// `workspace` has scan_workspace_bytes(shape, plan) bytes, aligned to 4.
void launch_scan(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const ScanPlan& plan,
                 void* workspace, void* stream);

}  // namespace serpent::cuda
