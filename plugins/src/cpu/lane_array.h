// An array with the operators of a vector, for compilers without vector types. Scalars count as equal lanes.
#pragma once

#include <cstdint>

namespace serpent {
namespace {

template <class Element, int64_t kLanes>
struct LaneArray {
  Element lane[kLanes];
};

template <class Element, int64_t kLanes>
inline Element lane_of(const LaneArray<Element, kLanes>& array, int64_t i) {
  return array.lane[i];
}

template <class Element>
inline Element lane_of(Element scalar, int64_t) {
  return scalar;
}

#define SERPENT_LANEWISE(name, Result, A, B, expression)   \
  template <class Element, int64_t kLanes>                 \
  inline LaneArray<Result, kLanes> name(A left, B right) { \
    LaneArray<Result, kLanes> result;                      \
    for (int64_t i = 0; i < kLanes; ++i) {                 \
      const Element a = lane_of(left, i);                  \
      const Element b = lane_of(right, i);                 \
      result.lane[i] = static_cast<Result>(expression);    \
    }                                                      \
    return result;                                         \
  }
#define SERPENT_ARRAY LaneArray<Element, kLanes>
#define SERPENT_SAME_TYPE(T) typename SameType<T>::Type
#define SERPENT_LANE_OPERATOR(op, Result)                                                  \
  SERPENT_LANEWISE(operator op, Result, SERPENT_ARRAY, SERPENT_ARRAY, a op b)              \
  SERPENT_LANEWISE(operator op, Result, SERPENT_ARRAY, SERPENT_SAME_TYPE(Element), a op b) \
  SERPENT_LANEWISE(operator op, Result, SERPENT_SAME_TYPE(Element), SERPENT_ARRAY, a op b)

// Keeps a scalar out of template deduction, so that an int literal may stand beside lanes of another type.
template <class T>
struct SameType {
  using Type = T;
};

SERPENT_LANE_OPERATOR(+, Element)
SERPENT_LANE_OPERATOR(-, Element)
SERPENT_LANE_OPERATOR(*, Element)
SERPENT_LANE_OPERATOR(/, Element)
SERPENT_LANE_OPERATOR(&, Element)
SERPENT_LANE_OPERATOR(|, Element)
SERPENT_LANE_OPERATOR(<<, Element)
SERPENT_LANE_OPERATOR(>>, Element)
SERPENT_LANE_OPERATOR(<, bool)
SERPENT_LANE_OPERATOR(>, bool)
#undef SERPENT_LANE_OPERATOR
#undef SERPENT_SAME_TYPE
#undef SERPENT_ARRAY
#undef SERPENT_LANEWISE

template <class To, class Element, int64_t kLanes>
inline LaneArray<To, kLanes> convert_lanes(const LaneArray<Element, kLanes>& from) {
  LaneArray<To, kLanes> result;
  for (int64_t i = 0; i < kLanes; ++i) {
    result.lane[i] = static_cast<To>(from.lane[i]);
  }
  return result;
}

template <class Element, int64_t kLanes>
inline LaneArray<Element, kLanes> select_lanes(const LaneArray<bool, kLanes>& mask, LaneArray<Element, kLanes> yes,
                                               const LaneArray<Element, kLanes>& no) {
  for (int64_t i = 0; i < kLanes; ++i) {
    yes.lane[i] = mask.lane[i] ? yes.lane[i] : no.lane[i];
  }
  return yes;
}

}  // namespace
}  // namespace serpent
