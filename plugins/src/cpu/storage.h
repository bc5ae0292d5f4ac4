// 16-bit storage types: read as f32, written with round-to-nearest-even.
#pragma once

#include "simd.h"

namespace serpent {
namespace {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

inline float load(float value) { return value; }
inline double load(double value) { return value; }
inline float load(BFloat16 value) { return bits_as<float>(static_cast<uint32_t>(value.bits) << 16); }

inline float load(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000U) << 16;
  const uint32_t magnitude = value.bits & 0x7fffU;
  if (magnitude >= 0x7c00U) {  // infinity or NaN
    return bits_as<float>(sign | 0x7f800000U | (magnitude << 13));
  }
  // Reads the bits as a float 2^112 too small; the multiplication is exact and normalises subnormals too.
  const float scaled = bits_as<float>(magnitude << 13) * 0x1p112F;
  return bits_as<float>(sign | bits_as<uint32_t>(scaled));
}

inline void store(float value, float& out) { out = value; }
inline void store(double value, double& out) { out = value; }

inline void store(float value, BFloat16& out) {
  const auto bits = bits_as<uint32_t>(value);
  if (value != value) {
    out.bits = static_cast<uint16_t>((bits >> 16) | 0x40U);  // keep it a NaN even if its payload was low
    return;
  }
  out.bits = static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

inline void store(float value, Half& out) {
  const auto bits = bits_as<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  uint32_t half = 0;
  if (magnitude > 0x7f800000U) {
    half = 0x7e00U;
  } else if (magnitude >= 0x47800000U) {  // 2^16 and above
    half = 0x7c00U;
  } else if (magnitude >= 0x38800000U) {  // normal in f16; the carry of 65520 rounds to infinity by itself
    half = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
  } else {  // subnormal in f16: adding 0.5 leaves the rounded value in the low mantissa bits
    const float shifted = bits_as<float>(magnitude) + 0.5F;
    half = bits_as<uint32_t>(shifted) - bits_as<uint32_t>(0.5F);
  }
  out.bits = static_cast<uint16_t>(sign | half);
}

// The same for a vector of consecutive numbers; no alignment is asked for.
SERPENT_INLINE Vector<float> load_vector(const float* from) { return Vector<float>::load(from); }
SERPENT_INLINE Vector<double> load_vector(const double* from) { return Vector<double>::load(from); }
SERPENT_INLINE void store_vector(Vector<float> values, float* to) { values.store(to); }
SERPENT_INLINE void store_vector(Vector<double> values, double* to) { values.store(to); }

using FloatLanes = Vector<float>::Lanes;
using FloatBits = Vector<float>::Bits;
using ShortBits = LanesOf<uint16_t, Vector<float>::kLanes>::Type;

template <class T>
SERPENT_INLINE FloatBits load_16_bits(const T* from) {
  ShortBits bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return convert_lanes<uint32_t>(bits);
}

template <class T>
SERPENT_INLINE void store_16_bits(FloatBits values, T* to) {
  const ShortBits bits = convert_lanes<uint16_t>(values);
  __builtin_memcpy(to, &bits, sizeof(bits));
}

SERPENT_INLINE Vector<float> load_vector(const BFloat16* from) { return bits_as<FloatLanes>(load_16_bits(from) << 16); }

SERPENT_INLINE void store_vector(Vector<float> values, BFloat16* to) {
  const FloatBits bits = values.bits();
  const FloatBits rounded = bits + (((bits >> 16) & 1U) + 0x7fffU);
  const FloatBits quiet = bits | 0x400000U;
  store_16_bits(select_lanes((bits & 0x7fffffffU) > 0x7f800000U, quiet, rounded) >> 16, to);
}

SERPENT_INLINE Vector<float> load_vector(const Half* from) {
#if defined(SERPENT_USE_AVX512)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(SERPENT_USE_AVX2)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  const FloatBits bits = load_16_bits(from);
  const FloatBits magnitude = (bits & 0x7fffU) << 13;
  const FloatBits finite = bits_as<FloatBits>(bits_as<FloatLanes>(magnitude) * 0x1p112F);
  const FloatBits special = magnitude | 0x7f800000U;
  return bits_as<FloatLanes>(select_lanes(magnitude > 0xf7fffffU, special, finite) | ((bits & 0x8000U) << 16));
#endif
}

SERPENT_INLINE void store_vector(Vector<float> values, Half* to) {
#if defined(SERPENT_USE_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtps_ph(values.lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(SERPENT_USE_AVX2)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(values.lanes, _MM_FROUND_TO_NEAREST_INT));
#else
  const FloatBits bits = values.bits();
  const FloatBits magnitude = bits & 0x7fffffffU;
  const FloatBits normal = (magnitude - 0x38000000U + (((magnitude >> 13) & 1U) + 0xfffU)) >> 13;
  const FloatBits subnormal = bits_as<FloatBits>(bits_as<FloatLanes>(magnitude) + 0.5F) - 0x3f000000U;
  const FloatBits infinite = (magnitude & 0U) + 0x7c00U;
  FloatBits half = select_lanes(magnitude > 0x387fffffU, normal, subnormal);
  half = select_lanes(magnitude > 0x477fffffU, infinite, half);
  half = select_lanes(magnitude > 0x7f800000U, infinite | 0x200U, half);
  store_16_bits(half | ((bits >> 16) & 0x8000U), to);
#endif
}

}  // namespace
}  // namespace serpent
