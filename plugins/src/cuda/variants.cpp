#include "variants.h"

#include <algorithm>
#include <array>

#include "divide_up.h"
#include "failure.h"
#include "shape.h"
#include "workspace.h"

namespace serpent::cuda {
namespace {

// No row of this table has been timed on a GPU. The order follows from issue slots for one state of one channel and
// token, counted in SASS (sm_90, bf16, nvcc 13.0), and from how many warps a shape makes. exp2 and softplus alone take
// the last column's, on a unit of their own: more than that in a kernel's column means that issue is its limit.
//
//                 channels   scan_states   scan_tokens   exp2 unit
//                 of a warp
//   n6               64           9.8          12.0          9.3
//   n11              64           7.4           9.5          8.7
//   n22              32           6.9           9.9          8.4
//   n43              16           7.2          10.0          8.4
//   n11-narrow       32          10.7          14.6          9.5
//   n22-narrow       16          10.7          15.4          9.1
//   n43-narrow        8          11.0          15.9          9.1
//
// So a wide kernel (n22, n43) is best where it need not cut the picture into chunks, which costs a pass of scan_states.
// The narrow ones pay where the others would leave more than half of the places for warps empty. A single launch is
// chosen for N 22 and 43 at up to kSingleTokens pixels, where its tiles of channels are at least as many as the
// multiprocessors and the wide kernel in one chunk would not keep them busy: then it issues less than the kernels with
// chunks do, and is one launch rather than four. So with 132 multiprocessors nothing of the network is a single launch
// at batch 1: the 64 tiles of N 43 would leave half of them idle, which costs 20 us and more at 512 x 512 (counted as
// above, at 1.8 GHz) where at most three launches, some 9 us, are saved. All of this awaits a measurement;
// plugins/tests/test_variants.cpp has what is chosen.
constexpr std::array kVariants = {
    VariantInfo{"n22-single", ScanKernels::k22Narrow, ScanForm::kSingle, 22, 8, false},
    VariantInfo{"n43-single", ScanKernels::k43Narrow, ScanForm::kSingle, 43, 16, false},
    VariantInfo{"n6", ScanKernels::k6, ScanForm::kChunks, 6, 2, false},
    VariantInfo{"n11", ScanKernels::k11, ScanForm::kChunks, 11, 4, false},
    VariantInfo{"n22", ScanKernels::k22, ScanForm::kChunks, 22, 8, false},
    VariantInfo{"n43", ScanKernels::k43, ScanForm::kChunks, 43, 16, false},
    VariantInfo{"n11-narrow", ScanKernels::k11Narrow, ScanForm::kChunks, 11, 4, false},
    VariantInfo{"n22-narrow", ScanKernels::k22Narrow, ScanForm::kChunks, 22, 8, false},
    VariantInfo{"n43-narrow", ScanKernels::k43Narrow, ScanForm::kChunks, 43, 16, false},
    VariantInfo{"any", ScanKernels::kAny, ScanForm::kChunks, kMaxStates, kMaxRanks, true},
};

constexpr int64_t kBusyWarps = 8;       // of a multiprocessor, that hide each other's latency: two a scheduler
constexpr int64_t kResidentWarps = 16;  // that a multiprocessor has registers for at a time
constexpr int64_t kMaxChunkTokens = 2048;
constexpr int64_t kChunkStep = 32;       // chunks are a multiple of that many tokens: whole tiles in all parts
constexpr int64_t kSingleTokens = 1024;  // up to which a single launch is chosen
constexpr int64_t kMostTokens = int64_t{1} << 30;  // of a chunk: they are counted in 32 bits

bool takes(const VariantInfo& variant, const serpent_scan_shape& shape) {
  return variant.up_to ? shape.d_state <= variant.states && shape.dt_rank <= variant.ranks
                       : shape.d_state == variant.states && shape.dt_rank == variant.ranks;
}

int64_t tiles_of(const VariantInfo& variant, const serpent_scan_shape& shape) {
  const int64_t width = visit_variant(variant.kernels, [](auto v) -> int64_t { return v.kTileChannels; });
  return shape.batch * divide_up(shape.channels, width);
}

int64_t warps_of(const VariantInfo& variant, const serpent_scan_shape& shape, int64_t chunk_tokens) {
  return tiles_of(variant, shape) * kDirections * divide_up(shape.height * shape.width, chunk_tokens);
}

// Of the multiprocessor with the most warps, which is the last to finish.
bool busy(int64_t warps, int64_t multiprocessors) { return divide_up(warps, multiprocessors) >= kBusyWarps; }

bool busy_in_one_chunk(const VariantInfo& variant, const serpent_scan_shape& shape, int64_t multiprocessors) {
  return busy(warps_of(variant, shape, shape.height * shape.width), multiprocessors);
}

// The first kernel with chunks that takes the shape.
const VariantInfo& widest(const serpent_scan_shape& shape) {
  return *std::ranges::find_if(kVariants, [&](const VariantInfo& variant) {
    return variant.form == ScanForm::kChunks && takes(variant, shape);
  });
}

bool fills(const VariantInfo& variant, const serpent_scan_shape& shape, int64_t multiprocessors) {
  if (variant.form == ScanForm::kSingle) {
    return shape.height * shape.width <= kSingleTokens && tiles_of(variant, shape) >= multiprocessors &&
           !busy_in_one_chunk(widest(shape), shape, multiprocessors);
  }
  return busy(warps_of(variant, shape, kScanChunkTokens), multiprocessors);
}

// The first that fills the GPU, or the last, which has the most warps; one that takes any shape where no other does.
const VariantInfo& choose(const serpent_scan_shape& shape, int64_t multiprocessors) {
  const VariantInfo* chosen = nullptr;
  for (const VariantInfo& variant : kVariants) {
    if (!takes(variant, shape) || (chosen != nullptr && variant.up_to)) {
      continue;
    }
    chosen = &variant;
    if (fills(variant, shape, multiprocessors)) {
      break;
    }
  }
  return *chosen;  // check_cuda_shape left no shape that the last variant does not take
}

const VariantInfo& named(const std::string& name, const serpent_scan_shape& shape) {
  std::string names;
  for (const VariantInfo& variant : kVariants) {
    if (variant.name != name) {
      names += (names.empty() ? "" : ", ") + std::string(variant.name);
      continue;
    }
    if (!takes(variant, shape)) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT, "the CUDA variant '" + name + "' takes " + limits(variant) +
                                                "; this shape has d_state " + std::to_string(shape.d_state) +
                                                " and dt_rank " + std::to_string(shape.dt_rank));
    }
    return variant;
  }
  fail(SERPENT_STATUS_INVALID_ARGUMENT, "'" + name + "' is no CUDA variant; SERPENT_CUDA_VARIANT may be " + names);
}

