// One scan with typed pointers, and small helpers. Internal linkage: see kernel_impl.h.
#pragma once

#include "serpent/scan.h"
#include "shape.h"
#include "storage.h"

namespace serpent {
namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T, class Real>
struct Problem {
  int64_t height, width, channels, d_state, dt_rank;
  const T* x;
  const T* x_dbl;
  const Real* dt_weight;
  const Real* dt_bias;
  const Real* A;
  const Real* D_skip;
  T* y;

  Problem(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors)
      : height(shape.height),
        width(shape.width),
        channels(shape.channels),
        d_state(shape.d_state),
        dt_rank(shape.dt_rank),
        x(static_cast<const T*>(tensors.x)),
        x_dbl(static_cast<const T*>(tensors.x_dbl)),
        dt_weight(static_cast<const Real*>(tensors.dt_weight)),
        dt_bias(static_cast<const Real*>(tensors.dt_bias)),
        A(static_cast<const Real*>(tensors.A)),
        D_skip(static_cast<const Real*>(tensors.D_skip)),
        y(static_cast<T*>(tensors.y)) {}

  int64_t tokens() const { return height * width; }
  int64_t columns() const { return dt_rank + 2 * d_state; }

  // Pixel that direction k visits as its token-th.
  int64_t pixel(int64_t k, int64_t token) const {
    const int64_t position = k >= 2 ? tokens() - 1 - token : token;
    return k % 2 == 0 ? position : position % height * width + position / height;
  }
};

}  // namespace
}  // namespace serpent
