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
#else
#define SERPENT_VECTORIZE
#endif

namespace serpent {
namespace {

template <class Real>
struct ExpTraits;

template <>
struct ExpTraits<float> {
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr int kTerms = 7;           // |r| <= ln(2)/2: remainder 6e-9
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

// e^x for x in [kLowest, kHighest], saturating outside; NaN stays NaN. Error under 2 ulp.
template <class Real>
inline Real exp_scan(Real x) {
  using Traits = ExpTraits<Real>;
  using Bits = typename Traits::Bits;
  x = x < Traits::kLowest ? Traits::kLowest : x;
  x = x > Traits::kHighest ? Traits::kHighest : x;
  constexpr Real kLog2E = static_cast<Real>(1.4426950408889634074);
  const Real shifted = x * kLog2E + Traits::kRound;
  const Real n = shifted - Traits::kRound;
  const Real r = (x - n * Traits::kLn2High) - n * Traits::kLn2Low;
  Real series = 1;
  for (int term = Traits::kTerms; term >= 1; --term) {
    series = series * r * (Real(1) / static_cast<Real>(term)) + Real(1);
  }
  // The integer n sits in the low bits of `shifted`; moved to the exponent field it multiplies by 2^n.
  const Bits exponent = bits_as<Bits>(shifted) - bits_as<Bits>(Traits::kRound);
  const Bits scaled = (exponent << Traits::kMantissaBits) + bits_as<Bits>(Real(1));
  return series * bits_as<Real>(scaled);
}

// log(1 + e) for e in [0, 1] as 2 atanh(e / (2 + e)): no cancellation at small e.
template <class Real>
inline Real log1p_unit(Real e) {
  const Real s = e / (Real(2) + e);
  const Real square = s * s;
  Real series = 0;
  for (int term = ExpTraits<Real>::kLogTerms - 1; term >= 0; --term) {
    series = series * square + Real(1) / static_cast<Real>(2 * term + 1);
  }
  return Real(2) * s * series;
}

// max(v, 0) + log1p(exp(-|v|)), without a threshold.
template <class Real>
inline Real softplus(Real v) {
  const Real magnitude = v < 0 ? -v : v;
  return (v > 0 ? v : Real(0)) + log1p_unit(exp_scan(-magnitude));
}

}  // namespace
}  // namespace serpent
