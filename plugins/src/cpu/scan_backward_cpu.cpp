// Work is split into (picture, channel tile, direction). Each task writes its part of dL/dx, of dL/dx_dbl and of the
// weights' gradients into buffers of its own; after a round of tasks those parts are added in the order of the tasks,
// so no sum depends on the number of threads or on the length of a round.
//
// Memory beside the arguments, with S = sizeof(Real), tile W and chunk T of backward_kernel.h, for `round` tasks (as
// many as there are threads; more only while their buffers stay below kRoundBytes):
//   round * S * (W + R + 2N + N * W / T)  bytes a pixel of one picture, and where storage has 16 bits
//   S * (D + 4 * (R + 2N))                bytes a pixel for the f32 sums of the pictures of one round.
#include "scan_backward_cpu.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

#include "backward_kernel.h"
#include "parallel.h"
#include "shape.h"
#include "storage.h"

namespace serpent {
namespace {

constexpr int64_t kPieceRows = 1024;               // pixels one merging task adds up
constexpr int64_t kRoundBytes = int64_t{8} << 20;  // buffers worth starting threads for
constexpr size_t kAlignment = 64;
constexpr int64_t kOrder[kDirections] = {0, 2, 1, 3};  // rows beside rows, columns beside columns: equal work

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Memory that is left as it comes, aligned to kAlignment.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes + kAlignment), memory_(new std::byte[bytes_]) {}

  std::byte* data() const {
    void* start = memory_.get();
    size_t room = bytes_;
    return static_cast<std::byte*>(std::align(kAlignment, bytes_ - kAlignment, start, room));
  }

 private:
  size_t bytes_;
  std::unique_ptr<std::byte[]> memory_;
};

// Bytes of the buffers of one task, and where in them each begins.
struct Slot {
  size_t grad_x, grad_x_dbl, chunk_states, weights, scratch, bytes;
};

