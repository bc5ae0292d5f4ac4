// The selective scan as inference engines without a SIMD kernel run it: per token and channel one scalar loop over
// the states, libm's exponential in it, state in memory, B and C read in place, dt projected per token and channel.
// In f32 it is the slow peer; in f64 it is the exact result, since it shares no code with the kernels.
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

struct Sizes {
  int64_t batch, height, width, channels, d_state, dt_rank;
};

template <class Real>
struct Tensors {
  const Real *x, *x_dbl, *dt_weight, *dt_bias, *A, *D_skip;
  Real* y;
};

template <class Real>
Real softplus(Real v) {
  return (v > 0 ? v : Real(0)) + std::log1p(std::exp(-std::fabs(v)));
}

// All four directions of the channels [first, last) of one picture; y of these channels belongs to this thread alone.
template <class Real>
void scan_channels(const Sizes& s, const Tensors<Real>& t, int64_t picture, int64_t first, int64_t last) {
  const int64_t N = s.d_state;
  const int64_t R = s.dt_rank;
  const int64_t tokens = s.height * s.width;
  std::vector<Real> states(static_cast<size_t>((last - first) * N));
  for (int64_t k = 0; k < 4; ++k) {
    states.assign(states.size(), Real(0));
    for (int64_t token = 0; token < tokens; ++token) {
      const int64_t position = k >= 2 ? tokens - 1 - token : token;
      const int64_t pixel = k % 2 == 0 ? position : position % s.height * s.width + position / s.height;
      const int64_t row = picture * tokens + pixel;
      const Real* dt_r = t.x_dbl + (row * 4 + k) * (R + 2 * N);
      const Real* B = dt_r + R;
      const Real* C = B + N;
      for (int64_t d = first; d < last; ++d) {
        const int64_t channel = k * s.channels + d;
        Real raw = t.dt_bias[channel];
        for (int64_t r = 0; r < R; ++r) {
          raw += t.dt_weight[channel * R + r] * dt_r[r];
        }
        const Real dt = softplus(raw);
        const Real x = t.x[row * s.channels + d];
        const Real dt_x = dt * x;
        const Real* A = t.A + channel * N;
        Real* __restrict h = states.data() + (d - first) * N;
        Real sum = t.D_skip[channel] * x;
        for (int64_t n = 0; n < N; ++n) {
          h[n] = h[n] * std::exp(dt * A[n]) + B[n] * dt_x;
          sum += h[n] * C[n];
        }
        Real& y = t.y[row * s.channels + d];
        y = k == 0 ? sum : y + sum;
      }
    }
  }
}

// Every thread has an equal share of the channels of each picture.
template <class Real>
void scan(const Sizes& s, const Tensors<Real>& t, int64_t threads) {
  const auto share = [&](int64_t part) {
    for (int64_t picture = 0; picture < s.batch; ++picture) {
      scan_channels(s, t, picture, s.channels * part / threads, s.channels * (part + 1) / threads);
    }
  };
  std::vector<std::thread> others;
  for (int64_t part = 1; part < threads; ++part) {
    others.emplace_back(share, part);
  }
  share(0);
  for (std::thread& other : others) {
    other.join();
  }
}

}  // namespace

extern "C" void scalar_scan_f32(const Sizes* sizes, const Tensors<float>* tensors, int64_t threads) {
  scan(*sizes, *tensors, threads);
}

extern "C" void scalar_scan_f64(const Sizes* sizes, const Tensors<double>* tensors, int64_t threads) {
  scan(*sizes, *tensors, threads);
}
