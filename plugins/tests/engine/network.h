// What the stand-in's network computes; standin.h has the formula.
#pragma once

#include <cstdint>

namespace standin {

// x and y are (B, 3, H, W) as `sizes` says.
inline void compute(const float* x, float* y, const int64_t* sizes) {
  const int64_t batch = sizes[0];
  const int64_t channels = sizes[1];
  const int64_t height = sizes[2];
  const int64_t width = sizes[3];
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

}  // namespace standin
