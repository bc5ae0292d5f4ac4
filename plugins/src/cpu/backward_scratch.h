// What a task of the backward pass keeps at hand: the weights of its channels and the values of one chunk of tokens.
#pragma once

#include "problem.h"
#include "vector_math.h"

namespace serpent {
namespace {

// A longer chunk keeps fewer states, but its values must stay in the L1 cache.
constexpr int64_t kChunk = 32;

// Channels of a task: two cache lines. A sum over channels is then taken apart lane by lane once for several vectors.
template <class Real>
constexpr int64_t kTileChannels = 128 / static_cast<int64_t>(sizeof(Real));

template <class Real>
constexpr int64_t kTileVectors = kTileChannels<Real> / Vector<Real>::kLanes;

// As Exp2Traits::kExp2, with one term more in f32: an error of the decays shows in sums of terms that cancel.
template <class Real>
struct BackwardExp2 {
  static constexpr auto& kSeries = Exp2Traits<Real>::kExp2;
};
template <>
struct BackwardExp2<float> {
  static constexpr float kSeries[] = {6.93147188e-1F, 2.40226508e-1F, 5.55035711e-2F,
                                      9.61808256e-3F, 1.33908634e-3F, 1.54531629e-4F};  // within 1.2e-8
};

// One number for each channel of a tile.
template <class Real>
struct Row {
  using V = Vector<Real>;
  alignas(64) Real lanes[kTileChannels<Real>];

  SERPENT_INLINE V get(int64_t v) const { return V::load(lanes + v * V::kLanes); }
  SERPENT_INLINE void set(int64_t v, V value) { value.store(lanes + v * V::kLanes); }
};

// A row for each token of a chunk. The row too many keeps such arrays apart by more than 4096 bytes: at that distance
// they share cache sets, and a load waits for a store to the other.
template <class Real>
struct ChunkRows {
  Row<Real> rows[kChunk + 1];

  SERPENT_INLINE Row<Real>& operator[](int64_t t) { return rows[t]; }
  SERPENT_INLINE const Row<Real>& operator[](int64_t t) const { return rows[t]; }
};

// Sums over n, from which dL/dx and dL/d dt follow.
template <class Real>
struct StateSums {
  ChunkRows<Real> drive;  // sum_n B_n g_n
  ChunkRows<Real> decay;  // sum_n A_n a_n g_n h'_n
};

template <class Real>
struct BackwardScratch {
  using V = Vector<Real>;

  // Of one chunk; those with an index n, of the present n.
  ChunkRows<Real> x, grad_y;
  ChunkRows<Real> dt, dt_x;
  ChunkRows<Real> step;                       // dt, bounded for decay_of
  ChunkRows<Real> slope;                      // d dt / d raw
  ChunkRows<Real> fraction, power;            // a_n as Decay
  ChunkRows<Real> decayed;                    // a_n h'_n
  StateSums<Real> block;                      // over a few n
  StateSums<Real> total;                      // over all n
  alignas(64) Real terms[kChunk][V::kLanes];  // of a sum over channels, some for each token
  alignas(64) Real sums[kChunk];
  Real columns[kChunk * (kMaxDtRank + 2 * kMaxState)];  // [dt_r R, B N, C N] for each token

  // Of the direction. Lanes past D hold zeros.
  Row<Real> dt_weight[kMaxDtRank];
  Row<Real> A[kMaxState];
  Row<Real> rate[kMaxState];   // A log2(e)
  Row<Real> carry[kMaxState];  // a_n g_n of the token that follows the chunk
  Row<Real> dt_bias, D_skip;
  Row<Real> bound;    // of step
  Row<Real> present;  // all bits of a lane that is a channel, none of a lane past D
  int64_t dt_rank, d_state, num_columns;

  SERPENT_INLINE V dt_r(int64_t t, int64_t r) const { return V(columns[t * num_columns + r]); }
  SERPENT_INLINE V B(int64_t t, int64_t n) const { return V(columns[t * num_columns + dt_rank + n]); }
  SERPENT_INLINE V C(int64_t t, int64_t n) const { return V(columns[t * num_columns + dt_rank + d_state + n]); }

  // Parameters of direction k for `channels` channels from `first` on.
  template <class T>
  void load_weights(const Problem<T, Real>& problem, int64_t k, int64_t first, int64_t channels) {
    dt_rank = problem.dt_rank;
    d_state = problem.d_state;
    num_columns = problem.columns();
    for (int64_t lane = 0; lane < kTileChannels<Real>; ++lane) {
      const bool is_channel = lane < channels;
      const int64_t channel = k * problem.channels + first + (is_channel ? lane : 0);
      const auto value = [&](const Real* from, int64_t at) { return is_channel ? from[at] : Real(0); };
      for (int64_t r = 0; r < dt_rank; ++r) {
        dt_weight[r].lanes[lane] = value(problem.dt_weight, channel * dt_rank + r);
      }
      Real highest = 0;
      for (int64_t n = 0; n < d_state; ++n) {
        A[n].lanes[lane] = value(problem.A, channel * d_state + n);
        rate[n].lanes[lane] = bounded_rate(A[n].lanes[lane]);
        highest = rate[n].lanes[lane] > highest ? rate[n].lanes[lane] : highest;
      }
      dt_bias.lanes[lane] = value(problem.dt_bias, channel);
      D_skip.lanes[lane] = value(problem.D_skip, channel);
      bound.lanes[lane] = step_bound(highest);
      using Bits = typename BitsOf<Real>::Type;
      present.lanes[lane] = bits_as<Real>(is_channel ? static_cast<Bits>(~Bits(0)) : Bits(0));
    }
  }
};

}  // namespace
}  // namespace serpent
