#include <cstdlib>

#include "failure.h"
#include "scan_cuda.h"
#include "scan_run.h"
#include "workspace.h"

namespace serpent {

bool has_cuda() noexcept { return true; }

cuda::ScanPlan choose_scan(const serpent_scan_shape& shape) {
  const char* forced = std::getenv("SERPENT_CUDA_VARIANT");
  return cuda::plan_scan(shape, {.variant = forced != nullptr ? forced : ""}, cuda::device_multiprocessors());
}

void scan_cuda(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const cuda::ScanPlan& plan,
               void* workspace, void* stream) {
  const ScanLayout layout = scan_layout(shape, plan.chunk_tokens);
  const auto part = [&](uint64_t start) {
    return reinterpret_cast<float*>(static_cast<unsigned char*>(workspace) + start);
  };
  cuda::ScanRun run{{}, tensors, plan, stream};
  cuda::ScanSizes& sizes = run.sizes;
  sizes.batch = shape.batch;
  sizes.height = shape.height;
  sizes.width = shape.width;
  sizes.tokens = layout.tokens;
  sizes.channels = shape.channels;
  sizes.chunk_tokens = layout.chunk_tokens;
  sizes.chunks = layout.chunks;
  sizes.states = static_cast<int>(shape.d_state);
  sizes.ranks = static_cast<int>(shape.dt_rank);
  sizes.dt_weight = static_cast<const float*>(tensors.dt_weight);
  sizes.dt_bias = static_cast<const float*>(tensors.dt_bias);
  sizes.A = static_cast<const float*>(tensors.A);
  sizes.D_skip = static_cast<const float*>(tensors.D_skip);
  sizes.chunk_states = part(layout.states);
  sizes.dt_sums = part(layout.dt_sums);
  sizes.row_image = part(layout.row_image);
  sizes.column_image = part(layout.column_image);
  switch (shape.dtype) {
    case SERPENT_DTYPE_F32:
      return cuda::run_scan<float>(run);
    case SERPENT_DTYPE_F16:
      return cuda::run_scan<cuda::Half>(run);
    case SERPENT_DTYPE_BF16:
      return cuda::run_scan<cuda::BFloat16>(run);
    default:
      fail(SERPENT_STATUS_INTERNAL, "dtype " + std::to_string(shape.dtype) + " reached the CUDA scan");
  }
}

}  // namespace serpent
