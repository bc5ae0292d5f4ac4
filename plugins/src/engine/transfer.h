// Pictures into the network's input and out of its output: copying, padding and cropping, as serpent/padding.py does.
//
// All of it is strided copies enqueued on the caller's stream. Padding copies whole rows, then single columns, inside
// the device buffer: one copy per added row and column, and no kernel of ours is needed.
#pragma once

#include <cstdint>

#include "adapter.h"
#include "border.h"

namespace serpent::engine {

// B pictures of H x W pixels.
struct Shape {
  int64_t batch;
  int64_t height;
  int64_t width;

  bool operator==(const Shape&) const = default;
  uint64_t bytes(const Border& border) const {
    return static_cast<uint64_t>(batch * border.planes * height * width * border.bytes_per_pixel);
  }
};

inline Shape shape_of(const serpent_engine_pictures& pictures) {
  return {pictures.batch, pictures.height, pictures.width};
}

// The smallest shape within the profile that holds `shape`: sides are multiples of the network's unit.
Shape padded(const Shape& shape, const serpent_engine_info& profile);

class Transfer {
 public:
  Transfer(const serpent_adapter& calls, serpent_adapter_runtime* runtime, const Border& border, void* stream)
      : calls_(calls), runtime_(runtime), border_(border), stream_(stream) {}

  // Copies `image` to the top left of `buffer`, of the shape `large`, and fills the rest.
  void load(const serpent_engine_pictures& image, char* buffer, const Shape& large) const;

  // Copies the top left of `buffer`, of the shape `large`, to `restored`.
  void store(const char* buffer, const Shape& large, const serpent_engine_pictures& restored) const;

 private:
  // `rows` pieces of `width` pixels; pitches are in pixels, too.
  void copy(char* target, int64_t target_pitch, const char* source, int64_t source_pitch, int64_t width, int64_t rows,
            serpent_adapter_direction direction) const;

  // Copies the common part of planes of different shapes.
  void copy_planes(char* target, const Shape& target_shape, const char* source, const Shape& source_shape,
                   serpent_adapter_direction direction) const;

  const serpent_adapter& calls_;
  serpent_adapter_runtime* runtime_;
  const Border& border_;
  void* stream_;
};

}  // namespace serpent::engine
