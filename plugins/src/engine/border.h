// What a plan takes and gives: the three values of serpent_engine_io, as serpent/runtime/border.py has them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "serpent/engine.h"

namespace serpent::engine {

struct Border {
  serpent_engine_io io;
  std::string_view name;    // in the manifest
  std::string_view type;    // TensorRT's
  const char* layout;       // of the tensors, for messages
  int64_t planes;           // of one picture, one after the other
  int64_t bytes_per_pixel;  // of one plane

  // Sizes in the order of the tensors' axes.
  template <class Size>
  std::array<Size, 4> axes(Size batch, Size channels, Size height, Size width) const {
    return planes == 1 ? std::array{batch, height, width, channels} : std::array{batch, channels, height, width};
  }
};

inline constexpr std::array<Border, 3> kBorders = {{
    {SERPENT_ENGINE_F32_NCHW, "f32-nchw", "FLOAT", "(B, 3, H, W)", 3, 4},
    {SERPENT_ENGINE_F16_NCHW, "f16-nchw", "HALF", "(B, 3, H, W)", 3, 2},
    {SERPENT_ENGINE_U8_NHWC, "u8-nhwc", "UINT8", "(B, H, W, 3)", 1, 3},
}};

}  // namespace serpent::engine
