// Stands in for the CUDA kernels in a build without them.
#include "failure.h"
#include "scan_cuda.h"

namespace serpent {
namespace {

[[noreturn]] void refuse() { fail(SERPENT_STATUS_UNSUPPORTED, "this native library was built without CUDA kernels"); }

}  // namespace

bool has_cuda() noexcept { return false; }

cuda::ScanPlan choose_scan(const serpent_scan_shape&) { refuse(); }

void scan_cuda(const serpent_scan_shape&, const serpent_scan_tensors&, const cuda::ScanPlan&, void*, void*) {
  refuse();
}

void scan_backward_cuda(const serpent_scan_shape&, const serpent_scan_tensors&, const serpent_scan_gradients&, void*,
                        void*) {
  refuse();
}

}  // namespace serpent
