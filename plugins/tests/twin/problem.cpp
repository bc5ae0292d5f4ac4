#include "problem.h"

#include <cmath>
#include <cstring>
#include <new>
#include <numbers>
#include <random>

#include "cpu/storage.h"

namespace twin_test {
namespace {

constexpr std::align_val_t kAlignment{256};  // of device memory

size_t element_bytes(serpent_dtype dtype) { return dtype == SERPENT_DTYPE_F32 ? 4 : 2; }

void put(serpent_dtype dtype, double value, unsigned char* to) {
  const auto single = static_cast<float>(value);
  if (dtype == SERPENT_DTYPE_F32) {
    std::memcpy(to, &single, 4);
  } else if (dtype == SERPENT_DTYPE_F16) {
    serpent::Half half;
    serpent::store(single, half);
    std::memcpy(to, &half, 2);
  } else {
    serpent::BFloat16 half;
    serpent::store(single, half);
    std::memcpy(to, &half, 2);
  }
}

double get(serpent_dtype dtype, const unsigned char* from) {
  float value;
  serpent::Half half;
  serpent::BFloat16 bfloat16;
  switch (dtype) {
    case SERPENT_DTYPE_F32:
      std::memcpy(&value, from, 4);
      return value;
    case SERPENT_DTYPE_F16:
      std::memcpy(&half, from, 2);
      return serpent::load(half);
    default:
      std::memcpy(&bfloat16, from, 2);
      return serpent::load(bfloat16);
  }
}

// The standard's distributions differ from library to library; these do not.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }

  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

 private:
  std::mt19937_64 engine_;
};

template <class Next>
std::vector<double> numbers(serpent_dtype dtype, int64_t count, const Next& next) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) {
    value = rounded(dtype, next());
  }
  return values;
}

}  // namespace

void Array::AlignedDelete::operator()(unsigned char* bytes) const { operator delete(bytes, kAlignment); }

Array::Array(serpent_dtype dtype, size_t count, size_t offset)
    : dtype_(dtype),
      element_(element_bytes(dtype)),
      count_(count),
      offset_(offset),
      bytes_(static_cast<unsigned char*>(operator new((offset + count) * element_, kAlignment))) {
  fill_with_nan();
}

void Array::fill_with_nan() { std::memset(data(), 0xff, bytes()); }

void Array::assign(const std::vector<double>& values) {
  for (size_t i = 0; i < count_; ++i) {
    put(dtype_, values[i], static_cast<unsigned char*>(data()) + i * element_);
  }
}

std::vector<double> Array::values() const {
  std::vector<double> values(count_);
  for (size_t i = 0; i < count_; ++i) {
    values[i] = get(dtype_, static_cast<const unsigned char*>(data()) + i * element_);
  }
  return values;
}

double rounded(serpent_dtype dtype, double value) {
  unsigned char bytes[4];
  put(dtype, value, bytes);
  return get(dtype, bytes);
}

Inputs<double> make_inputs(const Options& options) {
  const serpent_scan_shape& shape = options.shape;
  const auto dtype = static_cast<serpent_dtype>(shape.dtype);
  const bool slow = options.slow_decay;
  const int64_t pixels = shape.batch * shape.height * shape.width;
  const int64_t rows = 4 * shape.channels;
  Random random(options.seed);
  const auto normal = [&] { return random.normal(); };

  Inputs<double> in;
  in.x = numbers(dtype, pixels * shape.channels, [&] {
    const double v = 2 * random.normal();
    const double silu = v / (1 + std::exp(-v));
    return slow ? std::fabs(silu) : silu;
  });
  in.x_dbl = numbers(dtype, pixels * 4 * (shape.dt_rank + 2 * shape.d_state),
                     [&] { return slow ? std::fabs(random.normal()) : random.normal(); });
  const double spread = slow ? 0 : 0.5 / std::sqrt(static_cast<double>(shape.dt_rank));
  in.dt_weight = numbers(SERPENT_DTYPE_F32, rows * shape.dt_rank, [&] { return spread * random.normal(); });
  in.dt_bias = numbers(SERPENT_DTYPE_F32, rows, [&] {
    const double low = slow ? 1e-4 : 1e-3;
    const double dt = low * std::pow(slow ? 10 : 100, random.uniform());
    return dt + std::log(-std::expm1(-dt));  // the inverse of softplus
  });
  int64_t n = 0;
  in.A = numbers(SERPENT_DTYPE_F32, rows * shape.d_state, [&] {
    const auto rate = static_cast<double>(slow ? 1 : n++ % shape.d_state + 1);
    return -rate * (0.9 + 0.2 * random.uniform());
  });
  in.D_skip = numbers(SERPENT_DTYPE_F32, rows, [&] { return slow ? 0 : 1 + 0.1 * random.normal(); });
  in.grad_y = numbers(dtype, pixels * shape.channels, normal);
  return in;
}

}  // namespace twin_test
