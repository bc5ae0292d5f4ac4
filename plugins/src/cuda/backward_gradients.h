// The gradients of one pair of directions, chunk by chunk.
//
// A block has one chunk and the channel tiles of one split, one after the other, each under both directions. It walks
// the chunk forward, keeping the states before every sub-tile of 8 tokens, and then back: a sub-tile's states are
// computed once more, into registers, and its adjoints from the last token to the first. The registers are full of
// them: loops outside of the walks are not unrolled.
#pragma once

#include "backward_walk.h"

namespace serpent::cuda {

constexpr int kMaxGradientThreads = 352;  // 11 warps of 6 states
constexpr float kLn2 = 0.6931471805599453F;

// One channel tile under one direction, in one chunk.
template <class T>
struct GradientTask {
  const BackwardArguments<T>& arguments;
  const BackwardShared& shared;
  const Lane& me;
  int direction;
  bool first_tile;  // of the split
  float* columns;  // dL/dx_dbl of the split and the direction, from the chunk's first position on: rows of R + 2N, dt_r
                   // and then B and C of a state side by side

  // Of a step of the chunk.
  SERPENT_DEVICE float* column_row(int step) const {
    return columns + shared.pixels->in_order(step, direction >= 2) * arguments.row_columns();
  }

  SERPENT_DEVICE void add_to(float* place, float value) const { *place = first_tile ? value : *place + value; }

  SERPENT_DEVICE void add_projections(const ProjectionSums& sums, int first) const {
    const int step = first + ProjectionSums::token(me.lane);
    if (step < shared.pixels->count) {
      float* row = column_row(step) + arguments.ranks + 2 * me.first_state;
      SERPENT_UNROLL
      for (int j = 0; j < ChannelSums::kPairs; ++j) {
        const int state = ProjectionSums::state(me.lane, j);
        if (state < me.states) {
          add_to(row + 2 * state + (ProjectionSums::is_C(me.lane) ? 1 : 0), sums.total[j]);
        }
      }
    }
  }

  // dL/dx, which is added to what earlier directions found, and the gradient at softplus's argument, which takes the
  // place of the first warp's sums.
  SERPENT_DEVICE void finish_tokens(int first) const {
    const float skip = shared.weight[(arguments.ranks + 1) * BackwardShared::kPitch + me.lane];
    SERPENT_UNROLL_BY(1)
    for (int t = me.warp; t < kSubtile && first + t < shared.pixels->count; t += me.warps) {
      float sum_B = 0;
      float sum_A = 0;
      SERPENT_UNROLL_BY(1)
      for (int warp = 0; warp < me.warps; ++warp) {
        sum_B += shared.sum(warp, 0, t)[me.lane];
        sum_A += shared.sum(warp, 1, t)[me.lane];
      }
      const float grad_dt = fma(shared.tile->x[t][me.lane], sum_B, kLn2 * sum_A);
      shared.sum(0, 0, t)[me.lane] = me.present ? grad_dt * shared.tile->slope[t][me.lane] : 0.0F;
      if (me.present) {
        const int64_t place = shared.tile->pixel[first / kSubtile % 2][t] * arguments.channels + me.channel;
        float value = fma(shared.tile->dt[t][me.lane], sum_B, skip * shared.tile->grad_y[t][me.lane]);
        if (direction != 0) {
          value += arguments.image[place];
        }
        if (direction == 3) {
          store(value, arguments.grad_x + place);
        } else {
          arguments.image[place] = value;
        }
      }
    }
  }

