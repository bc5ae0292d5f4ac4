// The backward pass of one direction of one tile of channels, compiled once per instruction set (see kernel_impl.h).
//
// Per channel, with gy = dL/dy, g_n = dL/dh_n and h'_n the state before a token, tokens taken in reverse:
//   g_n      = C_n gy + (a_n g_n of the token that follows)     a_n = exp(dt A_n)
//   dL/dC_n  = gy h_n                                            summed over channels
//   dL/dB_n  = dt x g_n                                          summed over channels
//   dL/dx    = dt sum_n B_n g_n + D_skip gy
//   dL/d dt  = x sum_n B_n g_n + sum_n A_n a_n g_n h'_n
//   dL/dA_n  = dt a_n g_n h'_n                                   summed over tokens
//   dL/d raw = dL/d dt * sigmoid(raw)                            raw = dt_weight . dt_r + dt_bias, dt = softplus(raw)
//
// A first pass along the direction keeps the state before every chunk of tokens. The second takes the chunks from the
// last to the first, computes a chunk's decays and states again, one n after the other, and walks them backwards: two
// exponentials for each token, channel and n. Sums over the tokens of a chunk are Real, those over chunks f64.
#pragma once

#include "backward_kernel.h"
#include "backward_walk.h"
#include "kernel_impl.h"

namespace serpent {
namespace {

// Terms of a sum over n or r that are added up before they join the whole: short sums round less.
constexpr int64_t kBlock = 16;

template <class T, class Real, bool kPadded>
class DirectionBackward {
 public:
  DirectionBackward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const void* grad_y,
                    const BackwardTask& task)
      : problem_(shape, tensors),
        grad_y_(static_cast<const T*>(grad_y)),
        task_(task),
        channels_(smaller(kTileChannels<Real>, shape.channels - task.first)),
        s_(*static_cast<BackwardScratch<Real>*>(task.scratch)),
        chunk_states_(static_cast<Row<Real>*>(task.chunk_states)),
        grad_x_(static_cast<Row<Real>*>(task.grad_x)),
        grad_x_dbl_(static_cast<Real*>(task.grad_x_dbl)) {}

