// The forms in which the scan kernels are compiled: how the states and channels of a scan are laid on the threads of a
// warp. Plain C++, for host and device.
#pragma once

#include <cstdint>

#include "device_types.h"
#include "shape.h"

namespace serpent::cuda {

constexpr int kMaxStates = static_cast<int>(kMaxCudaState);
constexpr int kMaxRanks = static_cast<int>(kMaxCudaDtRank);

// kSharers neighbouring lanes have the same kOwnChannels channels, and kOwnStates states each of every one of them: a
// lane's i-th state is i * kSharers + its place among the sharers, and its c-th channel lies c * kGroups further.
// kN and kR are the N and R that the kernels are compiled for, or 0: any that fit. kTokens tokens are in shared memory
// at a time; a block has at most kMaxWarps warps.
template <int kOwnStates_, int kSharers_, int kOwnChannels_, int kN_, int kR_, int kTokens_, int kMaxWarps_>
struct ScanVariant {
  static constexpr int kOwnStates = kOwnStates_;
  static constexpr int kSharers = kSharers_;
  static constexpr int kOwnChannels = kOwnChannels_;
  static constexpr int kN = kN_;
  static constexpr int kR = kR_;
  static constexpr int kTokens = kTokens_;
  static constexpr int kMaxWarps = kMaxWarps_;

  static constexpr int kThreads = static_cast<int>(kWarpThreads) * kMaxWarps;
  static constexpr int kMinBlocks = (kN > 0 ? 16 : 12) / kMaxWarps;  // at most 128 registers a thread, or 168
  static constexpr int kMaxParts = kMaxWarps / 2;  // of a chunk, a warp each in both directions of a pair
  static constexpr int kGroups = static_cast<int>(kWarpThreads) / kSharers;  // of lanes with the same channels
  static constexpr int kTileChannels = kGroups * kOwnChannels;

  // One token's row of shared memory, f32: dt_r, then for each sharer its states' B, then for each its states' C. Parts
  // are filled up to whole vectors of kVector, which one instruction reads; with 8 sharers there would be more filling
  // than the shared memory of 16 warps has room for.
  static constexpr int kVector = kSharers >= 8 ? 2 : 4;
  static constexpr int kStates = (kOwnStates + kVector - 1) / kVector * kVector;
  static constexpr int kRanks = ((kR > 0 ? kR : kMaxRanks) + 3) / 4 * 4;
  static constexpr int kB = kRanks;
  static constexpr int kC = kB + kSharers * kStates;
  static constexpr int kRowFloats = (kC + kSharers * kStates + 3) / 4 * 4;

  // Where R is even, a row of x_dbl (four directions) is a multiple of 16 bytes in any type, and one direction's part
  // of it a whole number of pairs of elements.
  static constexpr bool kVectors = kN > 0 && kR > 0 && kR % 2 == 0;
  static constexpr int kColumns = kR + 2 * kN;

  static_assert(kOwnStates * kSharers == kMaxStates || (kN > 0 && kR > 0));
  static_assert(kN == 0 || (kN <= kOwnStates * kSharers && kN > (kOwnStates - 1) * kSharers));
};

// The four scales of the network, N and R of which are 6, 2 to 43, 16: 22 states a thread, over all of its channels,
// where the work fills a GPU, and 12 where it does not.
using Scan6 = ScanVariant<6, 1, 2, 6, 2, 8, 8>;
using Scan11 = ScanVariant<11, 1, 2, 11, 4, 8, 2>;
using Scan22 = ScanVariant<11, 2, 2, 22, 8, 8, 2>;
using Scan43 = ScanVariant<11, 4, 2, 43, 16, 8, 2>;
using Scan11Narrow = ScanVariant<6, 2, 2, 11, 4, 4, 16>;
using Scan22Narrow = ScanVariant<6, 4, 2, 22, 8, 4, 16>;
using Scan43Narrow = ScanVariant<6, 8, 2, 43, 16, 4, 16>;
using ScanAny = ScanVariant<16, 4, 1, 0, 0, 4, 2>;

enum class ScanKernels { k6, k11, k22, k43, k11Narrow, k22Narrow, k43Narrow, kAny };

// visit(V{}) with the variant of that name.
template <class Visit>
auto visit_variant(ScanKernels kernels, const Visit& visit) {
  switch (kernels) {
    case ScanKernels::k6:
      return visit(Scan6{});
    case ScanKernels::k11:
      return visit(Scan11{});
    case ScanKernels::k22:
      return visit(Scan22{});
    case ScanKernels::k43:
      return visit(Scan43{});
    case ScanKernels::k11Narrow:
      return visit(Scan11Narrow{});
    case ScanKernels::k22Narrow:
      return visit(Scan22Narrow{});
    case ScanKernels::k43Narrow:
      return visit(Scan43Narrow{});
    default:
      return visit(ScanAny{});
  }
}

}  // namespace serpent::cuda
