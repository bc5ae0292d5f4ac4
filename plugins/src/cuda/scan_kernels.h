// The kernels that walk the sequence.
//
//   scan_states   what each chunk makes of a zero state, and its sum of dt; from these follow the states that enter
//                 the chunks (scan_carry.h)
//   scan_tokens   y, from the states that enter the chunks: two images, of which scan_sum makes y, or y itself
//
// A block has one chunk of one tile of channels: a direction and its reverse, or all four, each split into parts. A
// warp has one part of one direction. Parts know what enters them as chunks do, but through shared memory.
#pragma once

#include "scan_chunk.h"

namespace serpent::cuda {

// The dynamic shared memory of a block: a tile for each warp, and what each made of a zero state.
template <class T, class V>
struct ScanShared {
  using Tile = ScanTile<T, V>;
  using Part = float[V::kOwnStates + 1][V::kOwnChannels][kWarpThreads];  // states, sum of dt

  Tile* tiles;
  Part* parts;

  SERPENT_DEVICE ScanShared(unsigned char* memory, const ScanSizes& sizes)
      : tiles(reinterpret_cast<Tile*>(memory)),
        parts(reinterpret_cast<Part*>(tiles + sizes.parts * sizes.directions)) {}

  static size_t bytes(int warps, int parts) {
    return static_cast<size_t>(warps) * (sizeof(Tile) + (parts > 1 ? sizeof(Part) : 0));
  }
};

// Leaves the calling warp's part for the others of the block, all of which come along.
template <class T, class V>
SERPENT_DEVICE void share_part(const ScanSizes& sizes, const ScanShared<T, V>& shared, const ScanWarp& me,
                               const ScanStates<V>& states) {
  auto& part = shared.parts[me.part * sizes.directions + me.slot];
  SERPENT_UNROLL
  for (int c = 0; c < V::kOwnChannels; ++c) {
    SERPENT_UNROLL
    for (int i = 0; i < V::kOwnStates; ++i) {
      part[i][c][me.lane] = states.h[i][c];
    }
    part[V::kOwnStates][c][me.lane] = states.dt_sum[c];
  }
  SERPENT_BLOCK_SYNC(parts_shared);
}

// Takes `states` through the first `count` parts of its direction.
template <class T, class V>
SERPENT_DEVICE void pass_parts(const ScanSizes& sizes, const ScanShared<T, V>& shared, const ScanWarp& me, int count,
                               ScanStates<V>& states) {
  SERPENT_UNROLL_BY(1)
  for (int part = 0; part < count; ++part) {
    const auto& left = shared.parts[part * sizes.directions + me.slot];
    states.pass_through(sizes, [&](int i, int c) { return left[i][c][me.lane]; });
  }
}

// Calls visit(i, c, offset) for each of the thread's states: its place in (B, 4, chunks, N, D).
template <class V, class Visit>
SERPENT_DEVICE void visit_chunk_states(const ScanSizes& sizes, const ScanWarp& me, const ScanStates<V>& states,
                                       const Visit& visit) {
  const int64_t record = sizes.record(me.picture, me.direction, me.chunk) * sizes.states;
  SERPENT_UNROLL
  for (int i = 0; i < V::kOwnStates; ++i) {
    SERPENT_UNROLL
    for (int c = 0; c < V::kOwnChannels; ++c) {
      if (states.has(sizes, i) && states.present(sizes, c)) {
        visit(i, c, (record + states.state(i)) * sizes.channels + states.channel(c));
      }
    }
  }
}

template <class T, class V>
SERPENT_KERNEL(V::kThreads, V::kMinBlocks)
void scan_states(const ScanArguments<T> arguments) {
  if (!ScanWarp::present(arguments)) {
    return;
  }
  const ScanShared<T, V> shared(shared_memory(), arguments);
  const ScanWarp me(arguments, V::kTileChannels);
  const bool needed = !me.last_chunk(arguments);
  ScanStates<V> states(arguments, me);
  if (needed) {
    scan_chunk<false>(arguments, me, shared.tiles[thread_index() / kWarpThreads], states);
  }
  if (V::kMaxParts > 1 && arguments.parts > 1) {
    share_part(arguments, shared, me, states);
    states.clear();
    pass_parts(arguments, shared, me, arguments.parts, states);
  }
  if (!needed || me.part > 0) {
    return;
  }
  visit_chunk_states(arguments, me, states,
                     [&](int i, int c, int64_t offset) { arguments.chunk_states[offset] = states.h[i][c]; });
  const int64_t record = arguments.record(me.picture, me.direction, me.chunk);
  SERPENT_UNROLL
  for (int c = 0; c < V::kOwnChannels; ++c) {
    if (states.sharer == 0 && states.present(arguments, c)) {
      arguments.dt_sums[record * arguments.channels + states.channel(c)] = states.dt_sum[c];
    }
  }
}

// y of the block's channels, where it has scanned all directions of a picture.
template <class T, class V>
SERPENT_DEVICE void sum_images(const ScanArguments<T>& arguments, const ScanWarp& me) {
  SERPENT_UNROLL_BY(1)
  for (int64_t i = thread_index(); i < arguments.tokens * V::kTileChannels; i += block_size()) {
    const int64_t channel = me.first_channel + i % V::kTileChannels;
    if (channel < arguments.channels) {
      const int64_t place = (me.picture * arguments.tokens + i / V::kTileChannels) * arguments.channels + channel;
      store(arguments.row_image[place] + arguments.column_image[place], arguments.y + place);
    }
  }
}

template <class T, class V>
SERPENT_KERNEL(V::kThreads, V::kMinBlocks)
void scan_tokens(const ScanArguments<T> arguments) {
  if (!ScanWarp::present(arguments)) {
    return;
  }
  const ScanShared<T, V> shared(shared_memory(), arguments);
  const ScanWarp me(arguments, V::kTileChannels);
  auto& tile = shared.tiles[thread_index() / kWarpThreads];
  ScanStates<V> states(arguments, me);
  if (V::kMaxParts > 1 && arguments.parts > 1) {
    if (me.part < arguments.parts - 1) {
      scan_chunk<false>(arguments, me, tile, states);
    }
    share_part(arguments, shared, me, states);
    states.clear();
  }
  if (arguments.chunks > 1) {
    visit_chunk_states(arguments, me, states,
                       [&](int i, int c, int64_t offset) { states.h[i][c] = arguments.chunk_states[offset]; });
  }
  if (V::kMaxParts > 1) {
    pass_parts(arguments, shared, me, me.part, states);
  }
  scan_chunk<true>(arguments, me, tile, states);
  if (arguments.directions == 4) {
    SERPENT_BLOCK_SYNC(images_written);
    sum_images<T, V>(arguments, me);
  }
}

// y = row image + column image, rounded once.
constexpr int kSumThreads = 256;
constexpr int kSumElements = 4;  // of a thread

template <class T>
SERPENT_KERNEL(kSumThreads, 1)
void scan_sum(const ScanArguments<T> arguments) {
  const int64_t elements = arguments.batch * arguments.tokens * arguments.channels;
  const int64_t first = folded_block() * kSumThreads * kSumElements + thread_index();
  float sum[kSumElements];
  SERPENT_UNROLL
  for (int i = 0; i < kSumElements; ++i) {
    const int64_t place = first + i * kSumThreads;
    sum[i] = place < elements ? load(arguments.row_image + place) + load(arguments.column_image + place) : 0.0F;
  }
  SERPENT_UNROLL
  for (int i = 0; i < kSumElements; ++i) {
    const int64_t place = first + i * kSumThreads;
    if (place < elements) {
      store(sum[i], arguments.y + place);
    }
  }
}

}  // namespace serpent::cuda