  // Gradients of what dt is projected from: of dt_r by the threads in turn, of a channel's weights by its lane.
  SERPENT_DEVICE void project(int first) const {
    const int rest = shared.pixels->count - first;
    const int count = rest < kSubtile ? rest : kSubtile;
    const int ranks = arguments.ranks;
    SERPENT_UNROLL_BY(1)
    for (int i = static_cast<int>(thread_index()); i < count * ranks; i += static_cast<int>(block_size())) {
      const int t = i / ranks;
      const int r = i % ranks;
      float sum = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        sum = fma(shared.sum(0, 0, t)[lane], shared.weight[r * BackwardShared::kPitch + lane], sum);
      }
      add_to(column_row(first + t) + r, sum);
    }
    SERPENT_UNROLL_BY(1)
    for (int r = me.warp; r <= ranks; r += me.warps) {
      float sum = 0;
      SERPENT_UNROLL_BY(1)
      for (int t = 0; t < count; ++t) {
        const int64_t row = shared.tile->pixel[first / kSubtile % 2][t] * 4 + direction;
        const float input = r < ranks ? load(arguments.x_dbl + row * arguments.row_columns() + r) : 1.0F;
        sum = fma(shared.sum(0, 0, t)[me.lane], input, sum);
      }
      shared.weight_sums[r * kLanes + me.lane] += sum;
    }
  }
};

template <class T>
SERPENT_KERNEL(kMaxGradientThreads, 1)
void backward_gradients(const BackwardArguments<T> arguments) {
  const auto block = static_cast<int>(block_index().x);
  const int split = block % arguments.splits;
  const int chunk = block / arguments.splits;
  const int states = arguments.states;
  const int ranks = arguments.ranks;
  float* checkpoints = arguments.checkpoints + static_cast<int64_t>(block) * (arguments.subtiles - 1) * states * kLanes;
  const int warps = static_cast<int>(block_size()) / kLanes;
  const BackwardShared shared(shared_memory(), warps, ranks);
  if (thread_index() == 0) {
    *shared.pixels = ChunkPixels(arguments, chunk);
  }

  for (int tile = split; tile < arguments.tiles; tile += arguments.splits) {
    const Lane me(arguments, tile);
    for (int reversed = 0; reversed < 2; ++reversed) {
      const int direction = arguments.pair + 2 * reversed;
      float* record = arguments.record(reversed, chunk, tile);
      float* entering = record + states * kLanes;
      float rate[kStates];
      me.read_rates(arguments, direction, rate);

      SERPENT_BLOCK_SYNC(gradient_weight_free);
      stage_weight(arguments, shared, me, direction);
      for (int r = me.warp; r <= ranks; r += me.warps) {
        shared.weight_sums[r * kLanes + me.lane] = 0;
      }
      SERPENT_BLOCK_SYNC(gradient_weight_staged);

      float h[kStates];
      me.read(entering, h);
      for (int first = 0; first + kSubtile < shared.pixels->count; first += kSubtile) {
        stage_tokens<false>(arguments, shared, me, direction, first);
        SERPENT_BLOCK_SYNC(gradient_history_staged);
        walk_forward(shared, me, rate, h);
        SERPENT_BLOCK_SYNC(gradient_history_read);
        me.write(h, checkpoints + first / kSubtile * states * kLanes);
      }

      float* columns =
          arguments.columns + (split * 2 + reversed) * arguments.batch * arguments.tokens * arguments.row_columns();
      const GradientTask<T> task{
          arguments, shared,        me,
          direction, tile == split, columns + shared.pixels->position(0, false) * arguments.row_columns()};
      float e[kStates];
      me.read(record, e);
      float grad_A[kStates] = {};
      float grad_skip = 0;
      for (int first = (shared.pixels->count - 1) / kSubtile * kSubtile; first >= 0; first -= kSubtile) {
        me.read(first == 0 ? entering : checkpoints + (first / kSubtile - 1) * states * kLanes, h);
        stage_tokens<true>(arguments, shared, me, direction, first);
        SERPENT_BLOCK_SYNC(gradient_tokens_staged);
        const int count = shared.pixels->count - first;
        task.add_projections(walk_back(shared, me, count, rate, h, e, grad_A, grad_skip), first);
        SERPENT_BLOCK_SYNC(gradient_states_summed);
        task.finish_tokens(first);
        SERPENT_BLOCK_SYNC(gradient_tokens_finished);
        task.project(first);
      }

      me.write(grad_A, entering);
      float* rows = entering + states * kLanes + me.lane;
      if (me.warp == 0) {
        rows[0] = grad_skip;
      }
      for (int r = me.warp; r <= ranks; r += me.warps) {
        rows[(1 + r) * kLanes] = shared.weight_sums[r * kLanes + me.lane];
      }
    }
  }
}

}  // namespace serpent::cuda
