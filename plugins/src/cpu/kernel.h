// One scan kernel per instruction set and storage type, behind plain function pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

// Some channels of one picture. Real, below, is the type of sums: f64 for f64 storage, else f32.
struct ScanTask {
  int64_t picture;
  int64_t first;     // channel
  int64_t channels;  // at most what the scratch was sized for
  void* scratch;     // Kernel::scratch_bytes, aligned to 64
};

struct Kernel {
  // y of the task: the four directions one after the other.
  // `sums` (Real: pixels, channels) is memory for their sum where y cannot hold it, that is for 16-bit storage.
  void (*scan_all)(const serpent_scan_shape&, const serpent_scan_tensors&, const ScanTask&, void* sums);
  // y_k of direction k alone, into `sums`.
  void (*scan_one)(const serpent_scan_shape&, const serpent_scan_tensors&, const ScanTask&, int64_t k, void* sums);
  // y of the task for the pixels [begin, end) from its four y_k in `sums`, added in the order of scan_all.
  void (*merge)(const serpent_scan_shape&, const serpent_scan_tensors&, const ScanTask&, const void* sums,
                int64_t begin, int64_t end);
  size_t (*scratch_bytes)(const serpent_scan_shape&, int64_t channels);
  int64_t lanes;      // channels of one vector
  size_t real_bytes;  // of Real
  bool sums_in_y;     // scan_all needs no memory for sums
};

Kernel portable_kernel(int32_t dtype);
Kernel avx2_kernel(int32_t dtype);
Kernel avx512_kernel(int32_t dtype);

// The fastest kernel this machine runs, or the one that the environment variable SERPENT_ISA names
// ("portable", "avx2", "avx512"). Throws Failure when that one is unknown or cannot run here.
Kernel choose_kernel(int32_t dtype);

}  // namespace serpent
