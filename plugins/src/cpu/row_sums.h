// Sums over the lanes of several vectors at once.
#pragma once

#include "simd.h"

namespace serpent {
namespace {

#if defined(SERPENT_VECTOR_TYPES)

template <int... kIndices>
struct Indices {};

// Indices<0, 1, .., kCount - 1>; std::make_integer_sequence under a name of internal linkage.
template <int kCount, int... kIndices>
struct CountTo : CountTo<kCount - 1, kCount - 1, kIndices...> {};
template <int... kIndices>
struct CountTo<0, kIndices...> {
  using Type = Indices<kIndices...>;
};

// Adds the second half of each group of kWidth lanes to its first half; the results of a and b alternate.
template <int kWidth, class Real, int... kLane>
SERPENT_INLINE Vector<Real> fold(Vector<Real> a, Vector<Real> b, Indices<kLane...>) {
  constexpr int kHalf = kWidth / 2;
  constexpr int kFromB = static_cast<int>(Vector<Real>::kLanes);
  // Lane i of the result lies in half group i / kHalf: an even one is made from a, an odd one from b.
  return __builtin_shufflevector(a.lanes, b.lanes,
                                 (kLane / kWidth * kWidth + kLane % kHalf + kLane / kHalf % 2 * kFromB)...) +
         __builtin_shufflevector(a.lanes, b.lanes,
                                 (kLane / kWidth * kWidth + kLane % kHalf + kLane / kHalf % 2 * kFromB + kHalf)...);
}

// kWidth vectors into one. Row i meets row i + kWidth / 2, so that the sums end up in the order of the rows.
template <int kWidth, class Real>
SERPENT_INLINE Vector<Real> fold_all(Vector<Real>* rows) {
  if constexpr (kWidth == 1) {
    return rows[0];
  } else {
    for (int i = 0; i < kWidth / 2; ++i) {
      rows[i] = fold<kWidth>(rows[i], rows[i + kWidth / 2], typename CountTo<Vector<Real>::kLanes>::Type());
    }
    return fold_all<kWidth / 2>(rows);
  }
}

#endif

// to[i] = the sum of row i of `from`, which has kLanes rows of kLanes numbers.
template <class Real>
SERPENT_INLINE void row_sums(const Real* from, Real* to) {
  constexpr int64_t kLanes = Vector<Real>::kLanes;
#if defined(SERPENT_VECTOR_TYPES)
  Vector<Real> rows[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    rows[i] = Vector<Real>::load(from + i * kLanes);
  }
  fold_all<static_cast<int>(kLanes)>(rows).store(to);
#else
  for (int64_t i = 0; i < kLanes; ++i) {
    to[i] = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      to[i] += from[i * kLanes + lane];
    }
  }
#endif
}

}  // namespace
}  // namespace serpent
