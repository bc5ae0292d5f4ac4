#include "shape.h"

#include <initializer_list>
#include <limits>
#include <string>

#include "failure.h"

namespace serpent {
namespace {

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    const std::string limit = high == std::numeric_limits<int64_t>::max() ? "" : " and <= " + std::to_string(high);
    fail(SERPENT_STATUS_INVALID_ARGUMENT,
         std::string(name) + " is " + std::to_string(value) + "; expected >= " + std::to_string(low) + limit);
  }
}

struct Named {
  const char* name;
  const void* pointer;
};

void check_pointers(std::initializer_list<Named> arguments) {
  for (const Named& argument : arguments) {
    if (argument.pointer == nullptr) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT, std::string(argument.name) + " is NULL");
    }
  }
}

void check_inputs(const serpent_scan_tensors* tensors) {
  if (tensors == nullptr) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "tensors is NULL");
  }
  check_pointers({{"x", tensors->x},
                  {"x_dbl", tensors->x_dbl},
                  {"dt_weight", tensors->dt_weight},
                  {"dt_bias", tensors->dt_bias},
                  {"A", tensors->A},
                  {"D_skip", tensors->D_skip}});
}

constexpr uintptr_t kF32Bytes = 4;  // of an element of the weights and the workspace of a CUDA scan, always f32

uintptr_t element_bytes(const serpent_scan_shape& shape) { return shape.dtype == SERPENT_DTYPE_F32 ? 4 : 2; }

void check_aligned(std::initializer_list<Named> arguments, uintptr_t bytes) {
  for (const Named& argument : arguments) {
    if (reinterpret_cast<uintptr_t>(argument.pointer) % bytes != 0) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT,
           std::string(argument.name) + " is not aligned to its elements of " + std::to_string(bytes) + " bytes");
    }
  }
}

void check_input_alignment(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                           const void* workspace) {
  check_aligned({{"x", tensors.x}, {"x_dbl", tensors.x_dbl}}, element_bytes(shape));
  check_aligned({{"dt_weight", tensors.dt_weight},
                 {"dt_bias", tensors.dt_bias},
                 {"A", tensors.A},
                 {"D_skip", tensors.D_skip},
                 {"workspace", workspace}},
                kF32Bytes);
}

}  // namespace

void check_shape(const serpent_scan_shape* shape, int64_t max_state, int64_t max_dt_rank) {
  if (shape == nullptr) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "shape is NULL");
  }
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  check_range("batch", shape->batch, 0, kAny);
  check_range("height", shape->height, 1, kAny);
  check_range("width", shape->width, 1, kAny);
  check_range("channels", shape->channels, 1, kAny);
  check_range("d_state", shape->d_state, 1, max_state);
  check_range("dt_rank", shape->dt_rank, 1, max_dt_rank);
  check_range("dtype", shape->dtype, SERPENT_DTYPE_F32, SERPENT_DTYPE_BF16);

  // 16 bytes an element, and a whole state for every pixel, leave room for every buffer that is derived from these
  // sizes: slabs with their last tile filled up, the decay rates A, and the workspace of chunks of a single pixel.
  int64_t room = kAny / 16;
  const int64_t columns = kDirections * (shape->dt_rank + 2 * shape->d_state);
  const int64_t widest = shape->channels > columns ? shape->channels : columns;
  const int64_t deepest = shape->d_state > shape->dt_rank ? shape->d_state : shape->dt_rank;
  for (const int64_t side : {shape->batch, shape->height, shape->width, kDirections, widest, deepest}) {
    room /= side > 0 ? side : 1;
  }
  if (room == 0) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT,
         "batch * height * width * channels * d_state exceeds what 64-bit offsets address");
  }
}

void check_cuda_shape(const serpent_scan_shape* shape) {
  check_shape(shape, kMaxCudaState, kMaxCudaDtRank);
  if (shape->dtype == SERPENT_DTYPE_F64) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "dtype is f64; the CUDA scan takes f32, f16 and bf16");
  }
}

void check_tensors(const serpent_scan_shape& shape, const serpent_scan_tensors* tensors) {
  if (shape.batch > 0) {
    check_inputs(tensors);
    check_pointers({{"y", tensors->y}});
  }
}

void check_cuda_alignment(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const void* workspace) {
  check_input_alignment(shape, tensors, workspace);
  check_aligned({{"y", tensors.y}}, element_bytes(shape));
}

void check_cuda_alignment(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                          const serpent_scan_gradients& gradients, const void* workspace) {
  check_input_alignment(shape, tensors, workspace);
  check_aligned({{"grad_y", gradients.grad_y}, {"grad_x", gradients.grad_x}, {"grad_x_dbl", gradients.grad_x_dbl}},
                element_bytes(shape));
  check_aligned({{"grad_dt_weight", gradients.grad_dt_weight},
                 {"grad_dt_bias", gradients.grad_dt_bias},
                 {"grad_A", gradients.grad_A},
                 {"grad_D_skip", gradients.grad_D_skip}},
                kF32Bytes);
}

void check_gradients(const serpent_scan_shape& shape, const serpent_scan_tensors* tensors,
                     const serpent_scan_gradients* gradients) {
  if (gradients == nullptr) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "gradients is NULL");
  }
  // Even an empty batch has weights, whose gradients are zero.
  check_pointers({{"grad_dt_weight", gradients->grad_dt_weight},
                  {"grad_dt_bias", gradients->grad_dt_bias},
                  {"grad_A", gradients->grad_A},
                  {"grad_D_skip", gradients->grad_D_skip}});
  if (tensors == nullptr) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "tensors is NULL");
  }
  if (shape.batch > 0) {
    check_inputs(tensors);
    check_pointers(
        {{"grad_y", gradients->grad_y}, {"grad_x", gradients->grad_x}, {"grad_x_dbl", gradients->grad_x_dbl}});
  }
}

}  // namespace serpent
