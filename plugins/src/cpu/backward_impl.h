// The backward pass of one direction of one channel tile, compiled once per instruction set.
//
// Per channel, with gy = dL/dy, g_n = dL/dh_n and h' the state before a token, tokens taken in reverse:
//   g_n = C_n gy + (a_n g_n of the next token)      a_n = exp(dt A_n)
//   dL/dC_n = gy h_n                                 summed over channels
//   dL/dB_n = dt x g_n                               summed over channels
//   dL/dx   = dt sum_n B_n g_n + D_skip gy
//   dL/d dt = x sum_n B_n g_n + sum_n A_n a_n g_n h'_n
//   dL/dA_n = dt a_n g_n h'_n                        summed over tokens
//   dL/d raw = dL/d dt * sigmoid(raw)                raw = dt_weight . dt_r + dt_bias, dt = softplus(raw)
//
// A first pass along the direction keeps the state before every chunk of tokens. The second takes the chunks from the
// last to the first, computes the decays and states of a chunk again, one n at a time, and walks them backwards: two
// exponentials for each token, channel and n.
#pragma once

#include "backward_kernel.h"
#include "kernel_impl.h"

namespace serpent {
namespace {

constexpr int64_t kBackwardChunk = 32;

template <class Real>
constexpr int64_t kBackwardTile = 128 / static_cast<int64_t>(sizeof(Real));

// Values of one chunk, channels innermost, and sums over its tokens.
template <class Real>
struct BackwardScratch {
  static constexpr int64_t kLanes = kBackwardTile<Real>;
  using Rows = Real[kBackwardChunk][kLanes];
  Rows x, grad_y, dt, dt_x;
  Rows sigmoid;
  Rows grad_drive;  // sum_n B_n g_n
  Rows grad_decay;  // sum_n A_n a_n g_n h'_n
  Rows decay;
  Real state[kBackwardChunk + 1][kLanes];
  Real columns[kBackwardChunk * (kMaxDtRank + 2 * kMaxState)];
  Real dt_weight[kMaxDtRank][kLanes];
  Real dt_bias[kLanes];
  Real A[kMaxState][kLanes];
  Real D_skip[kLanes];
};

template <class T, class Real>
void run_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const void* grad_y_memory,
                  const BackwardTask& task) {
  constexpr int64_t kLanes = kBackwardTile<Real>;
  const Problem<T, Real> problem(shape, tensors);
  const T* grad_y = static_cast<const T*>(grad_y_memory);
  auto& s = *static_cast<BackwardScratch<Real>*>(task.scratch);
  Real* grad_x = static_cast<Real*>(task.grad_x);
  Real* grad_x_dbl = static_cast<Real*>(task.grad_x_dbl);
  Real* chunk_states = static_cast<Real*>(task.chunk_states);
  const int64_t k = task.direction;
  const int64_t lanes = smaller(kLanes, problem.channels - task.first);
  const int64_t R = problem.dt_rank;
  const int64_t N = problem.d_state;
  const int64_t columns = problem.columns();
  const int64_t tokens = problem.tokens();

  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const bool real = lane < lanes;
    const int64_t row = k * problem.channels + task.first + (real ? lane : 0);
    for (int64_t r = 0; r < R; ++r) {
      s.dt_weight[r][lane] = real ? problem.dt_weight[row * R + r] : Real(0);
    }
    for (int64_t n = 0; n < N; ++n) {
      s.A[n][lane] = real ? problem.A[row * N + n] : Real(0);
    }
    s.dt_bias[lane] = real ? problem.dt_bias[row] : Real(0);
    s.D_skip[lane] = real ? problem.D_skip[row] : Real(0);
  }
  for (int64_t i = 0; i < (N + R + 2) * kLanes; ++i) {
    task.weights[i] = 0;
  }