// One chunk, which spares a pass, where that keeps the GPU busy. Else all chunks run at once if the shortest that the
// workspace allows are not too many for that. None is longer than kMaxChunkTokens.
int64_t chunk_length(const VariantInfo& variant, const serpent_scan_shape& shape, int64_t multiprocessors) {
  if (variant.form == ScanForm::kSingle) {
    return shape.height * shape.width;
  }
  const int64_t tokens = shape.height * shape.width;
  const int64_t chunks = busy_in_one_chunk(variant, shape, multiprocessors)
                             ? 1
                             : kResidentWarps * multiprocessors / warps_of(variant, shape, tokens);
  const int64_t length = divide_up(divide_up(tokens, std::max<int64_t>(chunks, 1)), kChunkStep) * kChunkStep;
  return std::clamp(length, kScanChunkTokens, kMaxChunkTokens);
}

// Parts cost a third pass over the tokens, and so must at least double what runs at once.
int parts_of_chunk(int64_t warps, int64_t most, int64_t multiprocessors) {
  int64_t parts = 1;
  while (2 * parts <= most && 2 * parts * warps <= kBusyWarps * multiprocessors) {
    parts *= 2;
  }
  return static_cast<int>(parts);
}

}  // namespace

std::span<const VariantInfo> scan_variants() { return kVariants; }

std::string limits(const VariantInfo& variant) {
  const std::string most = variant.up_to ? "up to " : "";
  return "d_state " + most + std::to_string(variant.states) + " and dt_rank " + most + std::to_string(variant.ranks);
}

ScanPlan plan_scan(const serpent_scan_shape& shape, const ScanTuning& tuning, int multiprocessors) {
  ScanPlan plan{};
  plan.variant = tuning.variant.empty() ? &choose(shape, multiprocessors) : &named(tuning.variant, shape);
  const VariantInfo& variant = *plan.variant;
  const bool single = variant.form == ScanForm::kSingle;
  plan.chunk_tokens =
      single || tuning.chunk_tokens == 0 ? chunk_length(variant, shape, multiprocessors) : tuning.chunk_tokens;
  if (plan.chunk_tokens < 1 || plan.chunk_tokens > kMostTokens) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "the CUDA variant '" + std::string(variant.name) + "' would have chunks of " +
                                              std::to_string(plan.chunk_tokens) + " pixels; expected 1 .. " +
                                              std::to_string(kMostTokens));
  }
  const int most_warps = visit_variant(variant.kernels, [](auto v) -> int { return v.kMaxWarps; });
  const int most_parts = most_warps / (single ? 4 : 2);
  plan.parts = tuning.parts == 0
                   ? parts_of_chunk(warps_of(variant, shape, plan.chunk_tokens), most_parts, multiprocessors)
                   : std::clamp(tuning.parts, 1, most_parts);
  return plan;
}

}  // namespace serpent::cuda
