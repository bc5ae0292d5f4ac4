// Arithmetic of the scan kernels.
#pragma once

#include <cmath>

#include "device.h"

namespace serpent::cuda {

constexpr float kLog2OfE = 1.4426950408889634F;

// log1p(e) / e for e in [0, 1], to 1.5e-7: minimax in the relative error, exact at 0.
SERPENT_DEVICE float log1p_ratio(float e) {
  float p = 0.0053648045F;
  p = fma(p, e, -0.030065713F);
  p = fma(p, e, 0.07920441F);
  p = fma(p, e, -0.13753791F);
  p = fma(p, e, 0.1915365F);
  p = fma(p, e, -0.24857162F);
  p = fma(p, e, 0.3332132F);
  p = fma(p, e, -0.49999648F);
  return fma(p, e, 1.0F);
}

// max(v, 0) + log1p(exp(-|v|)). A polynomial, since the unit that computes exp2 and log2 is the busy one.
SERPENT_DEVICE float softplus(float v) {
  const float e = exp2_fast(-kLog2OfE * std::fabs(v));
  return fma(e, log1p_ratio(e), std::fmax(v, 0.0F));
}

}  // namespace serpent::cuda
