#include "scan_backward_cpu.h"

#include "failure.h"

namespace serpent {

void scan_backward_cpu(const serpent_scan_shape&, const serpent_scan_tensors&, const serpent_scan_gradients&, int64_t) {
  fail(SERPENT_STATUS_UNSUPPORTED, "not written yet");
}

}  // namespace serpent
