// What the choice of kernels for a scan comes to. Host code.
#pragma once

#include <cstdint>

namespace serpent::cuda {

struct VariantInfo;

struct ScanPlan {
  const VariantInfo* variant;
  int64_t chunk_tokens;
  int parts;  // at most: shared memory may hold fewer
};

}  // namespace serpent::cuda
