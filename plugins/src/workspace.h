// Device workspace of the CUDA scan: host-only arithmetic on the sizes.
#pragma once

#include <cstdint>

#include "serpent/scan.h"

namespace serpent {

constexpr int64_t kScanChunkTokens = 256;  // schema 1: what the sequence is split into at least

// Where each part of the workspace starts, in bytes. All parts are f32.
//   states   (B, 4, chunks, N, D): what a chunk makes of a zero state; then the state that enters it
//   dt_sums  (B, 4, chunks, D): sum of dt over a chunk, which its decay follows from
//   images   (B, L, D) twice: sum of the two row directions, sum of the two column directions
struct ScanLayout {
  int64_t tokens, chunk_tokens, chunks;
  uint64_t states, dt_sums, row_image, column_image, bytes;
};

// Longer chunks than those of the schema need less memory; only tests, which bring their own workspace, take shorter
// ones. Chunks of both directions of a pair lie at the same pixels: they are counted along the forward direction.
ScanLayout scan_layout(const serpent_scan_shape& shape, int64_t chunk_tokens = kScanChunkTokens);

// Bytes for `shape` under revision SERPENT_SCAN_SCHEMA. Never less for a larger shape.
uint64_t workspace_bytes(const serpent_scan_shape& shape);

// The same for the backward pass, which no plan contains: without a revision.
uint64_t backward_workspace_bytes(const serpent_scan_shape& shape);

}  // namespace serpent
