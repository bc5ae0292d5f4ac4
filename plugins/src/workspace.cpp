#include "workspace.h"

#include <initializer_list>

#include "divide_up.h"
#include "parts.h"
#include "shape.h"

namespace serpent {

ScanLayout scan_layout(const serpent_scan_shape& shape, int64_t chunk_tokens) {
  ScanLayout layout{};
  layout.tokens = shape.height * shape.width;
  layout.chunk_tokens = chunk_tokens;
  layout.chunks = divide_up(layout.tokens, chunk_tokens);

  const auto place = [&](std::initializer_list<int64_t> sides) { return place_part(layout.bytes, sides); };
  layout.states = place({shape.batch, kDirections, layout.chunks, shape.d_state, shape.channels});
  layout.dt_sums = place({shape.batch, kDirections, layout.chunks, shape.channels});
  layout.row_image = place({shape.batch, layout.tokens, shape.channels});
  layout.column_image = place({shape.batch, layout.tokens, shape.channels});
  return layout;
}

uint64_t workspace_bytes(const serpent_scan_shape& shape) { return scan_layout(shape).bytes; }

}  // namespace serpent
