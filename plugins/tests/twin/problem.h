// A scan's arguments: random numbers with the statistics of a real network, in the storage type and beside it in f64.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "oracle.h"

namespace twin_test {

// An array of exactly its size, so that AddressSanitizer sees an access outside, that starts `offset` elements past an
// aligned address: the C interface promises kernels no more than alignment to the element. Filled with NaN.
class Array {
 public:
  Array(serpent_dtype dtype, size_t count, size_t offset);

  void* data() const { return bytes_.get() + offset_ * element_; }
  size_t bytes() const { return count_ * element_; }
  void fill_with_nan();
  void assign(const std::vector<double>& values);
  std::vector<double> values() const;

 private:
  struct AlignedDelete {
    void operator()(unsigned char* bytes) const;
  };

  serpent_dtype dtype_;
  size_t element_, count_, offset_;
  std::unique_ptr<unsigned char, AlignedDelete> bytes_;
};

struct Options {
  serpent_scan_shape shape{1, 5, 9, 16, 6, 2, SERPENT_DTYPE_F32};
  bool slow_decay = false;  // dt in 1e-4 .. 1e-3: the state remembers thousands of pixels, and errors add up
  uint64_t seed = 0;        // of the numbers
};

// As Mamba initialises them: A near -(1 .. N), dt log-uniform in 1e-3 .. 1e-1. All are numbers of the type that the
// kernel gets them in, so that f64 means the same problem.
Inputs<double> make_inputs(const Options& options);

// `value` as an element of the type holds it.
double rounded(serpent_dtype dtype, double value);

template <class Real>
Inputs<Real> converted(const Inputs<double>& in) {
  const auto cast = [](const std::vector<double>& from) { return std::vector<Real>(from.begin(), from.end()); };
  return {cast(in.x), cast(in.x_dbl),  cast(in.dt_weight), cast(in.dt_bias),
          cast(in.A), cast(in.D_skip), cast(in.grad_y)};
}

}  // namespace twin_test
