// Which kernels a scan runs: the one table of variants, and the choice from it. Host code, needs no GPU.
//
// SERPENT_CUDA_VARIANT may be one of
//   n6, n11, n22, n43                      the scales of the network, by their N
//   n11-narrow, n22-narrow, n43-narrow     the same with fewer states a thread, and so more threads, for small pictures
//   n22-single, n43-single                 the same in a single launch
//   any                                    every N and R up to 64
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "scan_plan.h"
#include "scan_variant.h"
#include "serpent/scan.h"

namespace serpent::cuda {

enum class ScanForm {
  kChunks,  // chunk states, carry, scan, sum: four launches, or two where there is a single chunk
  kSingle,  // one launch; a block has a tile of channels of a whole picture
};

struct VariantInfo {
  std::string_view name;
  ScanKernels kernels;
  ScanForm form;
  int states, ranks;  // N and R that it takes, or at most takes if `up_to`
  bool up_to;
};

// In the order in which they are tried.
std::span<const VariantInfo> scan_variants();

// "d_state 22 and dt_rank 8", "d_state up to 64 and dt_rank up to 64".
std::string limits(const VariantInfo& variant);

// What a launch may be told; what is left at 0 or empty is chosen here. Results differ by rounding only.
struct ScanTuning {
  std::string variant;
  int64_t chunk_tokens = 0;
  int parts = 0;  // of each chunk, at most
};

// Throws Failure where `tuning` names no variant, or one that does not take the shape.
ScanPlan plan_scan(const serpent_scan_shape& shape, const ScanTuning& tuning, int multiprocessors);

}  // namespace serpent::cuda
