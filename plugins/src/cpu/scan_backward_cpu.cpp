// Work is split into (picture, tile of channels, direction). Each task writes its part of dL/dx, of dL/dx_dbl and of
// the weights' gradients into buffers of its own. After a round of tasks these are added in the order of the tasks, so
// no sum depends on the number of threads or on the length of a round.
//
// Memory beside the arguments, in bytes for each pixel of one picture, with S = sizeof(Real), tiles of W channels and
// chunks of T tokens (backward_kernel.h), for rounds of as many tasks as there are threads:
//   threads * S * (W + R + 2N + N W / T)
//   and for 16-bit storage S * (D + 4 (R + 2N)): sums before rounding, of as many pictures as a round holds whole.
// Rounds are longer only while their buffers stay below kRoundBytes.
#include "scan_backward_cpu.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "aligned_memory.h"
#include "backward_kernel.h"
#include "parallel.h"
#include "shape.h"
#include "storage.h"

namespace serpent {
namespace {

constexpr int64_t kPiecePixels = 1024;                 // one merging task adds up
constexpr int64_t kRoundBytes = int64_t{8} << 20;      // buffers worth starting threads for
constexpr int64_t kThreadWork = int64_t{1} << 17;      // state updates worth a thread
constexpr int64_t kOrder[kDirections] = {0, 2, 1, 3};  // rows beside rows, columns beside columns: equal work

// Where the gradients of `count` pictures are summed up.
template <class Real>
struct PictureSums {
  int64_t first;
  int64_t count;
  Real* grad_x;      // (count, pixels, D)
  Real* grad_x_dbl;  // (count, pixels, 4 (R + 2N))
};

template <class T, class Real>
class Backward {
 public:
  Backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
           const serpent_scan_gradients& gradients, int64_t num_threads)
      : shape_(shape),
        tensors_(tensors),
        gradients_(gradients),
        kernel_(choose_backward_kernel(shape.dtype)),
        pixels_(shape.height * shape.width),
        columns_(shape.dt_rank + 2 * shape.d_state),
        tiles_(divide_up(shape.channels, kernel_.tile)),
        weights_((shape.d_state + shape.dt_rank + 2) * kernel_.tile),
        threads_(std::clamp(shape.batch * pixels_ * shape.channels * shape.d_state * kDirections / kThreadWork,
                            int64_t{1}, num_threads)),
        grad_x_bytes_(aligned(pixels_ * kernel_.tile * kReal)),
        grad_x_dbl_bytes_(aligned(pixels_ * columns_ * kReal)),
        weights_bytes_(aligned(weights_ * static_cast<int64_t>(sizeof(double)))),
        states_bytes_(aligned(divide_up(pixels_, kernel_.chunk) * shape.d_state * kernel_.tile * kReal)) {}

  void run() {
    const int64_t task_bytes = grad_x_bytes_ + grad_x_dbl_bytes_ + weights_bytes_;
    const int64_t worker_bytes = states_bytes_ + aligned(static_cast<int64_t>(kernel_.scratch_bytes));
    const int64_t picture_tasks = tiles_ * kDirections;
    const int64_t all_tasks = shape_.batch * picture_tasks;
    const int64_t round = std::min(all_tasks, std::max(threads_, kRoundBytes / task_bytes));
    const int64_t workers = std::min(all_tasks, threads_);
    const int64_t pictures = std::max(int64_t{1}, round / picture_tasks);
    const Memory weight_sums = allocate(kDirections * tiles_ * weights_bytes_);
    const Memory task_memory = allocate(round * task_bytes);
    const Memory worker_memory = allocate(workers * worker_bytes);
    const Memory sums = allocate(kRounds ? pictures * pixels_ * (shape_.channels + kDirections * columns_) * kReal : 0);
    std::fill_n(weight_sums.get(), kDirections * tiles_ * weights_bytes_, std::byte{0});
    std::vector<BackwardTask> tasks;

    for (int64_t picture = 0; picture < shape_.batch; picture += pictures) {
      const PictureSums<Real> here = sums_of(picture, std::min(pictures, shape_.batch - picture), sums.get());
      const int64_t count = here.count * picture_tasks;
      for (int64_t start = 0; start < count; start += round) {
        tasks.clear();
        for (int64_t i = start; i < std::min(start + round, count); ++i) {
          tasks.push_back(task_at(i, picture, task_memory.get() + (i - start) * task_bytes));
        }
        parallel_for(static_cast<int64_t>(tasks.size()), threads_, [&](int64_t i, int64_t worker) {
          BackwardTask task = tasks[static_cast<size_t>(i)];
          task.chunk_states = worker_memory.get() + worker * worker_bytes;
          task.scratch = worker_memory.get() + worker * worker_bytes + states_bytes_;
          kernel_.run(shape_, tensors_, gradients_.grad_y, task);
        });
        for_pixels(here, [&](int64_t which, int64_t begin, int64_t end) { merge(tasks, here, which, begin, end); });
        for (const BackwardTask& task : tasks) {
          double* weights = weights_of(weight_sums.get(), task.direction, task.first / kernel_.tile);
          for (int64_t i = 0; i < weights_; ++i) {
            weights[i] += task.weights[i];
          }
        }
      }
      if constexpr (kRounds) {
        for_pixels(here, [&](int64_t which, int64_t begin, int64_t end) { round_off(here, which, begin, end); });
      }
    }
    write_weights(weight_sums.get());
  }

