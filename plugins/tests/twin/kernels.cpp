#include "kernels.h"

#include <cstdlib>

#include "backward_workspace.h"
#include "cuda/backward_launch.h"
#include "cuda/device.h"
#include "cuda/scan_cuda.h"
#include "cuda/variants.h"
#include "problem.h"
#include "workspace.h"

namespace twin_test {
namespace {

Array workspace_of(uint64_t bytes, size_t offset) {
  return {SERPENT_DTYPE_F32, static_cast<size_t>(bytes) / sizeof(float), offset};
}

}  // namespace

std::vector<std::string> variant_lines() {
  std::vector<std::string> lines;
  for (const serpent::cuda::VariantInfo& variant : serpent::cuda::scan_variants()) {
    const int tile = serpent::cuda::visit_variant(variant.kernels, [](auto v) -> int { return v.kTileChannels; });
    lines.push_back(std::string(variant.name) + " " + std::to_string(variant.states) + " " +
                    std::to_string(variant.ranks) + " " + std::to_string(tile));
  }
  return lines;
}

void run_forward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const Tuning& tuning,
                 size_t offset) {
  if (!tuning.any()) {
    const Array workspace = workspace_of(serpent::workspace_bytes(shape), offset);
    return serpent::scan_cuda(shape, tensors, serpent::choose_scan(shape), workspace.data(), nullptr);
  }
  const serpent::cuda::ScanPlan plan = serpent::cuda::plan_scan(
      shape, {tuning.variant, tuning.chunk, static_cast<int>(tuning.parts)}, serpent::cuda::device_multiprocessors());
  const Array workspace = workspace_of(serpent::scan_layout(shape, plan.chunk_tokens).bytes, offset);
  serpent::scan_cuda(shape, tensors, plan, workspace.data(), nullptr);
}

void run_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                  const serpent_scan_gradients& gradients, const Tuning& tuning, size_t offset) {
  if (!tuning.any()) {
    const Array workspace = workspace_of(serpent::backward_workspace_bytes(shape), offset);
    return serpent::scan_backward_cuda(shape, tensors, gradients, workspace.data(), nullptr);
  }
  serpent::BackwardTuning backward;
  backward.chunk_tokens = tuning.chunk != 0 ? tuning.chunk : backward.chunk_tokens;
  backward.warps_wanted = tuning.warps != 0 ? tuning.warps : backward.warps_wanted;
  const Array workspace = workspace_of(serpent::backward_layout(shape, backward).bytes, offset);
  serpent::cuda::launch_backward(shape, tensors, gradients, workspace.data(), nullptr, backward);
}

}  // namespace twin_test