  void run() {
    const int64_t N = problem_.d_state;
    const int64_t chunks = (problem_.tokens() + kChunk - 1) / kChunk;
    s_.load_weights(problem_, task_.direction, task_.first, channels_);
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      for (int64_t n = 0; n < N; ++n) {
        chunk_states_[n].set(v, V(Real(0)));
        s_.carry[n].set(v, V(Real(0)));
      }
    }
    for (int64_t i = 0; i < (N + problem_.dt_rank + 2) * kTileChannels<Real>; ++i) {
      task_.weights[i] = 0;
    }
    for (int64_t chunk = 0; chunk + 1 < chunks; ++chunk) {
      stage<false>(chunk * kChunk, kChunk);
      for (int64_t n = 0; n < N; ++n) {
        advance_state(s_, n, chunk_states_[chunk * N + n], chunk_states_[(chunk + 1) * N + n]);
      }
    }
    for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
      const int64_t start = chunk * kChunk;
      const int64_t count = smaller(kChunk, problem_.tokens() - start);
      stage<true>(start, count);
      walk_states(chunk, count);
      finish(start, count);
    }
  }

 private:
  using V = Vector<Real>;

  Real* grad_columns(int64_t token) const { return grad_x_dbl_ + token * problem_.columns(); }
  double* grad_weights(int64_t row) const { return task_.weights + row * kTileChannels<Real>; }

  SERPENT_INLINE V load_channels(const T* from, int64_t v) const {
    if constexpr (kPadded) {
      return load_lanes<Real>(from + v * V::kLanes, channels_ - v * V::kLanes);
    } else {
      return load_vector(from + v * V::kLanes);
    }
  }

  // dt_weight . dt_r over the r from `first` on, of one block.
  SERPENT_INLINE void project(int64_t t, int64_t first, V* sums) const {
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      sums[v] = V(Real(0));
    }
    for (int64_t r = first; r < smaller(first + kBlock, problem_.dt_rank); ++r) {
      const V dt_r = s_.dt_r(t, r);
      for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
        sums[v] = fma(dt_r, s_.dt_weight[r].get(v), sums[v]);
      }
    }
  }

  // Reads the inputs of the tokens [start, start + count) and computes their dt.
  template <bool kBackward>
  void stage(int64_t start, int64_t count) {
    const int64_t columns = problem_.columns();
    for (int64_t t = 0; t < count; ++t) {
      const int64_t pixel = task_.picture * problem_.tokens() + problem_.pixel(task_.direction, start + t);
      const int64_t at = pixel * problem_.channels + task_.first;
      copy_numbers(problem_.x_dbl + (pixel * kDirections + task_.direction) * columns, columns,
                   s_.columns + t * columns);
      V raw[kTileVectors<Real>];
      project(t, 0, raw);
      for (int64_t r = kBlock; r < problem_.dt_rank; r += kBlock) {
        V more[kTileVectors<Real>];
        project(t, r, more);
        for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
          raw[v] = raw[v] + more[v];
        }
      }
      for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
        V slope;
        const V dt = softplus(raw[v] + s_.dt_bias.get(v), slope);  // near the bias, small terms would lose digits
        const V x = load_channels(problem_.x + at, v);
        s_.dt_x[t].set(v, dt * x);
        s_.step[t].set(v, magnitude(min(s_.bound.get(v), dt)));
        if constexpr (kBackward) {
          s_.dt[t].set(v, dt);
          s_.slope[t].set(v, slope);
          s_.x[t].set(v, x);
          s_.grad_y[t].set(v, load_channels(grad_y_ + at, v));
        }
      }
    }
  }

  // Clears the sign of a NaN, without which decay_of keeps it.
  static SERPENT_INLINE V magnitude(V value) {
    return value & V(bits_as<Real>(static_cast<typename BitsOf<Real>::Type>(~typename BitsOf<Real>::Type(0) >> 1)));
  }

  // All that has an index n.
  void walk_states(int64_t chunk, int64_t count) {
    const int64_t R = problem_.dt_rank;
    const int64_t N = problem_.d_state;
    Real* columns = grad_columns(chunk * kChunk);
    for (int64_t n = 0; n < N; ++n) {
      recompute_states<kPadded>(s_, n, count, chunk_states_[chunk * N + n], columns + R + N + n);
      if (n % kBlock == 0) {
        walk_back<kPadded, true>(s_, n, count, columns + R + n, grad_weights(n));
      } else {
        walk_back<kPadded, false>(s_, n, count, columns + R + n, grad_weights(n));
      }
      if (N > kBlock && (n % kBlock == kBlock - 1 || n == N - 1)) {
        add_block(n < kBlock, count);
      }
    }
  }

  void add_block(bool first, int64_t count) {
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
        const V drive = s_.block.drive[t].get(v);
        const V decay = s_.block.decay[t].get(v);
        s_.total.drive[t].set(v, first ? drive : s_.total.drive[t].get(v) + drive);
        s_.total.decay[t].set(v, first ? decay : s_.total.decay[t].get(v) + decay);
      }
    }
  }

  // dL/dx, dL/d raw, and what follows from it.
  void finish(int64_t start, int64_t count) {
    const int64_t R = problem_.dt_rank;
    const int64_t N = problem_.d_state;
    StateSums<Real>& sums = N > kBlock ? s_.total : s_.block;
    ChunkRows<Real>& grad_raw = sums.decay;
    V sum_bias[kTileVectors<Real>];
    V sum_skip[kTileVectors<Real>];
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      sum_bias[v] = sum_skip[v] = V(Real(0));
    }
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
        const V x = s_.x[t].get(v);
        const V grad_y = s_.grad_y[t].get(v);
        const V drive = sums.drive[t].get(v);
        const V gradient = fma(x, drive, sums.decay[t].get(v)) * s_.slope[t].get(v);
        grad_raw[t].set(v, gradient);
        grad_x_[start + t].set(v, fma(s_.dt[t].get(v), drive, s_.D_skip.get(v) * grad_y));
        sum_bias[v] = sum_bias[v] + gradient;
        sum_skip[v] = fma(grad_y, x, sum_skip[v]);
      }
    }
    for (int64_t r = 0; r < R; ++r) {
      project_back<kPadded>(s_, grad_raw, r, count, grad_columns(start) + r, grad_weights(N + r));
    }
    add_sums<Real>(sum_bias, grad_weights(N + R));
    add_sums<Real>(sum_skip, grad_weights(N + R + 1));
  }

  const Problem<T, Real> problem_;
  const T* const grad_y_;
  const BackwardTask& task_;
  const int64_t channels_;
  BackwardScratch<Real>& s_;
  Row<Real>* const chunk_states_;
  Row<Real>* const grad_x_;
  Real* const grad_x_dbl_;
};

template <class T, class Real>
void run_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const void* grad_y,
                  const BackwardTask& task) {
  if (task.first + kTileChannels<Real> > shape.channels) {
    DirectionBackward<T, Real, true>(shape, tensors, grad_y, task).run();
  } else {
    DirectionBackward<T, Real, false>(shape, tensors, grad_y, task).run();
  }
}

template <class T, class Real>
constexpr BackwardKernel make_backward_kernel() {
  return {run_backward<T, Real>, kTileChannels<Real>, kChunk, sizeof(BackwardScratch<Real>)};
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
