// Types and limits that the device headers and the host twin's executor share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace serpent::cuda {

struct Index3 {
  unsigned x, y, z;
};

// Storage types, read and written as f32.
struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

constexpr unsigned kWarpThreads = 32;
constexpr size_t kMaxSharedBytes = 48 * 1024;  // more would need an attribute set on each kernel and device

}  // namespace serpent::cuda
