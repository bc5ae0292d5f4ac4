// The CPU kernel at widths and in forms that this machine need not have: 16 lanes, the arithmetic of AVX-512, lanes as
// arrays. The build defines SERPENT_VECTOR_BYTES, SERPENT_SCALES_BY_EXPONENT or SERPENT_LANE_ARRAYS.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/simd.h"

#if defined(SERPENT_SCALES_BY_EXPONENT) && !defined(SERPENT_USE_AVX512)
namespace serpent {
namespace {

// What AVX-512 does in one instruction each, lane by lane.
template <class Real, class Function>
Vector<Real> lanewise(Vector<Real> a, Vector<Real> b, Function function) {
  constexpr int64_t kLanes = Vector<Real>::kLanes;
  Real left[kLanes];
  Real right[kLanes];
  a.store(left);
  b.store(right);
  for (int64_t i = 0; i < kLanes; ++i) {
    left[i] = function(left[i], right[i]);
  }
  return Vector<Real>::load(left);
}

template <class Real>
Vector<Real> round_to_integral(Vector<Real> z) {
  return lanewise(z, z, [](Real value, Real) { return std::nearbyint(value); });
}

template <class Real>
Vector<Real> minus(Vector<Real> a, Vector<Real> b) {
  return lanewise(a, b, [](Real left, Real right) {
    const volatile Real exact_operand = left;
    return static_cast<Real>(exact_operand - right);
  });
}

template <class Real>
Vector<Real> scale(Vector<Real> a, Vector<Real> n) {
  return lanewise(a, n, [](Real value, Real exponent) {
    return std::ldexp(value, static_cast<int>(std::fmax(exponent, Real(-5000))));
  });
}

}  // namespace
}  // namespace serpent
#endif

#include "cpu/kernel_impl.h"

