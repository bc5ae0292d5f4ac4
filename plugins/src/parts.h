// Memory that is one piece to its owner and several parts to its users.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace serpent {

constexpr uint64_t kPartAlignment = 256;  // what cudaMalloc gives; each part starts at a multiple of it

// Makes room for an array of f32 behind the `bytes` given out so far; returns where it starts.
inline uint64_t place_part(uint64_t& bytes, std::initializer_list<int64_t> sides) {
  uint64_t size = sizeof(float);
  for (const int64_t side : sides) {
    size *= static_cast<uint64_t>(side);
  }
  const uint64_t start = bytes;
  bytes += (size + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
  return start;
}

}  // namespace serpent
