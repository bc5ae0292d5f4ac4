// Work is split into (picture, channel tile, direction). Each task scans one direction of one tile into a
// slab of its own; when the four slabs of a tile are done they are added in one fixed order, so the sum
// does not depend on the number of threads.
#include "scan_cpu.h"

#include <algorithm>
#include <memory>

#include "kernel.h"
#include "parallel.h"
#include "shape.h"

namespace serpent {
namespace {

constexpr int64_t kMergeRows = 1024;               // pixels one merging task adds up
constexpr int64_t kRoundBytes = int64_t{8} << 20;  // slabs worth starting threads for

}  // namespace

void scan_cpu(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, int64_t num_threads) {
  const Kernel kernel = choose_kernel(shape.dtype);
  const int64_t tokens = shape.height * shape.width;
  const int64_t tiles = (shape.channels + kernel.tile - 1) / kernel.tile;
  const int64_t jobs = shape.batch * tiles;  // a job is one tile of one picture: four slabs
  const int64_t slab_bytes = tokens * kernel.tile * static_cast<int64_t>(kernel.element_bytes);
  const int64_t cheap = kRoundBytes / (kDirections * slab_bytes);
  const int64_t busy = (num_threads + kDirections - 1) / kDirections;
  const int64_t round = std::min(jobs, std::max(cheap, busy));
  const std::unique_ptr<std::byte[]> slabs(new std::byte[static_cast<size_t>(round * kDirections * slab_bytes)]);

  for (int64_t start = 0; start < jobs; start += round) {
    const int64_t count = std::min(round, jobs - start);
    parallel_for(count * kDirections, num_threads, [&](int64_t task) {
      const int64_t job = start + task / kDirections;
      kernel.scan_tile(shape, tensors, job / tiles, task % kDirections, job % tiles * kernel.tile,
                       slabs.get() + task * slab_bytes);
    });
    const int64_t pieces = (tokens + kMergeRows - 1) / kMergeRows;
    parallel_for(count * pieces, num_threads, [&](int64_t task) {
      const int64_t job = start + task / pieces;
      const int64_t begin = task % pieces * kMergeRows;
      kernel.merge_tile(shape, tensors, job / tiles, job % tiles * kernel.tile,
                        slabs.get() + task / pieces * kDirections * slab_bytes, begin,
                        std::min(begin + kMergeRows, tokens));
    });
  }
}

}  // namespace serpent
