#include "workspace.h"

#include <initializer_list>

#include "shape.h"

namespace serpent {
namespace {

constexpr uint64_t kAlignment = 256;  // what cudaMalloc gives; each part starts on it

}  // namespace

ScanLayout scan_layout(const serpent_scan_shape& shape, int64_t chunk_tokens) {
  ScanLayout layout{};
  layout.tokens = shape.height * shape.width;
  layout.chunk_tokens = chunk_tokens;
  layout.chunks = layout.tokens / chunk_tokens + (layout.tokens % chunk_tokens != 0 ? 1 : 0);

  const auto place = [&](std::initializer_list<int64_t> sides) {
    uint64_t bytes = sizeof(float);
    for (const int64_t side : sides) {
      bytes *= static_cast<uint64_t>(side);
    }
    const uint64_t start = layout.bytes;
    layout.bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return start;
  };
  layout.states = place({shape.batch, kDirections, layout.chunks, shape.d_state, shape.channels});
  layout.dt_sums = place({shape.batch, kDirections, layout.chunks, shape.channels});
  layout.row_image = place({shape.batch, layout.tokens, shape.channels});
  layout.column_image = place({shape.batch, layout.tokens, shape.channels});
  return layout;
}

uint64_t workspace_bytes(const serpent_scan_shape& shape) { return scan_layout(shape).bytes; }

}  // namespace serpent