 private:
  static constexpr bool kRounds = !std::is_same_v<T, Real>;
  static constexpr int64_t kReal = sizeof(Real);

  double* weights_of(std::byte* sums, int64_t k, int64_t tile) const {
    return reinterpret_cast<double*>(sums + (k * tiles_ + tile) * weights_bytes_);
  }

  // The i-th task of the pictures from `picture` on.
  BackwardTask task_at(int64_t i, int64_t picture, std::byte* memory) const {
    BackwardTask task = {};
    task.picture = picture + i / (kDirections * tiles_);
    task.direction = kOrder[i % kDirections];
    task.first = i / kDirections % tiles_ * kernel_.tile;
    task.grad_x = memory;
    task.grad_x_dbl = memory + grad_x_bytes_;
    task.weights = reinterpret_cast<double*>(memory + grad_x_bytes_ + grad_x_dbl_bytes_);
    return task;
  }

  // In the results themselves, unless those have 16 bits.
  PictureSums<Real> sums_of(int64_t first, int64_t count, std::byte* memory) const {
    if constexpr (kRounds) {
      Real* grad_x = reinterpret_cast<Real*>(memory);
      return {first, count, grad_x, grad_x + count * pixels_ * shape_.channels};
    } else {
      return {first, count, static_cast<Real*>(gradients_.grad_x) + first * pixels_ * shape_.channels,
              static_cast<Real*>(gradients_.grad_x_dbl) + first * pixels_ * kDirections * columns_};
    }
  }

  template <class Work>
  void for_pixels(const PictureSums<Real>& pictures, const Work& work) const {
    const int64_t pieces = divide_up(pixels_, kPiecePixels);
    parallel_for(pictures.count * pieces, threads_, [&](int64_t i) {
      const int64_t begin = i % pieces * kPiecePixels;
      work(i / pieces, begin, std::min(begin + kPiecePixels, pixels_));
    });
  }

  // Token as which direction k visits a pixel.
  int64_t token(int64_t k, int64_t pixel) const {
    const int64_t position = k % 2 == 0 ? pixel : pixel % shape_.width * shape_.height + pixel / shape_.width;
    return k >= 2 ? pixels_ - 1 - position : position;
  }

  static void add(bool begins, const Real* part, int64_t count, Real* sum) {
    for (int64_t i = 0; i < count; ++i) {
      sum[i] = begins ? part[i] : sum[i] + part[i];
    }
  }

  // Adds the parts of the tasks to the sums of the pixels [begin, end) of one picture.
  void merge(const std::vector<BackwardTask>& tasks, const PictureSums<Real>& sums, int64_t which, int64_t begin,
             int64_t end) const {
    for (const BackwardTask& task : tasks) {
      if (task.picture != sums.first + which) {
        continue;
      }
      const int64_t k = task.direction;
      const int64_t channels = std::min(kernel_.tile, shape_.channels - task.first);
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t from = token(k, pixel);
        const int64_t to = which * pixels_ + pixel;
        add(k == kOrder[0], static_cast<const Real*>(task.grad_x) + from * kernel_.tile, channels,
            sums.grad_x + to * shape_.channels + task.first);
        add(task.first == 0, static_cast<const Real*>(task.grad_x_dbl) + from * columns_, columns_,
            sums.grad_x_dbl + (to * kDirections + k) * columns_);
      }
    }
  }

  void round_off(const PictureSums<Real>& sums, int64_t which, int64_t begin, int64_t end) const {
    const auto write = [&](const Real* from, int64_t width, void* to) {
      T* out = static_cast<T*>(to) + (sums.first + which) * pixels_ * width;
      for (int64_t i = begin * width; i < end * width; ++i) {
        store(from[which * pixels_ * width + i], out[i]);
      }
    };
    write(sums.grad_x, shape_.channels, gradients_.grad_x);
    write(sums.grad_x_dbl, kDirections * columns_, gradients_.grad_x_dbl);
  }

  void write_weights(std::byte* sums) const {
    const int64_t N = shape_.d_state;
    const int64_t R = shape_.dt_rank;
    for (int64_t k = 0; k < kDirections; ++k) {
      for (int64_t d = 0; d < shape_.channels; ++d) {
        const double* weights = weights_of(sums, k, d / kernel_.tile) + d % kernel_.tile;
        const auto row = [&](int64_t i) { return static_cast<Real>(weights[i * kernel_.tile]); };
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
  const BackwardKernel kernel_;
  const int64_t pixels_;
  const int64_t columns_;  // of x_dbl, for each direction
  const int64_t tiles_;
  const int64_t weights_;  // sums of one task
  const int64_t threads_;
  const int64_t grad_x_bytes_, grad_x_dbl_bytes_, weights_bytes_, states_bytes_;
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
