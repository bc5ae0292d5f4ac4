// exp and softplus as straight-line arithmetic, so that compilers vectorise loops over channels.
//
// The series are Taylor series: their value at 0 is exact, so the relative error of a decay exp(dt * A)
// vanishes with dt. In a recurrence of slow decays an error at 0 would be amplified by 1 / (1 - decay).
#pragma once

#include <cstdint>

#include "storage.h"

// Before a loop over the lanes of a tile: they are independent, keep them in vector registers. Without it
// GCC unrolls the short loop completely before its vectoriser sees it.
#if defined(__GNUC__)
#define SERPENT_VECTORIZE _Pragma("omp simd")
#define SERPENT_INLINE inline __attribute__((always_inline))  // a call inside such a loop would keep it scalar
#else
#define SERPENT_VECTORIZE
#define SERPENT_INLINE inline
#endif

namespace serpent {
namespace {

template <class Real>
struct ExpTraits;

template <>
struct ExpTraits<float> {
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr int kTerms = 7;            // |r| <= ln(2)/2: remainder 6e-9
  static constexpr float kRound = 0x1.8p23F;  // adding and subtracting it rounds to the nearest integer
  static constexpr float kLowest = -87.0F;    // e^-87 = 1.6e-38 stands for everything below
  static constexpr float kHighest = 88.0F;
  static constexpr float kLn2High = 0x1.62e4p-1F;  // 15 bits: n * kLn2High is exact
  static constexpr float kLn2Low = 0x1.7f7d1cp-20F;
  static constexpr int kLogTerms = 8;  // s <= 1/3: remainder 1.4e-9
};

template <>
struct ExpTraits<double> {
  using Bits = uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr int kTerms = 13;  // remainder 4e-18
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLowest = -708.0;
  static constexpr double kHighest = 709.0;
  static constexpr double kLn2High = 0x1.62e42fefap-1;  // 37 bits
  static constexpr double kLn2Low = 0x1.cf79abc9e3b39p-40;
  static constexpr int kLogTerms = 17;  // remainder 2e-18
};

template <class Real>
constexpr Real inverse_factorial(int n) {
  double product = 1;
  for (int factor = 2; factor <= n; ++factor) {
    product *= factor;
  }
  return static_cast<Real>(1 / product);
}

// Sum of r^(k - kTerm) / k! for k from kTerm to kTerms. Recursion instead of a loop: the vectoriser gives up on
// a loop inside the loop over lanes.
template <class Real, int kTerms, int kTerm = 0>
SERPENT_INLINE Real exp_series(Real r) {
  constexpr Real kCoefficient = inverse_factorial<Real>(kTerm);
  if constexpr (kTerm == kTerms) {
    return kCoefficient;
  } else {
    return exp_series<Real, kTerms, kTerm + 1>(r) * r + kCoefficient;
  }
}

// Sum of s^(k - kTerm) / (2k + 1) for k from kTerm to kTerms - 1: atanh(t) / t at s = t * t.
template <class Real, int kTerms, int kTerm = 0>
SERPENT_INLINE Real atanh_series(Real s) {
  constexpr Real kCoefficient = Real(1) / static_cast<Real>(2 * kTerm + 1);
  if constexpr (kTerm + 1 == kTerms) {
    return kCoefficient;
  } else {
    return atanh_series<Real, kTerms, kTerm + 1>(s) * s + kCoefficient;
  }
}

// e^x for x in [kLowest, kHighest], saturating outside; NaN stays NaN. Error under 2 ulp.
template <class Real>
SERPENT_INLINE Real exp_scan(Real x) {
  using Traits = ExpTraits<Real>;
  using Bits = typename Traits::Bits;
  x = x < Traits::kLowest ? Traits::kLowest : x;
  x = x > Traits::kHighest ? Traits::kHighest : x;
  constexpr Real kLog2E = static_cast<Real>(1.4426950408889634074);
  const Real shifted = x * kLog2E + Traits::kRound;
  const Real n = shifted - Traits::kRound;
  const Real r = (x - n * Traits::kLn2High) - n * Traits::kLn2Low;
  const Real series = exp_series<Real, Traits::kTerms>(r);
  // The integer n sits in the low bits of `shifted`; moved to the exponent field it multiplies by 2^n.
  const Bits exponent = bits_as<Bits>(shifted) - bits_as<Bits>(Traits::kRound);
  const Bits scaled = (exponent << Traits::kMantissaBits) + bits_as<Bits>(Real(1));
  return series * bits_as<Real>(scaled);
}

// log(1 + e) for e in [0, 1] as 2 atanh(e / (2 + e)): no cancellation at small e.
template <class Real>
SERPENT_INLINE Real log1p_unit(Real e) {
  const Real s = e / (Real(2) + e);
  return Real(2) * s * atanh_series<Real, ExpTraits<Real>::kLogTerms>(s * s);
}

template <class Real>
SERPENT_INLINE Real absolute(Real v) {
  using Bits = typename ExpTraits<Real>::Bits;
  return bits_as<Real>(bits_as<Bits>(v) & (~Bits(0) >> 1));
}

// max(v, 0) + log1p(exp(-|v|)), without a threshold.
template <class Real>
SERPENT_INLINE Real softplus(Real v) {
  // max(v, 0) through the sign bit: a comparison here becomes a branch, which is not vectorised.
  using Bits = typename ExpTraits<Real>::Bits;
  const Bits sign = bits_as<Bits>(v) >> (8 * sizeof(Bits) - 1);
  const Real positive = bits_as<Real>(bits_as<Bits>(v) & (sign - 1));
  return positive + log1p_unit(exp_scan(-absolute(v)));
}

}  // namespace
}  // namespace serpent
