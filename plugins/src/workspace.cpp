#include "workspace.h"

#include "shape.h"

namespace serpent {
namespace {

constexpr uint64_t kAlignment = 256;    // what cudaMalloc gives; each part starts on it
constexpr uint64_t kChunkTokens = 256;  // schema 1: the sequence is split into chunks of this many tokens

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

// Schema 1: per direction, chunk and channel the N carried states and the chunk's sum of dt, all f32, and
// two f32 images (row directions, column directions) that the epilogue adds.
uint64_t workspace_bytes(const serpent_scan_shape& shape) {
  const auto tokens = static_cast<uint64_t>(shape.height) * static_cast<uint64_t>(shape.width);
  const auto chunks = (tokens + kChunkTokens - 1) / kChunkTokens;
  const auto rows = static_cast<uint64_t>(shape.batch) * static_cast<uint64_t>(kDirections) * chunks *
                    static_cast<uint64_t>(shape.channels);
  const auto image = static_cast<uint64_t>(shape.batch) * tokens * static_cast<uint64_t>(shape.channels);
  return aligned(rows * static_cast<uint64_t>(shape.d_state) * sizeof(float)) + aligned(rows * sizeof(float)) +
         2 * aligned(image * sizeof(float));
}

uint64_t backward_workspace_bytes(const serpent_scan_shape& shape) { return workspace_bytes(shape); }

}  // namespace serpent
