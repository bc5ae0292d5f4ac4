// What the scan of one channel tile keeps at hand: parameters, states and one block of tokens, vector by vector.
#pragma once

#include "problem.h"
#include "vector_math.h"

namespace serpent {
namespace {

constexpr int64_t kTokenBlock = 32;  // tokens whose dt, input and output stay in the L1 cache

// Views of scratch memory. Lanes past D hold zeros.
template <class Real>
struct Tile {
  static constexpr int64_t kLanes = Vector<Real>::kLanes;
  using Row = Real[kLanes];

  // One vector of channels.
  struct Lane {
    Row* dt_weight;  // (R)
    Row* rate;       // (N) A log2(e)
    Row* state;      // (N)
    Row* step;       // (kTokenBlock) dt, bounded
    Row* dt_x;       // (kTokenBlock)
    Row* out;        // (kTokenBlock) x, then y_k
    Row* constant;   // dt_bias, D_skip, bound of the step
  };
  static constexpr int64_t kConstants = 3;

  int64_t d_state, dt_rank, vectors;
  Row* rows;
  Real* columns;  // (kTokenBlock, R + 2N) dt_r, B and C of the block

  Tile(const serpent_scan_shape& shape, int64_t channels, void* scratch)
      : d_state(shape.d_state),
        dt_rank(shape.dt_rank),
        vectors((channels + kLanes - 1) / kLanes),
        rows(static_cast<Row*>(scratch)),
        columns(*(rows + vectors * rows_per_vector())) {}

  int64_t rows_per_vector() const { return dt_rank + 2 * d_state + 3 * kTokenBlock + kConstants; }

  static size_t bytes(const serpent_scan_shape& shape, int64_t channels) {
    const Tile tile(shape, channels, nullptr);
    const int64_t column_rows = (kTokenBlock * (shape.dt_rank + 2 * shape.d_state) + kLanes - 1) / kLanes;
    return static_cast<size_t>(tile.vectors * tile.rows_per_vector() + column_rows) * sizeof(Row);
  }

  Lane lane(int64_t v) const {
    Row* const weight = rows + v * rows_per_vector();
    Row* const rate = weight + dt_rank;
    Row* const state = rate + d_state;
    Row* const step = state + d_state;
    return {weight, rate, state, step, step + kTokenBlock, step + 2 * kTokenBlock, step + 3 * kTokenBlock};
  }
};

// Parameters of direction k into the tile, states to 0.
template <class T, class Real>
void begin_direction(const Problem<T, Real>& problem, const Tile<Real>& tile, int64_t k, int64_t first,
                     int64_t channels) {
  constexpr int64_t kLanes = Tile<Real>::kLanes;
  const int64_t R = problem.dt_rank;
  const int64_t N = problem.d_state;
  for (int64_t v = 0; v < tile.vectors; ++v) {
    const auto lane = tile.lane(v);
    for (int64_t i = 0; i < kLanes; ++i) {
      const bool present = v * kLanes + i < channels;
      const int64_t row = k * problem.channels + first + (present ? v * kLanes + i : 0);
      for (int64_t r = 0; r < R; ++r) {
        lane.dt_weight[r][i] = present ? problem.dt_weight[row * R + r] : Real(0);
      }
      Real highest = 0;
      for (int64_t n = 0; n < N; ++n) {
        const Real rate = present ? bounded_rate(problem.A[row * N + n]) : Real(0);
        highest = rate > highest ? rate : highest;
        lane.rate[n][i] = rate;
        lane.state[n][i] = 0;
      }
      lane.constant[0][i] = present ? problem.dt_bias[row] : Real(0);
      lane.constant[1][i] = present ? problem.D_skip[row] : Real(0);
      lane.constant[2][i] = step_bound(highest);
    }
  }
}

}  // namespace
}  // namespace serpent
