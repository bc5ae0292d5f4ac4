// The scan of one channel tile, compiled once per instruction set by the kernel_*.cpp files.
//
// Everything here has internal linkage and calls no library function: a copy of a shared inline function
// compiled for AVX-512 must never be the one that the linker keeps for a machine without it.
#pragma once

#include "kernel.h"
#include "shape.h"
#include "storage.h"
#include "vector_math.h"

namespace serpent {
namespace {

constexpr int64_t kTokenBlock = 32;  // tokens whose dt, input and output stay in the L1 cache

template <class Real>
constexpr int64_t kTile = 64 / static_cast<int64_t>(sizeof(Real));  // channels: one cache line

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <int64_t kLanes, class Real>
inline void copy_lanes(const Real* from, Real* to) {
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    to[lane] = from[lane];
  }
}

// One scan with typed pointers.
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

// The parameters of one direction for one tile, channels innermost. Lanes past D hold zeros.
template <class Real>
struct TileWeights {
  static constexpr int64_t kLanes = kTile<Real>;
  Real dt_weight[kMaxDtRank][kLanes] = {};
  Real dt_bias[kLanes] = {};
  Real A[kMaxState][kLanes] = {};
  Real D_skip[kLanes] = {};

  template <class T>
  TileWeights(const Problem<T, Real>& problem, int64_t k, int64_t first, int64_t lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t row = k * problem.channels + first + lane;
      for (int64_t r = 0; r < problem.dt_rank; ++r) {
        dt_weight[r][lane] = problem.dt_weight[row * problem.dt_rank + r];
      }
      for (int64_t n = 0; n < problem.d_state; ++n) {
        A[n][lane] = problem.A[row * problem.d_state + n];
      }
      dt_bias[lane] = problem.dt_bias[row];
      D_skip[lane] = problem.D_skip[row];
    }
  }
};

// y_k of one picture, direction and channel tile into slab (tokens, kTile), indexed by pixel.
template <class T, class Real>
void scan_tile(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, int64_t picture, int64_t k,
               int64_t first, void* slab_memory) {
  const Problem<T, Real> problem(shape, tensors);
  Real* slab = static_cast<Real*>(slab_memory);
  constexpr int64_t kLanes = kTile<Real>;
  const int64_t lanes = smaller(kLanes, problem.channels - first);
  const int64_t R = problem.dt_rank;
  const int64_t N = problem.d_state;
  const int64_t tokens = problem.tokens();
  const TileWeights<Real> weights(problem, k, first, lanes);

  Real state[kMaxState][kLanes] = {};
  Real dt[kTokenBlock][kLanes];
  Real dt_x[kTokenBlock][kLanes];
  Real out[kTokenBlock][kLanes];
  Real in_state[kTokenBlock][kMaxState];   // B
  Real out_state[kTokenBlock][kMaxState];  // C

  for (int64_t start = 0; start < tokens; start += kTokenBlock) {
    const int64_t block = smaller(kTokenBlock, tokens - start);
    for (int64_t t = 0; t < block; ++t) {
      const int64_t row = picture * tokens + problem.pixel(k, start + t);
      const T* columns = problem.x_dbl + (row * kDirections + k) * problem.columns();
      Real x[kLanes] = {};
      for (int64_t lane = 0; lane < lanes; ++lane) {
        x[lane] = load(problem.x[row * problem.channels + first + lane]);
      }
      Real raw[kLanes];
      copy_lanes<kLanes>(weights.dt_bias, raw);
      for (int64_t r = 0; r < R; ++r) {
        const Real value = load(columns[r]);
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          raw[lane] += weights.dt_weight[r][lane] * value;
        }
      }
      for (int64_t n = 0; n < N; ++n) {
        in_state[t][n] = load(columns[R + n]);
        out_state[t][n] = load(columns[R + N + n]);
      }
      SERPENT_VECTORIZE
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        dt[t][lane] = softplus(raw[lane]);
        dt_x[t][lane] = dt[t][lane] * x[lane];
        out[t][lane] = weights.D_skip[lane] * x[lane];
      }
    }
    for (int64_t n = 0; n < N; ++n) {
      Real h[kLanes];
      copy_lanes<kLanes>(state[n], h);
      for (int64_t t = 0; t < block; ++t) {
        const Real b = in_state[t][n];
        const Real c = out_state[t][n];
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          h[lane] = exp_scan(dt[t][lane] * weights.A[n][lane]) * h[lane] + dt_x[t][lane] * b;
          out[t][lane] += c * h[lane];
        }
      }
      copy_lanes<kLanes>(h, state[n]);
    }
    for (int64_t t = 0; t < block; ++t) {
      copy_lanes<kLanes>(out[t], slab + problem.pixel(k, start + t) * kLanes);
    }
  }
}

// y of one tile for the pixels [begin, end): the four slabs added as (0 + 1) + (2 + 3).
template <class T, class Real>
void merge_tile(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, int64_t picture, int64_t first,
                const void* slab_memory, int64_t begin, int64_t end) {
  const Problem<T, Real> problem(shape, tensors);
  const Real* slabs = static_cast<const Real*>(slab_memory);
  constexpr int64_t kLanes = kTile<Real>;
  const int64_t lanes = smaller(kLanes, problem.channels - first);
  const int64_t stride = problem.tokens() * kLanes;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const Real* slab = slabs + pixel * kLanes;
    T* y = problem.y + (picture * problem.tokens() + pixel) * problem.channels + first;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      store((slab[lane] + slab[lane + stride]) + (slab[lane + 2 * stride] + slab[lane + 3 * stride]), y[lane]);
    }
  }
}

template <class T, class Real>
constexpr Kernel make_kernel() {
  return {scan_tile<T, Real>, merge_tile<T, Real>, kTile<Real>, sizeof(Real)};
}

inline Kernel kernel_for(int32_t dtype) {
  switch (dtype) {
    case SERPENT_DTYPE_F32:
      return make_kernel<float, float>();
    case SERPENT_DTYPE_F64:
      return make_kernel<double, double>();
    case SERPENT_DTYPE_F16:
      return make_kernel<Half, float>();
    default:  // check_shape left only bf16
      return make_kernel<BFloat16, float>();
  }
}

}  // namespace
}  // namespace serpent
