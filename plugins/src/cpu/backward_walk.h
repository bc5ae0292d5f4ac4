// The inner loops of the backward pass: one n or one r, one chunk of tokens, one tile of channels.
//
// kPadded: the tile has lanes past D. They hold zeros, but 0 * inf is NaN: sums over channels must leave them out.
#pragma once

#include "backward_scratch.h"
#include "row_sums.h"

namespace serpent {
namespace {

// sum + a * b of the v-th vector of a tile, without the lanes past D.
template <bool kPadded, class Real>
SERPENT_INLINE Vector<Real> add_product(const BackwardScratch<Real>& s, int64_t v, Vector<Real> a, Vector<Real> b,
                                        Vector<Real> sum) {
  if constexpr (kPadded) {
    return sum + ((a * b) & s.present.get(v));
  } else {
    return fma(a, b, sum);
  }
}

// Sums over channels: those of s.terms, one for each token, into a column of dL/dx_dbl.
template <class Real>
void write_sums(BackwardScratch<Real>& s, int64_t count, Real* column) {
  for (int64_t t = 0; t < count; t += Vector<Real>::kLanes) {
    row_sums(s.terms[t], s.sums + t);
  }
  for (int64_t t = 0; t < count; ++t) {
    column[t * s.num_columns] = s.sums[t];
  }
}

// Sums over tokens: adds those of one chunk to the f64 sums of a direction.
template <class Real>
void add_sums(const Vector<Real> (&sums)[kTileVectors<Real>], double* total) {
  Row<Real> row;
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    row.set(v, sums[v]);
  }
  for (int64_t lane = 0; lane < kTileChannels<Real>; ++lane) {
    total[lane] += row.lanes[lane];
  }
}

// From the state before a whole chunk to the state after it.
template <class Real>
void advance_state(const BackwardScratch<Real>& s, int64_t n, const Row<Real>& before, Row<Real>& after) {
  Vector<Real> h[kTileVectors<Real>];
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    h[v] = before.get(v);
  }
  for (int64_t t = 0; t < kChunk; ++t) {
    const Vector<Real> B = s.B(t, n);
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      h[v] = advance(decay_of(s.step[t].get(v) * s.rate[n].get(v), BackwardExp2<Real>::kSeries), h[v], s.dt_x[t].get(v),
                     B);
    }
  }
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    after.set(v, h[v]);
  }
}

// The decays of a chunk and its decayed states; dL/dC_n into `grad_C`.
template <bool kPadded, class Real>
void recompute_states(BackwardScratch<Real>& s, int64_t n, int64_t count, const Row<Real>& before, Real* grad_C) {
  using V = Vector<Real>;
  V h[kTileVectors<Real>];
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    h[v] = before.get(v);
  }
  for (int64_t t = 0; t < count; ++t) {
    const V B = s.B(t, n);
    V sum(Real(0));
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      const Decay<Real> decay = decay_of(s.step[t].get(v) * s.rate[n].get(v), BackwardExp2<Real>::kSeries);
      const V decayed = apply(decay, h[v]);
      s.fraction[t].set(v, decay.fraction);
      s.power[t].set(v, decay.power);
      s.decayed[t].set(v, decayed);
      h[v] = fma(s.dt_x[t].get(v), B, decayed);
      sum = add_product<kPadded>(s, v, s.grad_y[t].get(v), h[v], sum);
    }
    sum.store(s.terms[t]);
  }
  write_sums(s, count, grad_C);
}

// From the last token of a chunk to its first: adds to s.block, or begins it (kFirst), dL/dB_n into `grad_B`, adds
// dL/dA_n to `grad_A`.
template <bool kPadded, bool kFirst, class Real>
void walk_back(BackwardScratch<Real>& s, int64_t n, int64_t count, Real* grad_B, double* grad_A) {
  using V = Vector<Real>;
  V carry[kTileVectors<Real>];
  V sum_A[kTileVectors<Real>];
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    carry[v] = s.carry[n].get(v);
    sum_A[v] = V(Real(0));
  }
  for (int64_t t = count - 1; t >= 0; --t) {
    const V B = s.B(t, n);
    const V C = s.C(t, n);
    V sum(Real(0));
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      const V g = fma(C, s.grad_y[t].get(v), carry[v]);
      const V product = g * s.decayed[t].get(v);
      const V A = s.A[n].get(v);
      if constexpr (kFirst) {
        s.block.drive[t].set(v, B * g);
        s.block.decay[t].set(v, A * product);
      } else {
        s.block.drive[t].set(v, fma(B, g, s.block.drive[t].get(v)));
        s.block.decay[t].set(v, fma(A, product, s.block.decay[t].get(v)));
      }
      carry[v] = apply(Decay<Real>{s.fraction[t].get(v), s.power[t].get(v)}, g);
      sum_A[v] = fma(s.dt[t].get(v), product, sum_A[v]);
      sum = add_product<kPadded>(s, v, s.dt_x[t].get(v), g, sum);
    }
    sum.store(s.terms[t]);
  }
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    s.carry[n].set(v, carry[v]);
  }
  write_sums(s, count, grad_B);
  add_sums<Real>(sum_A, grad_A);
}

// From dL/d raw: dL/d dt_r of one r into `grad_dt_r`, adds dL/d dt_weight to `grad_dt_weight`.
template <bool kPadded, class Real>
void project_back(BackwardScratch<Real>& s, const ChunkRows<Real>& grad_raw, int64_t r, int64_t count, Real* grad_dt_r,
                  double* grad_dt_weight) {
  using V = Vector<Real>;
  V sum_weight[kTileVectors<Real>];
  for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
    sum_weight[v] = V(Real(0));
  }
  for (int64_t t = 0; t < count; ++t) {
    const V dt_r = s.dt_r(t, r);
    V sum(Real(0));
    for (int64_t v = 0; v < kTileVectors<Real>; ++v) {
      const V gradient = grad_raw[t].get(v);
      sum_weight[v] = fma(gradient, dt_r, sum_weight[v]);
      sum = add_product<kPadded>(s, v, gradient, s.dt_weight[r].get(v), sum);
    }
    sum.store(s.terms[t]);
  }
  write_sums(s, count, grad_dt_r);
  add_sums<Real>(sum_weight, grad_dt_weight);
}

}  // namespace
}  // namespace serpent
