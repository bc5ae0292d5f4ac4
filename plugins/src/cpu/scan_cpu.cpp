// Work is split into tiles of channels. Where they keep the threads busy, a task scans the four directions of a tile
// and adds them up as it goes; else a task is one direction, and the four are added afterwards, in the same order:
// neither the split nor the number of threads changes a bit of the result.
#include "scan_cpu.h"

#include <algorithm>

#include "aligned_memory.h"
#include "kernel.h"
#include "parallel.h"
#include "shape.h"

namespace serpent {
namespace {

constexpr int64_t kTileBytes = 256;                // of one pixel: whole cache lines, and x_dbl is read less often
constexpr int64_t kMergePixels = 1024;             // one merging task adds up
constexpr int64_t kRoundBytes = int64_t{8} << 20;  // sums worth starting threads for
constexpr int64_t kThreadWork = int64_t{1} << 18;  // state updates worth a thread: about 50 us
constexpr int64_t kHalfBytes = 2;                  // of a 16-bit number

struct Plan {
  int64_t channels;    // of a tile
  int64_t directions;  // of a task: all or one
};

// The widest tiles, and all directions in a task if possible, that keep four fifths of the threads busy.
Plan choose_plan(const serpent_scan_shape& shape, const Kernel& kernel, int64_t threads) {
  const int64_t widest = std::max(int64_t{1}, kTileBytes / static_cast<int64_t>(kernel.real_bytes) / kernel.lanes);
  Plan best{};
  double best_busy = 0;
  for (const int64_t directions : {kDirections, int64_t{1}}) {
    for (int64_t vectors = widest; vectors >= 1; vectors /= 2) {
      const int64_t channels = vectors * kernel.lanes;
      const int64_t tasks = shape.batch * divide_up(shape.channels, channels) * (kDirections / directions);
      const double busy = static_cast<double>(tasks) / static_cast<double>(divide_up(tasks, threads) * threads);
      if (busy > best_busy) {
        best = {channels, directions};
        best_busy = busy;
      }
      if (busy >= 0.8) {
        return best;
      }
    }
  }
  return best;
}

}  // namespace

void scan_cpu(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, int64_t num_threads) {
  const Kernel kernel = choose_kernel(shape.dtype);
  const int64_t pixels = shape.height * shape.width;
  const int64_t y_bytes = kernel.sums_in_y ? static_cast<int64_t>(kernel.real_bytes) : kHalfBytes;
  advise_huge_pages(tensors.y, shape.batch * pixels * shape.channels * y_bytes);
  const int64_t work = shape.batch * pixels * shape.channels * shape.d_state * kDirections;
  const int64_t threads = std::clamp(work / kThreadWork, int64_t{1}, num_threads);
  const Plan plan = choose_plan(shape, kernel, threads);
  const int64_t tiles = divide_up(shape.channels, plan.channels);
  const int64_t jobs = shape.batch * tiles;  // a job is one tile of one picture
  const int64_t scratch_bytes = aligned(static_cast<int64_t>(kernel.scratch_bytes(shape, plan.channels)));
  const Memory scratch = allocate(threads * scratch_bytes);
  const int64_t sums_bytes = pixels * plan.channels * static_cast<int64_t>(kernel.real_bytes);
  const auto task_of = [&](int64_t job, int64_t worker) {
    const int64_t first = job % tiles * plan.channels;
    return ScanTask{job / tiles, first, std::min(plan.channels, shape.channels - first),
                    scratch.get() + worker * scratch_bytes};
  };

  if (plan.directions == kDirections) {
    const Memory sums = allocate(kernel.sums_in_y ? 0 : threads * sums_bytes);
    parallel_for(jobs, threads, [&](int64_t job, int64_t worker) {
      kernel.scan_all(shape, tensors, task_of(job, worker), sums.get() + worker * sums_bytes);
    });
    return;
  }
  const int64_t cheap = kRoundBytes / (kDirections * sums_bytes);
  const int64_t round = std::min(jobs, std::max(cheap, divide_up(threads, kDirections)));
  const Memory sums = allocate(round * kDirections * sums_bytes);
  const int64_t pieces = divide_up(pixels, kMergePixels);
  for (int64_t start = 0; start < jobs; start += round) {
    const int64_t count = std::min(round, jobs - start);
    const auto sums_of = [&](int64_t job) { return sums.get() + (job - start) * kDirections * sums_bytes; };
    parallel_for(count * kDirections, threads, [&](int64_t i, int64_t worker) {
      const int64_t job = start + i / kDirections;
      const int64_t k = i % kDirections;
      const ScanTask task = task_of(job, worker);
      kernel.scan_one(shape, tensors, task, k,
                      sums_of(job) + k * pixels * task.channels * static_cast<int64_t>(kernel.real_bytes));
    });
    parallel_for(count * pieces, threads, [&](int64_t i, int64_t worker) {
      const int64_t job = start + i / pieces;
      const int64_t begin = i % pieces * kMergePixels;
      kernel.merge(shape, tensors, task_of(job, worker), sums_of(job), begin, std::min(begin + kMergePixels, pixels));
    });
  }
}

}  // namespace serpent