template <class T, class Real>
class Backward {
 public:
  Backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
           const serpent_scan_gradients& gradients, int64_t threads)
      : shape_(shape),
        tensors_(tensors),
        gradients_(gradients),
        threads_(threads),
        kernel_(choose_backward_kernel(shape.dtype)),
        tokens_(shape.height * shape.width),
        columns_(shape.dt_rank + 2 * shape.d_state),
        rows_(shape.d_state + shape.dt_rank + 2),
        tiles_(ceil_div(shape.channels, kernel_.tile)),
        weight_count_(kDirections * tiles_ * rows_ * kernel_.tile),
        weight_memory_(static_cast<size_t>(weight_count_) * sizeof(double)),
        weight_sums_(reinterpret_cast<double*>(weight_memory_.data())) {
    std::fill_n(weight_sums_, weight_count_, 0.0);
  }

  void run() {
    const Slot slot = layout();
    const int64_t picture_tasks = tiles_ * kDirections;
    const int64_t cheap = kRoundBytes / static_cast<int64_t>(slot.bytes);
    const int64_t round = std::min(shape_.batch * picture_tasks, std::max(threads_, cheap));
    const int64_t pictures = std::max<int64_t>(1, round / picture_tasks);
    const Buffer slots(static_cast<size_t>(round) * slot.bytes);
    const Buffer sums(kRounds ? static_cast<size_t>(pictures * tokens_ * pixel_sums()) * sizeof(Real) : 0);
    std::vector<BackwardTask> tasks;
    tasks.reserve(static_cast<size_t>(round));

    for (int64_t picture = 0; picture < shape_.batch; picture += pictures) {
      const int64_t count = std::min(pictures, shape_.batch - picture);
      const Pictures here = pictures_at(picture, sums.data(), count);
      for (int64_t start = 0; start < count * picture_tasks; start += round) {
        tasks.clear();
        for (int64_t i = start; i < std::min(start + round, count * picture_tasks); ++i) {
          tasks.push_back(task_at(i, picture, slots.data() + static_cast<size_t>(i - start) * slot.bytes, slot));
        }
        parallel_for(static_cast<int64_t>(tasks.size()), threads_, [&](int64_t i) {
          kernel_.run(shape_, tensors_, gradients_.grad_y, tasks[static_cast<size_t>(i)]);
        });
        for_pixels(here, [&](int64_t which, int64_t begin, int64_t end) { merge(tasks, here, which, begin, end); });
        add_weights(tasks);
      }
      if constexpr (kRounds) {
        for_pixels(here, [&](int64_t which, int64_t begin, int64_t end) { round_off(here, which, begin, end); });
      }
    }
    write_weights();
  }

 private:
  static constexpr bool kRounds = !std::is_same_v<T, Real>;  // sums need a place of their own before rounding

  // Where the gradients of some pictures are summed up.
  struct Pictures {
    int64_t first;
    int64_t count;
    Real* grad_x;      // (count, tokens, D)
    Real* grad_x_dbl;  // (count, tokens, 4 * (R + 2N))
  };

  int64_t pixel_sums() const { return shape_.channels + kDirections * columns_; }

  Slot layout() const {
    const auto real = [](int64_t count) { return aligned(static_cast<size_t>(count) * sizeof(Real)); };
    Slot slot = {};
    slot.grad_x = 0;
    slot.grad_x_dbl = slot.grad_x + real(tokens_ * kernel_.tile);
    slot.chunk_states = slot.grad_x_dbl + real(tokens_ * columns_);
    slot.weights = slot.chunk_states + real(ceil_div(tokens_, kernel_.chunk) * shape_.d_state * kernel_.tile);
    slot.scratch = slot.weights + aligned(static_cast<size_t>(rows_ * kernel_.tile) * sizeof(double));
    slot.bytes = slot.scratch + aligned(kernel_.scratch_bytes);
    return slot;
  }

  BackwardTask task_at(int64_t i, int64_t picture, std::byte* memory, const Slot& slot) const {
    const int64_t tile = i / kDirections % tiles_;
    return {picture + i / (kDirections * tiles_),
            kOrder[i % kDirections],
            tile * kernel_.tile,
            memory + slot.grad_x,
            memory + slot.grad_x_dbl,
            memory + slot.chunk_states,
            memory + slot.scratch,
            reinterpret_cast<double*>(memory + slot.weights)};
  }

  Pictures pictures_at(int64_t first, std::byte* sums, int64_t count) const {
    if constexpr (kRounds) {
      Real* grad_x = reinterpret_cast<Real*>(sums);
      return {first, count, grad_x, grad_x + count * tokens_ * shape_.channels};
    } else {
      const int64_t pixel = first * tokens_;
      return {first, count, static_cast<Real*>(gradients_.grad_x) + pixel * shape_.channels,
              static_cast<Real*>(gradients_.grad_x_dbl) + pixel * kDirections * columns_};
    }
  }

  template <class Work>
  void for_pixels(const Pictures& pictures, const Work& work) const {
    const int64_t pieces = ceil_div(tokens_, kPieceRows);
    parallel_for(pictures.count * pieces, threads_, [&](int64_t i) {
      const int64_t begin = i % pieces * kPieceRows;
      work(i / pieces, begin, std::min(begin + kPieceRows, tokens_));
    });
  }

  // Token as which direction k visits a pixel.
  int64_t token(int64_t k, int64_t pixel) const {
    const int64_t position = k % 2 == 0 ? pixel : pixel % shape_.width * shape_.height + pixel / shape_.width;
    return k >= 2 ? tokens_ - 1 - position : position;
  }

  static void add_row(bool first, const Real* part, int64_t count, Real* sum) {
    for (int64_t i = 0; i < count; ++i) {
      sum[i] = first ? part[i] : sum[i] + part[i];
    }
  }

  // Adds the parts of the tasks of one picture to the sums of its pixels [begin, end).
  void merge(const std::vector<BackwardTask>& tasks, const Pictures& pictures, int64_t which, int64_t begin,
             int64_t end) const {
    for (const BackwardTask& task : tasks) {
      if (task.picture != pictures.first + which) {
        continue;
      }
      const int64_t k = task.direction;
      const int64_t lanes = std::min(kernel_.tile, shape_.channels - task.first);
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t from = token(k, pixel);
        const int64_t to = which * tokens_ + pixel;
        add_row(k == kOrder[0], static_cast<const Real*>(task.grad_x) + from * kernel_.tile, lanes,
                pictures.grad_x + to * shape_.channels + task.first);
        add_row(task.first == 0, static_cast<const Real*>(task.grad_x_dbl) + from * columns_, columns_,
                pictures.grad_x_dbl + (to * kDirections + k) * columns_);
      }
    }
  }

  void round_off(const Pictures& pictures, int64_t which, int64_t begin, int64_t end) const {
    const auto write = [&](const Real* sums, int64_t width, void* out) {
      T* to = static_cast<T*>(out) + (pictures.first + which) * tokens_ * width;
      sums += which * tokens_ * width;
      for (int64_t i = begin * width; i < end * width; ++i) {
        store(sums[i], to[i]);
      }
    };
    write(pictures.grad_x, shape_.channels, gradients_.grad_x);
    write(pictures.grad_x_dbl, kDirections * columns_, gradients_.grad_x_dbl);
  }

  void add_weights(const std::vector<BackwardTask>& tasks) {
    const int64_t count = rows_ * kernel_.tile;
    for (const BackwardTask& task : tasks) {
      double* sums = weight_sums_ + (task.direction * tiles_ + task.first / kernel_.tile) * count;
      for (int64_t i = 0; i < count; ++i) {
        sums[i] += task.weights[i];
      }
    }
  }

  void write_weights() const {
    const int64_t N = shape_.d_state;
    const int64_t R = shape_.dt_rank;
    for (int64_t k = 0; k < kDirections; ++k) {
      for (int64_t d = 0; d < shape_.channels; ++d) {
        const double* sums =
            weight_sums_ + (k * tiles_ + d / kernel_.tile) * rows_ * kernel_.tile + d % kernel_.tile;
        const auto row = [&](int64_t i) { return static_cast<Real>(sums[i * kernel_.tile]); };
        const int64_t channel = k * shape_.channels + d;
        for (int64_t n = 0; n < N; ++n) {
          static_cast<Real*>(gradients_.grad_A)[channel * N + n] = row(n);
        }
        for (int64_t r = 0; r < R; ++r) {
          static_cast<Real*>(gradients_.grad_dt_weight)[channel * R + r] = row(N + r);
        }
        static_cast<Real*>(gradients_.grad_dt_bias)[channel] = row(N + R);
        static_cast<Real*>(gradients_.grad_D_skip)[channel] = row(N + R + 1);
      }
    }
  }

  const serpent_scan_shape& shape_;
  const serpent_scan_tensors& tensors_;
  const serpent_scan_gradients& gradients_;
  const int64_t threads_;
  const BackwardKernel kernel_;
  const int64_t tokens_;
  const int64_t columns_;
  const int64_t rows_;  // of weights a task sums up
  const int64_t tiles_;
  const int64_t weight_count_;
  const Buffer weight_memory_;
  double* const weight_sums_;  // (4, tiles, rows, tile)
};

}  // namespace

void scan_backward_cpu(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                       const serpent_scan_gradients& gradients, int64_t num_threads) {
  switch (shape.dtype) {
    case SERPENT_DTYPE_F32:
      return Backward<float, float>(shape, tensors, gradients, num_threads).run();
    case SERPENT_DTYPE_F64:
      return Backward<double, double>(shape, tensors, gradients, num_threads).run();
    case SERPENT_DTYPE_F16:
      return Backward<Half, float>(shape, tensors, gradients, num_threads).run();
    default:  // check_shape left only bf16
      return Backward<BFloat16, float>(shape, tensors, gradients, num_threads).run();
  }
}

}  // namespace serpent
