#include "backward_workspace.h"

#include <algorithm>
#include <initializer_list>

#include "divide_up.h"
#include "parts.h"

namespace serpent {

BackwardLayout backward_layout(const serpent_scan_shape& shape, const BackwardTuning& tuning) {
  BackwardLayout layout{};
  layout.tokens = shape.height * shape.width;
  layout.chunk_tokens = tuning.chunk_tokens;
  layout.chunks = divide_up(layout.tokens, layout.chunk_tokens);
  layout.subtiles = divide_up(layout.chunk_tokens, kBackwardSubtile);
  layout.tiles = divide_up(shape.channels, kBackwardChannels);
  layout.warps = divide_up(shape.d_state, kBackwardStates);
  const int64_t running = std::max<int64_t>(shape.batch * layout.chunks, 1) * layout.warps;
  layout.splits = std::clamp<int64_t>(tuning.warps_wanted / running, 1, layout.tiles);

  const auto place = [&](std::initializer_list<int64_t> sides) { return place_part(layout.bytes, sides); };
  const int64_t B = shape.batch, N = shape.d_state, R = shape.dt_rank;
  layout.records = place({2, B, layout.chunks, layout.tiles, 2 * N + R + 2, kBackwardChannels});
  layout.checkpoints = place({B, layout.chunks, layout.splits, layout.subtiles - 1, N, kBackwardChannels});
  layout.image = place({B, layout.tokens, shape.channels});
  layout.columns = place({layout.splits, 2, B, layout.tokens, R + 2 * N});
  return layout;
}

uint64_t backward_workspace_bytes(const serpent_scan_shape& shape) { return backward_layout(shape).bytes; }

}  // namespace serpent
