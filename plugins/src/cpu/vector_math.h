// exp2 and softplus of vectors.
//
// Near 0 the error of 2^z vanishes with z, and so that of a decay exp(dt * A) with dt: in a recurrence of slow decays
// an error at 0 would be amplified by 1 / (1 - decay).
#pragma once

#include "simd.h"

namespace serpent {
namespace {

template <class Real>
struct Exp2Traits;

// Added to z, kRound rounds it to an integer n and leaves n + bias, the exponent field of 2^n, in the low bits.
// At kLowest that field is 0, and so is the power. kExp2 equals (2^r - 1) / r at the Chebyshev nodes of [-1/2, 1/2],
// kAtanh equals atanh(s) / s as a polynomial in s^2 at those of [0, 1/9].
// kLn2High + kLn2Low is ln 2, and n * kLn2High is exact.
template <>
struct Exp2Traits<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr float kLowest = -127.0F;
  static constexpr float kHighest = 127.0F;
  static constexpr float kRound = 0x1.8p23F + 127.0F;
  static constexpr float kLn2High = 0x1.62e4p-1F;  // 15 bits
  static constexpr float kLn2Low = 0x1.7f7d1cp-20F;
  static constexpr float kExp2[] = {6.93147181e-1F, 2.4022349e-1F, 5.55038101e-2F,  //
                                    9.66636852e-3F, 1.33813025e-3F};                // within 4.9e-7
  static constexpr float kAtanh[] = {1.0F, 3.33331608e-1F, 2.00122976e-1F, 1.39825789e-1F,
                                     1.40788892e-1F};  // within 7.6e-9
};

template <>
struct Exp2Traits<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr double kLowest = -1023.0;
  static constexpr double kHighest = 1023.0;
  static constexpr double kRound = 0x1.8p52 + 1023.0;
  static constexpr double kLn2High = 0x1.62e42fefap-1;  // 37 bits
  static constexpr double kLn2Low = 0x1.cf79abc9e3b39p-40;
  static constexpr double kExp2[] = {6.93147180559945309e-1, 2.40226506959100982e-1, 5.55041086648215943e-2,
                                     9.61812910760688853e-3, 1.33335581464169353e-3, 1.54035304417360502e-4,
                                     1.52527338298361184e-5, 1.32154425879216897e-6, 1.01780624458457735e-7,
                                     7.0725859492692237e-9,  4.45496059818651839e-10};  // within 5.1e-17
  static constexpr double kAtanh[] = {1.0,
                                      0.333333333333330748,
                                      0.200000000000928737,
                                      0.142857142727270573,
                                      0.111111120403738366,
                                      0.0909087041625240226,
                                      0.0769330702115200388,
                                      0.0665018701633731217,
                                      0.0605508436403460883,
                                      0.0416225325593041029,
                                      0.0852208178139069906};  // within 2.4e-18
};

// Sum of series[i] x^i.
template <class Real, int kTerms>
SERPENT_INLINE Vector<Real> polynomial(Vector<Real> x, const Real (&series)[kTerms]) {
  Vector<Real> sum(series[kTerms - 1]);
  for (int i = kTerms - 2; i >= 0; --i) {
    sum = fma(sum, x, Vector<Real>(series[i]));
  }
  return sum;
}

// 2^z = (1 + fraction) 2^n. The decay of a state is close to 1, and what rounding to 1 + fraction would lose, the same
// at every token, a slow decay adds up: h + fraction h loses nothing of it.
template <class Real>
struct Decay {
  Vector<Real> fraction;
  Vector<Real> power;  // n itself with AVX-512, which scales by it in one instruction; else 2^n
};

// For z = dt * rate of bounded_rate and step_bound: |z| finite, and z up to about kHighest. NaN stays NaN, or gives 0.
// series: that of kExp2, or a longer one.
template <class Real, int kTerms>
SERPENT_INLINE Decay<Real> decay_of(Vector<Real> z, const Real (&series)[kTerms]) {
  using V = Vector<Real>;
#if defined(SERPENT_SCALES_BY_EXPONENT)
  const V n = round_to_integral(z);
  const V r = minus(z, n);
  return {polynomial(r, series) * r, n};
#else
  using Traits = Exp2Traits<Real>;
  z = at_least_negative(z, Traits::kLowest);
  const V shifted = z + V(Traits::kRound);
  const V r = z - (shifted - V(Traits::kRound));
  return {polynomial(r, series) * r, bits_as<typename V::Lanes>(shifted.bits() << Traits::kMantissaBits)};
#endif
}

