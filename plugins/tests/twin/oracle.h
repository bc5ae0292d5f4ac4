// The scan and its gradients as plain loops, one pixel after the other, in f64 (the truth) or in f32 (what the same
// formulas cost in that precision). Shares nothing with the kernels but the formulas of serpent/scan.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "serpent/scan.h"

namespace twin_test {

template <class Real>
struct Inputs {
  std::vector<Real> x, x_dbl, dt_weight, dt_bias, A, D_skip, grad_y;
};

template <class Real>
struct Results {
  std::vector<Real> y, x, x_dbl, dt_weight, dt_bias, A, D_skip;  // y, and the gradients of the inputs
};

// Pixel of a direction's step: 0 row-major, 1 column-major, 2 and 3 their reverses.
inline int64_t pixel_of(const serpent_scan_shape& shape, int64_t direction, int64_t step) {
  if (direction >= 2) {
    step = shape.height * shape.width - 1 - step;
  }
  return direction % 2 == 0 ? step : step % shape.height * shape.width + step / shape.height;
}

// One direction of one channel of one picture: where its numbers lie, and its two passes.
template <class Real>
class Sequence {
 public:
  Sequence(const serpent_scan_shape& shape, const Inputs<Real>& in, Results<Real>& out, int64_t b, int64_t k, int64_t d)
      : shape_(shape), in_(in), out_(out), picture_(b * shape.height * shape.width), k_(k), d_(d) {
    const auto [N, R] = std::pair(shape.d_state, shape.dt_rank);
    row_ = k * shape.channels + d;
    columns_ = 4 * (R + 2 * N);
    first_ = k * (R + 2 * N);
  }

  // Keeps every state and dt for the pass back.
  void forward() {
    const int64_t N = shape_.d_state;
    std::vector<Real> h(N, 0);
    for (int64_t step = 0; step < shape_.height * shape_.width; ++step) {
      const auto [at_x, at_dbl] = places(step);
      Real v = in_.dt_bias[row_];
      for (int64_t r = 0; r < shape_.dt_rank; ++r) {
        v += in_.dt_weight[row_ * shape_.dt_rank + r] * in_.x_dbl[at_dbl + r];
      }
      const Real dt = std::fmax(v, Real(0)) + std::log1p(std::exp(-std::fabs(v)));
      const Real x = in_.x[at_x];
      Real y = in_.D_skip[row_] * x;
      for (int64_t n = 0; n < N; ++n) {
        h[n] = std::exp(dt * in_.A[row_ * N + n]) * h[n] + dt * in_.x_dbl[at_dbl + shape_.dt_rank + n] * x;
        y += in_.x_dbl[at_dbl + shape_.dt_rank + N + n] * h[n];
      }
      out_.y[at_x] += y;
      v_.push_back(v);
      dt_.push_back(dt);
      h_.insert(h_.end(), h.begin(), h.end());
    }
  }

  // g is dL/dh of the step's own state, including what later steps make of it.
  void backward() {
    const auto [N, R] = std::pair(shape_.d_state, shape_.dt_rank);
    std::vector<Real> later(N, 0);
    for (int64_t step = shape_.height * shape_.width - 1; step >= 0; --step) {
      const auto [at_x, at_dbl] = places(step);
      const Real x = in_.x[at_x];
      const Real grad_y = in_.grad_y[at_x];
      const Real dt = dt_[step];
      Real grad_dt = 0;
      Real grad_x = in_.D_skip[row_] * grad_y;
      for (int64_t n = 0; n < N; ++n) {
        const int64_t at_b = at_dbl + R + n;
        const int64_t at_c = at_b + N;
        const Real rate = in_.A[row_ * N + n];
        const Real decay = std::exp(dt * rate);
        const Real kept = step == 0 ? Real(0) : decay * h_[(step - 1) * N + n];
        const Real g = in_.x_dbl[at_c] * grad_y + later[n];
        out_.x_dbl[at_c] += grad_y * h_[step * N + n];
        out_.x_dbl[at_b] += g * dt * x;
        out_.A[row_ * N + n] += g * kept * dt;
        grad_dt += g * (kept * rate + in_.x_dbl[at_b] * x);
        grad_x += g * dt * in_.x_dbl[at_b];
        later[n] = decay * g;
      }
      const Real grad_v = grad_dt / (1 + std::exp(-v_[step]));
      for (int64_t r = 0; r < R; ++r) {
        out_.x_dbl[at_dbl + r] += grad_v * in_.dt_weight[row_ * R + r];
        out_.dt_weight[row_ * R + r] += grad_v * in_.x_dbl[at_dbl + r];
      }
      out_.dt_bias[row_] += grad_v;
      out_.D_skip[row_] += grad_y * x;
      out_.x[at_x] += grad_x;
    }
  }

 private:
  std::pair<int64_t, int64_t> places(int64_t step) const {
    const int64_t pixel = picture_ + pixel_of(shape_, k_, step);
    return {pixel * shape_.channels + d_, pixel * columns_ + first_};
  }

  const serpent_scan_shape& shape_;
  const Inputs<Real>& in_;
  Results<Real>& out_;
  int64_t picture_, k_, d_, row_, columns_, first_;
  std::vector<Real> v_, dt_, h_;
};

template <class Real>
Results<Real> oracle(const serpent_scan_shape& shape, const Inputs<Real>& in) {
  Results<Real> out;
  const auto zeros = [](const std::vector<Real>& like) { return std::vector<Real>(like.size(), 0); };
  out = {zeros(in.x),       zeros(in.x), zeros(in.x_dbl), zeros(in.dt_weight),
         zeros(in.dt_bias), zeros(in.A), zeros(in.D_skip)};
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t k = 0; k < 4; ++k) {
      for (int64_t d = 0; d < shape.channels; ++d) {
        Sequence<Real> sequence(shape, in, out, b, k, d);
        sequence.forward();
        sequence.backward();
      }
    }
  }
  return out;
}

}  // namespace twin_test
