#include "kernels.h"

#include <memory>

#include "cuda/backward_launch.h"
#include "failure.h"
#include "problem.h"

namespace twin_test {

std::vector<std::string> variant_names() { return {}; }

void run_forward(const serpent_scan_shape&, const serpent_scan_tensors&, const Tuning&) {
  serpent::fail(SERPENT_STATUS_INTERNAL, "pending");
}

void run_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                  const serpent_scan_gradients& gradients, const Tuning& tuning) {
  serpent::BackwardTuning backward;
  if (tuning.chunk != 0) {
    backward.chunk_tokens = tuning.chunk;
  }
  if (tuning.warps != 0) {
    backward.warps_wanted = tuning.warps;
  }
  const Array workspace(SERPENT_DTYPE_F32, serpent::backward_layout(shape, backward).bytes / sizeof(float), 0);
  serpent::cuda::launch_backward(shape, tensors, gradients, workspace.data(), nullptr, backward);
}

}  // namespace twin_test