template <class Real>
SERPENT_INLINE Decay<Real> decay_of(Vector<Real> z) {
  return decay_of(z, Exp2Traits<Real>::kExp2);
}

// 2^z h + a b
template <class Real>
SERPENT_INLINE Vector<Real> advance(Decay<Real> decay, Vector<Real> h, Vector<Real> a, Vector<Real> b) {
  const Vector<Real> sum = fma(decay.fraction, h, h);
#if defined(SERPENT_SCALES_BY_EXPONENT)
  return fma(a, b, scale(sum, decay.power));
#else
  return fma(sum, decay.power, a * b);
#endif
}

// 2^z h
template <class Real>
SERPENT_INLINE Vector<Real> apply(Decay<Real> decay, Vector<Real> h) {
  const Vector<Real> sum = fma(decay.fraction, h, h);
#if defined(SERPENT_SCALES_BY_EXPONENT)
  return scale(sum, decay.power);
#else
  return sum * decay.power;
#endif
}

// A log2(e), so that exp(dt A) = 2^(dt rate): finite, so that no product with a bounded step overflows.
template <class Real>
inline Real bounded_rate(Real A) {
  if (A != A) {
    return static_cast<Real>(__builtin_nanf(""));  // without a payload, which the exponent arithmetic could change
  }
  const Real rate = A * static_cast<Real>(1.4426950408889634074);
  return rate < Real(-0x1p63F) ? Real(-0x1p63F) : rate > Real(0x1p63F) ? Real(0x1p63F) : rate;
}

// Bound of dt in dt * rate. A positive rate, which the contract excludes, saturates instead of wrapping around.
template <class Real>
inline Real step_bound(Real highest_rate) {
  constexpr Real kFinite = 0x1p62F;
  constexpr Real kHighest = Exp2Traits<Real>::kHighest;
  return highest_rate * kFinite > kHighest ? kHighest / highest_rate : kFinite;
}

// e^-|v|, 0 below about e^-88 (f32) or e^-709 (f64).
template <class Real>
SERPENT_INLINE Vector<Real> exp_minus_absolute(Vector<Real> v) {
  using V = Vector<Real>;
  using Traits = Exp2Traits<Real>;
  const V log2e(static_cast<Real>(1.4426950408889634074));
  const V x = max(V(Traits::kLowest * static_cast<Real>(0.693147)), min(V(Real(0)) - v, v));
  // The remainder is taken in two parts: the rounding of |v| log2(e) would show in the result.
  const V shifted = fma(x, log2e, V(Traits::kRound));
  const V n = shifted - V(Traits::kRound);
  const V r = fma(n, V(-Traits::kLn2Low), fma(n, V(-Traits::kLn2High), x)) * log2e;
  const V power = bits_as<typename V::Lanes>(shifted.bits() << Traits::kMantissaBits);
  return fma(polynomial(r, Traits::kExp2) * r, power, power);
}

// log(1 + e) for e in [0, 1] as 2 atanh(e / (2 + e)): no cancellation at small e.
template <class Real>
SERPENT_INLINE Vector<Real> log1p_unit(Vector<Real> e) {
  using V = Vector<Real>;
  const V s = e / (V(Real(2)) + e);
  return (s + s) * polynomial(s * s, Exp2Traits<Real>::kAtanh);
}

// max(v, 0) + log1p(exp(-|v|)), without a threshold.
template <class Real>
SERPENT_INLINE Vector<Real> softplus(Vector<Real> v) {
  return max(Vector<Real>(Real(0)), v) + log1p_unit(exp_minus_absolute(v));
}

// The same, and its slope, the sigmoid of v.
template <class Real>
SERPENT_INLINE Vector<Real> softplus(Vector<Real> v, Vector<Real>& slope) {
  using V = Vector<Real>;
  const V e = exp_minus_absolute(v);
  slope = where_less(v, V(Real(0)), e, V(Real(1))) / (V(Real(1)) + e);
  return max(V(Real(0)), v) + log1p_unit(e);
}

}  // namespace
}  // namespace serpent