namespace {

using serpent::BFloat16;
using serpent::Half;
using serpent::Kernel;
using serpent::load;
using serpent::ScanTask;

int failures = 0;

void expect(bool holds, const char* what, const serpent_scan_shape& shape, double value) {
  if (!holds) {
    std::fprintf(stderr, "%s: %g at H %d W %d D %d N %d R %d dtype %d\n", what, value, static_cast<int>(shape.height),
                 static_cast<int>(shape.width), static_cast<int>(shape.channels), static_cast<int>(shape.d_state),
                 static_cast<int>(shape.dt_rank), shape.dtype);
    ++failures;
  }
}

// The formula of serpent/scan.h in f64.
template <class T, class Real>
std::vector<double> oracle(const serpent_scan_shape& s, const std::vector<T>& x, const std::vector<T>& x_dbl,
                           const std::vector<Real>* weights) {
  const int64_t columns = s.dt_rank + 2 * s.d_state;
  const int64_t tokens = s.height * s.width;
  std::vector<double> y(x.size());
  for (int64_t row = 0; row < 4 * s.channels; ++row) {
    const int64_t k = row / s.channels;
    const int64_t d = row % s.channels;
    std::vector<double> h(static_cast<size_t>(s.d_state));
    for (int64_t token = 0; token < tokens; ++token) {
      const int64_t position = k < 2 ? token : tokens - 1 - token;
      const int64_t pixel = k % 2 == 0 ? position : position % s.height * s.width + position / s.height;
      const T* numbers = &x_dbl[static_cast<size_t>((pixel * 4 + k) * columns)];
      double raw = weights[1][static_cast<size_t>(row)];
      for (int64_t r = 0; r < s.dt_rank; ++r) {
        raw += static_cast<double>(weights[0][static_cast<size_t>(row * s.dt_rank + r)]) * load(numbers[r]);
      }
      const double dt = std::fmax(raw, 0) + std::log1p(std::exp(-std::fabs(raw)));
      const auto at = static_cast<size_t>(pixel * s.channels + d);
      const double value = load(x[at]);
      y[at] += weights[3][static_cast<size_t>(row)] * value;
      for (int64_t n = 0; n < s.d_state; ++n) {
        double& state = h[static_cast<size_t>(n)];
        state *= std::exp(dt * weights[2][static_cast<size_t>(row * s.d_state + n)]);
        state += dt * load(numbers[s.dt_rank + n]) * value;
        y[at] += load(numbers[s.dt_rank + s.d_state + n]) * state;
      }
    }
  }
  return y;
}

template <class T, class Real>
void check(serpent_scan_shape shape, int32_t dtype, double bound) {
  shape.dtype = dtype;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto fill = [&](auto& numbers, int64_t count, auto value) {
    numbers.resize(static_cast<size_t>(count));
    for (auto& number : numbers) {
      value(number);
    }
  };
  const int64_t pixels = shape.height * shape.width;
  const int64_t rows = 4 * shape.channels;
  std::vector<T> x;
  std::vector<T> x_dbl;
  std::vector<T> y(static_cast<size_t>(pixels * shape.channels));
  std::vector<Real> weights[4];
  fill(x, pixels * shape.channels, [&](T& number) { serpent::store(normal(random), number); });
  fill(x_dbl, pixels * 4 * (shape.dt_rank + 2 * shape.d_state),
       [&](T& number) { serpent::store(normal(random), number); });
  fill(weights[0], rows * shape.dt_rank, [&](Real& number) { number = Real(0.3F) * normal(random); });
  fill(weights[1], rows, [&](Real& number) { number = normal(random) - 4; });
  fill(weights[2], rows * shape.d_state, [&](Real& number) { number = -std::exp(2 * normal(random)); });
  fill(weights[3], rows, [&](Real& number) { number = normal(random); });
  const serpent_scan_tensors tensors = {x.data(),          x_dbl.data(),      weights[0].data(), weights[1].data(),
                                        weights[2].data(), weights[3].data(), y.data()};

  const Kernel kernel = serpent::kernel_for(dtype);
  std::vector<Real> scratch(kernel.scratch_bytes(shape, shape.channels) / sizeof(Real));
  std::vector<Real> sums(static_cast<size_t>(4 * pixels * shape.channels));
  const ScanTask task = {0, 0, shape.channels, scratch.data()};
  kernel.scan_all(shape, tensors, task, sums.data());
  const std::vector<double> truth = oracle(shape, x, x_dbl, weights);
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    error += std::pow(load(y[i]) - truth[i], 2);
    norm += truth[i] * truth[i];
  }
  error = std::sqrt(error / norm);
  expect(error <= bound, "relative error", shape, error);

  const std::vector<T> at_once = y;
  for (int64_t k = 0; k < 4; ++k) {
    kernel.scan_one(shape, tensors, task, k, sums.data() + k * pixels * shape.channels);
  }
  kernel.merge(shape, tensors, task, sums.data(), 0, pixels);
  expect(std::memcmp(at_once.data(), y.data(), y.size() * sizeof(T)) == 0, "directions apart differ", shape, 1);
}

}  // namespace

int main() {
  const int64_t channels[] = {1, 7, 16, 17, 33};
  const int64_t states[] = {1, 5, 8, 9, 22};
  for (int i = 0; i < 5; ++i) {
    const serpent_scan_shape shape = {1, 5, 7 + 2 * i, channels[i], states[4 - i], 1 + i, 0};
    check<float, float>(shape, SERPENT_DTYPE_F32, 5e-7);
    check<double, double>(shape, SERPENT_DTYPE_F64, 2e-15);
    check<Half, float>(shape, SERPENT_DTYPE_F16, 0x1p-11);      // half an ulp of storage
    check<BFloat16, float>(shape, SERPENT_DTYPE_BF16, 0x1p-8);  // the same
  }
  if (failures == 0) {
    std::printf("all checks passed at %d bytes\n", SERPENT_VECTOR_BYTES);
  }
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
