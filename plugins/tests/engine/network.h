// What the stand-in's network computes; standin.h has the formula.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "../../src/cpu/storage.h"

namespace standin {

using Sizes = std::array<int64_t, 4>;

inline std::size_t elements(const Sizes& sizes) {
  return static_cast<std::size_t>(sizes[0] * sizes[1] * sizes[2] * sizes[3]);
}

inline std::size_t element_bytes(const std::string& type) { return type == "FLOAT" ? 4 : type == "HALF" ? 2 : 1; }

// x and y are (B, 3, H, W) as `sizes` says.
inline void compute(const float* x, float* y, const Sizes& sizes) {
  const auto [batch, channels, height, width] = sizes;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      const float* plane = x + (b * channels + c) * height * width;
      const float* other = x + ((batch - 1 - b) * channels + c) * height * width;
      for (int64_t i = 0; i < height; ++i) {
        for (int64_t j = 0; j < width; ++j) {
          const int64_t at = i * width + j;
          // Halves and quarters are exact, so it does not matter whether the compiler fuses.
          *y++ = plane[at] / 2 + plane[(height - 1 - i) * width + j] / 4 + plane[i * width + width - 1 - j] / 4 +
                 other[at] / 8;
        }
      }
    }
  }
}

// The same with the conversions that a plan has inside: FLOAT and HALF are (B, 3, H, W), UINT8 is (B, H, W, 3).
inline void run_network(const std::string& type, const void* image, void* restored, const Sizes& sizes) {
  if (type == "FLOAT") {
    compute(static_cast<const float*>(image), static_cast<float*>(restored), sizes);
    return;
  }
  std::vector<float> x(elements(sizes));
  std::vector<float> y(x.size());
  if (type == "HALF") {
    const auto* from = static_cast<const serpent::Half*>(image);
    auto* to = static_cast<serpent::Half*>(restored);
    for (std::size_t at = 0; at < x.size(); ++at) {
      x[at] = serpent::load(from[at]);
    }
    compute(x.data(), y.data(), sizes);
    for (std::size_t at = 0; at < y.size(); ++at) {
      serpent::store(y[at], to[at]);
    }
    return;
  }
  const auto [batch, height, width, channels] = sizes;
  const auto in_planes = [&, plane = static_cast<std::size_t>(height * width),
                          bands = static_cast<std::size_t>(channels)](std::size_t at) {
    const std::size_t pixel = at / bands;
    return (pixel / plane * bands + at % bands) * plane + pixel % plane;
  };
  const auto* from = static_cast<const uint8_t*>(image);
  for (std::size_t at = 0; at < x.size(); ++at) {
    x[in_planes(at)] = static_cast<float>(from[at]) / 255.0F;
  }
  compute(x.data(), y.data(), {batch, channels, height, width});
  auto* to = static_cast<uint8_t*>(restored);
  for (std::size_t at = 0; at < y.size(); ++at) {
    to[at] = static_cast<uint8_t>(std::nearbyint(std::clamp(y[in_planes(at)], 0.0F, 1.0F) * 255.0F));
  }
}

}  // namespace standin
