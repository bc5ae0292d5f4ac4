// What the sources of the storage types share.
#pragma once

#include <algorithm>

#include "scan_carry.h"
#include "scan_kernels.h"
#include "scan_run.h"

namespace serpent::cuda {

inline bool aligned_to_vectors(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0; }

template <class T>
void launch_sum(const ScanArguments<T>& arguments, void* stream) {
  constexpr int64_t kElements = int64_t{kSumThreads} * kSumElements;
  const int64_t elements = arguments.batch * arguments.tokens * arguments.channels;
  launch(scan_sum<T>, folded_grid((elements + kElements - 1) / kElements), kSumThreads, 0, stream, arguments);
}

template <class T, class V>
void run_variant(ScanArguments<T> arguments, const ScanPlan& plan, void* stream) {
  arguments.directions = plan.variant->form == ScanForm::kSingle ? 4 : 2;
  arguments.tiles = (arguments.channels + V::kTileChannels - 1) / V::kTileChannels;
  int parts = plan.parts;
  const auto shared_bytes = [&] { return ScanShared<T, V>::bytes(parts * arguments.directions, parts); };
  while (parts > 1 && shared_bytes() > kMaxSharedBytes) {
    --parts;
  }
  const int64_t longest = std::min(arguments.chunk_tokens, arguments.tokens);
  arguments.parts = parts;
  arguments.part_tokens = (longest + parts - 1) / parts;

  const Index3 grid = folded_grid(ScanWarp::blocks(arguments));
  const auto threads = static_cast<unsigned>(parts * arguments.directions) * kWarpThreads;
  if (arguments.chunks > 1) {
    launch(scan_states<T, V>, grid, threads, shared_bytes(), stream, arguments);
    launch_scan_carry(arguments, stream);
  }
  launch(scan_tokens<T, V>, grid, threads, shared_bytes(), stream, arguments);
  if (arguments.directions == 2) {
    launch_sum(arguments, stream);
  }
}

template <class T>
void run_scan(const ScanRun& run) {
  ScanArguments<T> arguments{};
  static_cast<ScanSizes&>(arguments) = run.sizes;
  arguments.x = static_cast<const T*>(run.tensors.x);
  arguments.x_dbl = static_cast<const T*>(run.tensors.x_dbl);
  arguments.y = static_cast<T*>(run.tensors.y);
  arguments.vectors = arguments.channels * sizeof(T) % kVectorBytes == 0 && aligned_to_vectors(arguments.x) &&
                      aligned_to_vectors(arguments.x_dbl);
  visit_variant(run.plan.variant->kernels, [&]<class V>(V) { run_variant<T, V>(arguments, run.plan, run.stream); });
}

}  // namespace serpent::cuda
