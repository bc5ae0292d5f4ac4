// 16-bit storage types: read as f32, written with round-to-nearest-even.
#pragma once

#include <cstdint>

namespace serpent {
namespace {

// std::bit_cast would have external linkage; see kernel_impl.h.
template <class To, class From>
inline To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
}

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

}  // namespace
}  // namespace serpent
