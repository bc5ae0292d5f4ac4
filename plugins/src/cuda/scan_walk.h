// The pixels that one direction visits, one after the other.
#pragma once

#include "scan_arguments.h"

namespace serpent::cuda {

class PixelWalk {
 public:
  // Starts at the `first`-th token of a warp's part of a chunk.
  SERPENT_DEVICE PixelWalk(const ScanSizes& sizes, const ScanWarp& me, int first) : sizes_(sizes), me_(me) {
    int64_t position = me.begin + (me.reversed() ? me.count - 1 - first : first);
    if (position < 0 || position >= sizes.tokens) {  // a lane without a token
      position = 0;
    }
    const int64_t first_pixel = me.picture * sizes.tokens;
    if (!me.columns()) {  // rows follow each other without a gap: one line without an end
      pixel_ = first_pixel + position;
      step_ = me.reversed() ? -1 : 1;
      left_ = kFar;
      return;
    }
    const int64_t row = position % sizes.height;
    pixel_ = first_pixel + row * sizes.width + position / sizes.height;
    step_ = me.reversed() ? -sizes.width : sizes.width;
    left_ = within_reach(me.reversed() ? row + 1 : sizes.height - row);
  }

  SERPENT_DEVICE int64_t pixel() const { return pixel_; }  // of the batch

  SERPENT_DEVICE void advance(int tokens) {
    pixel_ += tokens * step_;
    left_ -= tokens;
    while (left_ <= 0) {  // from past the end of a column to its neighbour
      left_ = within_reach(left_ + sizes_.height);
      pixel_ += me_.reversed() ? sizes_.tokens - 1 : 1 - sizes_.tokens;
    }
  }

 private:
  static constexpr int kFar = INT32_MAX;  // more tokens than a chunk has

  SERPENT_DEVICE static int within_reach(int64_t tokens) { return static_cast<int>(tokens < kFar ? tokens : kFar); }

  const ScanSizes& sizes_;
  const ScanWarp& me_;
  int64_t pixel_;
  int64_t step_;  // from pixel to pixel
  int left_;      // tokens of the line from this one on
};

}  // namespace serpent::cuda
