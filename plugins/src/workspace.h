// Device workspace of the CUDA scan: host-only arithmetic on the sizes.
#pragma once

#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

// Bytes for `shape` under revision SERPENT_SCAN_SCHEMA. Never less for a larger shape.
uint64_t workspace_bytes(const serpent_scan_shape& shape);

// The same for the backward pass, which no plan contains: without a revision.
uint64_t backward_workspace_bytes(const serpent_scan_shape& shape);

}  // namespace serpent
