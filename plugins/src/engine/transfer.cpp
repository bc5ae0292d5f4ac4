#include "transfer.h"

#include <algorithm>

#include "failure.h"

namespace serpent::engine {
namespace {

int64_t round_up(int64_t side, int64_t multiple) { return (side + multiple - 1) / multiple * multiple; }

// Where an added row or column is copied from: reflected about the last one without repeating it, then the outermost.
int64_t reflect_then_edge(int64_t index, int64_t old) {
  const int64_t last = old - 1;
  return std::max<int64_t>(last - (index - last), 0);
}

}  // namespace

Shape padded(const Shape& shape, const serpent_engine_info& profile) {
  return {
      std::max(shape.batch, profile.batch.min),
      std::max(round_up(shape.height, profile.multiple), profile.height.min),
      std::max(round_up(shape.width, profile.multiple), profile.width.min),
  };
}

void Transfer::copy(char* target, int64_t target_pitch, const char* source, int64_t source_pitch, int64_t width,
                    int64_t rows, serpent_adapter_direction direction) const {
  const auto bytes = [&](int64_t pixels) { return static_cast<uint64_t>(pixels * border_.bytes_per_pixel); };
  const serpent_adapter_copy piece = {
      target, source, bytes(target_pitch), bytes(source_pitch), bytes(width), static_cast<uint64_t>(rows), direction};
  call(calls_.copy, runtime_, &piece, stream_);
}

void Transfer::copy_planes(char* target, const Shape& target_shape, const char* source, const Shape& source_shape,
                           serpent_adapter_direction direction) const {
  const int64_t planes = border_.planes * std::min(target_shape.batch, source_shape.batch);
  const int64_t height = std::min(target_shape.height, source_shape.height);
  const int64_t width = std::min(target_shape.width, source_shape.width);
  if (target_shape.height == source_shape.height) {
    copy(target, target_shape.width, source, source_shape.width, width, planes * height, direction);
    return;
  }
  const int64_t target_plane = target_shape.height * target_shape.width * border_.bytes_per_pixel;
  const int64_t source_plane = source_shape.height * source_shape.width * border_.bytes_per_pixel;
  for (int64_t plane = 0; plane < planes; ++plane) {
    copy(target + plane * target_plane, target_shape.width, source + plane * source_plane, source_shape.width, width,
         height, direction);
  }
}

void Transfer::load(const serpent_engine_pictures& image, char* buffer, const Shape& large) const {
  const Shape small = shape_of(image);
  const auto at = [&](int64_t pixel) { return buffer + pixel * border_.bytes_per_pixel; };
  const auto direction = image.memory == SERPENT_ENGINE_DEVICE ? SERPENT_ADAPTER_ON_DEVICE : SERPENT_ADAPTER_TO_DEVICE;
  copy_planes(buffer, large, static_cast<const char*>(image.data), small, direction);
  const int64_t planes = border_.planes * small.batch;
  const int64_t plane = large.height * large.width;
  for (int64_t row = small.height; row < large.height; ++row) {
    copy(at(row * large.width), plane, at(reflect_then_edge(row, small.height) * large.width), plane, small.width,
         planes, SERPENT_ADAPTER_ON_DEVICE);
  }
  for (int64_t column = small.width; column < large.width; ++column) {
    copy(at(column), large.width, at(reflect_then_edge(column, small.width)), large.width, 1, planes * large.height,
         SERPENT_ADAPTER_ON_DEVICE);
  }
  // A batch below the profile's least repeats its last picture; what the network makes of it is dropped.
  for (int64_t picture = small.batch; picture < large.batch; ++picture) {
    copy(at(picture * border_.planes * plane), plane, at((small.batch - 1) * border_.planes * plane), plane, plane,
         border_.planes, SERPENT_ADAPTER_ON_DEVICE);
  }
}

void Transfer::store(const char* buffer, const Shape& large, const serpent_engine_pictures& restored) const {
  const auto direction = restored.memory == SERPENT_ENGINE_DEVICE ? SERPENT_ADAPTER_ON_DEVICE : SERPENT_ADAPTER_TO_HOST;
  copy_planes(static_cast<char*>(restored.data), shape_of(restored), buffer, large, direction);
}

}  // namespace serpent::engine
