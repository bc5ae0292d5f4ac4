// One scan kernel per instruction set and storage type, behind plain function pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

struct Kernel {
  // y_k of one picture, direction k and tile starting at channel `first` into slab (H * W, tile).
  void (*scan_tile)(const serpent_scan_shape&, const serpent_scan_tensors&, int64_t picture, int64_t k, int64_t first,
                    void* slab);
  // y of one tile for the pixels [begin, end) from its four slabs.
  void (*merge_tile)(const serpent_scan_shape&, const serpent_scan_tensors&, int64_t picture, int64_t first,
                     const void* slabs, int64_t begin, int64_t end);
  int64_t tile;          // channels
  size_t element_bytes;  // of a slab
};

Kernel portable_kernel(int32_t dtype);
Kernel avx2_kernel(int32_t dtype);
Kernel avx512_kernel(int32_t dtype);

// The fastest kernel this machine runs, or the one that the environment variable SERPENT_ISA names
// ("portable", "avx2", "avx512"). Throws Failure when that one is unknown or cannot run here.
Kernel choose_kernel(int32_t dtype);

}  // namespace serpent
