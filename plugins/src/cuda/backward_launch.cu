#include <algorithm>
#include <initializer_list>
#include <string>

#include "backward_carry.h"
#include "backward_gradients.h"
#include "backward_launch.h"
#include "backward_states.h"
#include "backward_sums.h"
#include "failure.h"
#include "scan_cuda.h"

namespace serpent {
namespace cuda {
namespace {

template <class T>
BackwardArguments<T> arguments_of(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                                  const serpent_scan_gradients& gradients, const BackwardLayout& layout,
                                  void* workspace) {
  const auto part = [&](uint64_t start) {
    return reinterpret_cast<float*>(static_cast<unsigned char*>(workspace) + start);
  };
  BackwardArguments<T> arguments{};
  arguments.batch = shape.batch;
  arguments.height = shape.height;
  arguments.width = shape.width;
  arguments.tokens = layout.tokens;
  arguments.inverse_height = 1.0 / static_cast<double>(shape.height);
  arguments.channels = shape.channels;
  arguments.chunks = static_cast<int>(layout.chunks);
  arguments.tiles = static_cast<int>(layout.tiles);
  arguments.splits = static_cast<int>(layout.splits);
  arguments.states = static_cast<int>(shape.d_state);
  arguments.ranks = static_cast<int>(shape.dt_rank);
  arguments.chunk_tokens = static_cast<int>(layout.chunk_tokens);
  arguments.subtiles = static_cast<int>(layout.subtiles);
  arguments.dt_weight = static_cast<const float*>(tensors.dt_weight);
  arguments.dt_bias = static_cast<const float*>(tensors.dt_bias);
  arguments.A = static_cast<const float*>(tensors.A);
  arguments.D_skip = static_cast<const float*>(tensors.D_skip);
  arguments.grad_dt_weight = static_cast<float*>(gradients.grad_dt_weight);
  arguments.grad_dt_bias = static_cast<float*>(gradients.grad_dt_bias);
  arguments.grad_A = static_cast<float*>(gradients.grad_A);
  arguments.grad_D_skip = static_cast<float*>(gradients.grad_D_skip);
  arguments.records = part(layout.records);
  arguments.checkpoints = part(layout.checkpoints);
  arguments.image = part(layout.image);
  arguments.columns = part(layout.columns);
  arguments.x = static_cast<const T*>(tensors.x);
  arguments.x_dbl = static_cast<const T*>(tensors.x_dbl);
  arguments.grad_y = static_cast<const T*>(gradients.grad_y);
  arguments.grad_x = static_cast<T*>(gradients.grad_x);
  arguments.grad_x_dbl = static_cast<T*>(gradients.grad_x_dbl);
  return arguments;
}

Index3 grid_of(std::initializer_list<int64_t> sides) {
  int64_t blocks = 1;
  for (const int64_t side : sides) {
    if (side > INT32_MAX / blocks) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT,
           "batch * height * width * channels is too large: the CUDA backward pass runs at most 2^31 - 1 blocks");
    }
    blocks *= side;
  }
  return {static_cast<unsigned>(blocks), 1, 1};
}

unsigned threads_of(int64_t warps, int64_t most) { return static_cast<unsigned>(std::min(warps, most) * kLanes); }

template <class T>
void launch_pairs(BackwardArguments<T> arguments, const BackwardLayout& layout, void* stream) {
  const int64_t chunks = arguments.batch * layout.chunks;
  const int64_t warps = layout.warps;
  const auto threads = static_cast<unsigned>(warps * kLanes);
  const unsigned carry_threads = threads_of((layout.chunks + 1) / 2, kMaxCarryWarps);
  const unsigned sum_threads = threads_of(chunks, kMaxSumWarps);
  const int summed_rows = arguments.record_rows() - arguments.states;
  for (arguments.pair = 0; arguments.pair < 2; ++arguments.pair) {
    launch(backward_states<T>, grid_of({chunks, 2, layout.tiles}), threads,
           BackwardShared::bytes_of_states(warps, arguments.ranks), stream, arguments);
    launch(backward_carry, grid_of({2, arguments.batch, layout.tiles, arguments.states}), carry_threads,
           carry_threads * 3 * sizeof(float), stream, arguments);
    launch(backward_gradients<T>, grid_of({chunks, layout.splits}), threads,
           BackwardShared::bytes(warps, arguments.ranks), stream, arguments);
    launch(backward_weight_sums, grid_of({2, layout.tiles, summed_rows}), sum_threads, sum_threads * sizeof(double),
           stream, arguments);
    launch(backward_columns<T>, grid_of({chunks}), kColumnThreads, 0, stream, arguments);
  }
}

// The weights' gradients of an empty batch.
void clear_weights(const serpent_scan_shape& shape, const serpent_scan_gradients& gradients, void* stream) {
  const auto rows = 4 * static_cast<size_t>(shape.channels) * sizeof(float);
  fill_zero(gradients.grad_dt_weight, rows * static_cast<size_t>(shape.dt_rank), stream);
  fill_zero(gradients.grad_dt_bias, rows, stream);
  fill_zero(gradients.grad_A, rows * static_cast<size_t>(shape.d_state), stream);
  fill_zero(gradients.grad_D_skip, rows, stream);
}

}  // namespace

void launch_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                     const serpent_scan_gradients& gradients, void* workspace, void* stream,
                     const BackwardTuning& tuning) {
  if (shape.batch == 0) {
    return clear_weights(shape, gradients, stream);
  }
  const BackwardLayout layout = backward_layout(shape, tuning);
  const auto run = [&]<class T>(T) {
    launch_pairs(arguments_of<T>(shape, tensors, gradients, layout, workspace), layout, stream);
  };
  switch (shape.dtype) {
    case SERPENT_DTYPE_F32:
      return run(float{});
    case SERPENT_DTYPE_F16:
      return run(Half{});
    case SERPENT_DTYPE_BF16:
      return run(BFloat16{});
    default:
      fail(SERPENT_STATUS_INTERNAL, "dtype " + std::to_string(shape.dtype) + " reached the CUDA backward pass");
  }
}

}  // namespace cuda

void scan_backward_cuda(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                        const serpent_scan_gradients& gradients, void* workspace, void* stream) {
  cuda::launch_backward(shape, tensors, gradients, workspace, stream, {});
}

}  // namespace serpent
