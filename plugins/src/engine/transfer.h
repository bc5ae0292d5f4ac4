// Pictures into the network's input and out of its output: copying, padding and cropping, as serpent/padding.py does.
//
// All of it is strided copies enqueued on the caller's stream. Padding copies whole rows, then single columns, inside
// the device buffer: one copy per added row and column, and no kernel of ours is needed.
#pragma once

#include <cstdint>

#include "adapter.h"

namespace serpent::engine {

// (B, 3, H, W), in elements.
struct Shape {
  int64_t batch;
  int64_t height;
  int64_t width;

  bool operator==(const Shape&) const = default;
  uint64_t bytes() const { return static_cast<uint64_t>(batch * 3 * height * width) * sizeof(float); }
};

// The smallest shape within the profile that holds `shape`: sides are multiples of the network's unit.
Shape padded(const Shape& shape, const serpent_engine_info& profile);

class Transfer {
 public:
  Transfer(const serpent_adapter& calls, serpent_adapter_runtime* runtime, void* stream)
      : calls_(calls), runtime_(runtime), stream_(stream) {}

  // Copies `image` to the top left of `buffer`, of the shape `large`, and fills the rest.
  void load(const serpent_engine_pictures& image, float* buffer, const Shape& large) const;

  // Copies the top left of `buffer`, of the shape `large`, to `restored`.
  void store(const float* buffer, const Shape& large, const serpent_engine_pictures& restored) const;

 private:
  void copy(float* target, int64_t target_pitch, const float* source, int64_t source_pitch, int64_t width, int64_t rows,
            serpent_adapter_direction direction) const;

  // Copies the common part of planes of different shapes.
  void copy_planes(float* target, const Shape& target_shape, const float* source, const Shape& source_shape,
                   serpent_adapter_direction direction) const;

  const serpent_adapter& calls_;
  serpent_adapter_runtime* runtime_;
  void* stream_;
};

}  // namespace serpent::engine