  const auto stage = [&](int64_t start, int64_t count, bool backward) {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t row = task.picture * tokens + problem.pixel(k, start + t);
      const T* from = problem.x_dbl + (row * kDirections + k) * columns;
      for (int64_t j = 0; j < columns; ++j) {
        s.columns[t * columns + j] = load(from[j]);
      }
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t at = row * problem.channels + task.first + lane;
        s.x[t][lane] = lane < lanes ? load(problem.x[at]) : Real(0);
        if (backward) {
          s.grad_y[t][lane] = lane < lanes ? load(grad_y[at]) : Real(0);
        }
      }
      Real raw[kLanes] = {};  // the bias comes last: sums near its size would lose what the small terms hold
      for (int64_t r = 0; r < R; ++r) {
        const Real value = s.columns[t * columns + r];
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          raw[lane] += s.dt_weight[r][lane] * value;
        }
      }
      SERPENT_VECTORIZE
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        raw[lane] += s.dt_bias[lane];
        s.dt[t][lane] = softplus(raw[lane]);
        s.dt_x[t][lane] = s.dt[t][lane] * s.x[t][lane];
        const Real e = exp_scan(-absolute(raw[lane]));
        s.sigmoid[t][lane] = (raw[lane] < 0 ? e : Real(1)) / (Real(1) + e);
        s.grad_drive[t][lane] = 0;
        s.grad_decay[t][lane] = 0;
      }
    }
  };

  const int64_t chunks = (tokens + kBackwardChunk - 1) / kBackwardChunk;
  for (int64_t i = 0; i < N * kLanes; ++i) {
    chunk_states[i] = 0;
  }
  for (int64_t chunk = 0; chunk + 1 < chunks; ++chunk) {
    stage(chunk * kBackwardChunk, kBackwardChunk, false);
    for (int64_t n = 0; n < N; ++n) {
      Real h[kLanes];
      copy_lanes<kLanes>(chunk_states + (chunk * N + n) * kLanes, h);
      for (int64_t t = 0; t < kBackwardChunk; ++t) {
        const Real b = s.columns[t * columns + R + n];
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          h[lane] = exp_scan(s.dt[t][lane] * s.A[n][lane]) * h[lane] + s.dt_x[t][lane] * b;
        }
      }
      copy_lanes<kLanes>(h, chunk_states + ((chunk + 1) * N + n) * kLanes);
    }
  }

  Real carry[kMaxState][kLanes] = {};
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    const int64_t start = chunk * kBackwardChunk;
    const int64_t count = smaller(kBackwardChunk, tokens - start);
    stage(start, count, true);
    Real* grad_columns = grad_x_dbl + start * columns;
    for (int64_t n = 0; n < N; ++n) {
      copy_lanes<kLanes>(chunk_states + (chunk * N + n) * kLanes, s.state[0]);
      for (int64_t t = 0; t < count; ++t) {
        const Real b = s.columns[t * columns + R + n];
        Real sum = 0;
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          s.decay[t][lane] = exp_scan(s.dt[t][lane] * s.A[n][lane]);
          s.state[t + 1][lane] = s.decay[t][lane] * s.state[t][lane] + s.dt_x[t][lane] * b;
        }
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          sum += s.grad_y[t][lane] * s.state[t + 1][lane];
        }
        grad_columns[t * columns + R + N + n] = sum;
      }
      Real grad_A[kLanes] = {};
      for (int64_t t = count - 1; t >= 0; --t) {
        const Real b = s.columns[t * columns + R + n];
        const Real c = s.columns[t * columns + R + N + n];
        Real g[kLanes];
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          g[lane] = c * s.grad_y[t][lane] + carry[n][lane];
          s.grad_drive[t][lane] += b * g[lane];
          carry[n][lane] = s.decay[t][lane] * g[lane];
          const Real product = carry[n][lane] * s.state[t][lane];
          s.grad_decay[t][lane] += s.A[n][lane] * product;
          grad_A[lane] += s.dt[t][lane] * product;
        }
        Real sum = 0;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          sum += s.dt_x[t][lane] * g[lane];
        }
        grad_columns[t * columns + R + n] = sum;
      }
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        task.weights[n * kLanes + lane] += grad_A[lane];
      }
    }
    Real grad_bias[kLanes] = {};
    Real grad_skip[kLanes] = {};
    for (int64_t t = 0; t < count; ++t) {
      SERPENT_VECTORIZE
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const Real grad_dt = s.x[t][lane] * s.grad_drive[t][lane] + s.grad_decay[t][lane];
        s.grad_decay[t][lane] = grad_dt * s.sigmoid[t][lane];  // from here on dL/d raw
        grad_x[(start + t) * kLanes + lane] =
            s.dt[t][lane] * s.grad_drive[t][lane] + s.D_skip[lane] * s.grad_y[t][lane];
        grad_bias[lane] += s.grad_decay[t][lane];
        grad_skip[lane] += s.grad_y[t][lane] * s.x[t][lane];
      }
    }
    for (int64_t r = 0; r < R; ++r) {
      Real grad_weight[kLanes] = {};
      for (int64_t t = 0; t < count; ++t) {
        const Real value = s.columns[t * columns + r];
        Real sum = 0;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          sum += s.grad_decay[t][lane] * s.dt_weight[r][lane];
        }
        grad_columns[t * columns + r] = sum;
        SERPENT_VECTORIZE
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          grad_weight[lane] += s.grad_decay[t][lane] * value;
        }
      }
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        task.weights[(N + r) * kLanes + lane] += grad_weight[lane];
      }
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      task.weights[(N + R) * kLanes + lane] += grad_bias[lane];
      task.weights[(N + R + 1) * kLanes + lane] += grad_skip[lane];
    }
  }
}

template <class T, class Real>
constexpr BackwardKernel make_backward_kernel() {
  return {run_backward<T, Real>, kBackwardTile<Real>, kBackwardChunk, sizeof(BackwardScratch<Real>)};
}

inline BackwardKernel backward_kernel_for(int32_t dtype) {
  switch (dtype) {
    case SERPENT_DTYPE_F32:
      return make_backward_kernel<float, float>();
    case SERPENT_DTYPE_F64:
      return make_backward_kernel<double, double>();
    case SERPENT_DTYPE_F16:
      return make_backward_kernel<Half, float>();
    default:  // check_shape left only bf16
      return make_backward_kernel<BFloat16, float>();
  }
}

}  // namespace
}  // namespace serpent
