// The pixels that one direction visits, one after the other.
#pragma once

#include "scan_arguments.h"

namespace serpent::cuda {

class PixelWalk {
 public:
  // Starts at the `first`-th token of a warp's part of a chunk.
  SERPENT_DEVICE PixelWalk(const ScanSizes& sizes, const ScanWarp& me, int first) {
    int64_t position = me.begin + (me.reversed() ? me.count - 1 - first : first);
    if (position < 0 || position >= sizes.tokens) {  // a lane without a token
      position = 0;
    }
    line_ = me.columns() ? sizes.height : sizes.tokens;
    step_ = me.columns() ? sizes.width : 1;
    pixel_ = me.columns() ? position % sizes.height * sizes.width + position / sizes.height : position;
    pixel_ += me.picture * sizes.tokens;
    done_ = me.columns() ? position % sizes.height : position;
    wrap_ = 1 - line_ * step_;
    if (me.reversed()) {
      done_ = line_ - 1 - done_;
      step_ = -step_;
      wrap_ = -wrap_;
    }
  }

  SERPENT_DEVICE int64_t pixel() const { return pixel_; }  // of the batch

  SERPENT_DEVICE void advance(int tokens) {
    pixel_ += tokens * step_;
    done_ += tokens;
    while (done_ >= line_) {
      done_ -= line_;
      pixel_ += wrap_;
    }
  }

 private:
  int64_t pixel_;
  int64_t done_;  // tokens of the line before this one
  int64_t line_;  // tokens of a column; rows follow each other without a gap, and so are one line
  int64_t step_;  // from pixel to pixel
  int64_t wrap_;  // added where a line ends
};

}  // namespace serpent::cuda
