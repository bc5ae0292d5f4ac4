// What each PTX instruction does, for the C++ that tests/ptx_to_cpp.py writes: ptx_<name>, T and S its types.
// Arithmetic here; memory, barriers and shuffles in memory.h. Source: PTX ISA 9.0, section 9.7.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cpu/storage.h"
#include "memory.h"
#include "registers.h"

namespace serpent::cuda::ptx {

// Integers, and floats where the name has no rounding: PTX rounds those to nearest even.
#define SERPENT_PTX_BINARY(name, expression) \
  template <class T, class A, class B>       \
  auto ptx_##name(A left, B right) {         \
    const T a = as<T>(left);                 \
    const T b = as<T>(right);                \
    return expression;                       \
  }
SERPENT_PTX_BINARY(add, static_cast<T>(a + b))
SERPENT_PTX_BINARY(sub, static_cast<T>(a - b))
SERPENT_PTX_BINARY(mul, static_cast<T>(a* b))
SERPENT_PTX_BINARY(mul_lo, static_cast<T>(a* b))
SERPENT_PTX_BINARY(div, static_cast<T>(a / b))
SERPENT_PTX_BINARY(rem, static_cast<T>(a % b))
SERPENT_PTX_BINARY(and, static_cast<T>(a& b))
SERPENT_PTX_BINARY(or, static_cast<T>(a | b))
SERPENT_PTX_BINARY(xor, static_cast<T>(a ^ b))
SERPENT_PTX_BINARY(setp_eq, a == b)
SERPENT_PTX_BINARY(setp_ne, a != b && a == a && b == b)
SERPENT_PTX_BINARY(setp_neu, a != b)
SERPENT_PTX_BINARY(setp_lt, a < b)
SERPENT_PTX_BINARY(setp_le, a <= b)
SERPENT_PTX_BINARY(setp_gt, a > b)
SERPENT_PTX_BINARY(setp_ge, a >= b)
SERPENT_PTX_BINARY(setp_nan, a != a || b != b)
SERPENT_PTX_BINARY(setp_num, a == a && b == b)
SERPENT_PTX_BINARY(setp_gtu, !(a <= b))
SERPENT_PTX_BINARY(setp_geu, !(a < b))
SERPENT_PTX_BINARY(setp_ltu, !(a >= b))
SERPENT_PTX_BINARY(setp_leu, !(a > b))
#undef SERPENT_PTX_BINARY

template <class T, class A, class B>
T ptx_min(A left, B right) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmin(as<T>(left), as<T>(right));
  } else {
    return std::min(as<T>(left), as<T>(right));
  }
}

template <class T, class A, class B>
T ptx_max(A left, B right) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmax(as<T>(left), as<T>(right));
  } else {
    return std::max(as<T>(left), as<T>(right));
  }
}

template <class T, class A, class B>
auto ptx_mul_wide(A left, B right) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4);
  using Unsigned = Bits<2 * sizeof(T)>;
  using Wide = std::conditional_t<std::is_signed_v<T>, std::make_signed_t<Unsigned>, Unsigned>;
  return static_cast<Wide>(as<T>(left)) * static_cast<Wide>(as<T>(right));
}

template <class T, class A, class B>
T ptx_mul_hi(A left, B right) {
  return static_cast<T>(ptx_mul_wide<T>(left, right) >> (8 * sizeof(T)));
}

template <class T, class A, class B, class C>
T ptx_mad_lo(A left, B right, C addend) {
  return static_cast<T>(as<T>(left) * as<T>(right) + as<T>(addend));
}

template <class T, class A, class B, class C>
auto ptx_mad_wide(A left, B right, C addend) {
  const auto product = ptx_mul_wide<T>(left, right);
  return product + as<decltype(product)>(addend);
}

// Shifts by the width or more leave zeros, or the sign.
template <class T, class A, class B>
T ptx_shl(A value, B count) {
  const auto by = as<uint32_t>(count);
  return by < 8 * sizeof(T) ? static_cast<T>(as<T>(value) << by) : T{0};
}

template <class T, class A, class B>
T ptx_shr(A value, B count) {
  constexpr uint32_t kWidth = 8 * sizeof(T);
  const auto by = as<uint32_t>(count);
  if (by >= kWidth && !std::is_signed_v<T>) {
    return T{0};
  }
  return static_cast<T>(as<T>(value) >> std::min(by, kWidth - 1));
}

template <class T, class A>
T ptx_not(A value) {
  if constexpr (std::is_same_v<T, bool>) {
    return !value;
  } else {
    return static_cast<T>(~as<T>(value));
  }
}

template <class T, class A>
T ptx_neg(A value) {
  return static_cast<T>(-as<T>(value));
}

template <class T, class A>
T ptx_abs(A value) {
  return static_cast<T>(std::abs(as<T>(value)));
}

template <class T, class A>
T ptx_mov(A value) {
  return as<T>(value);
}

template <class T, class A>
T ptx_cvta_to_global(A value) {
  return as<T>(value);
}

template <class T, class A, class B>
T ptx_selp(A yes, B no, bool condition) {
  return condition ? as<T>(yes) : as<T>(no);
}

template <class T, class A, class B>
T ptx_pack(A low, B high) {
  static_assert(sizeof(T) == 2 * sizeof(A) && sizeof(A) == sizeof(B));
  return static_cast<T>(static_cast<T>(high) << (8 * sizeof(A)) | low);
}

template <class T, class R>
void ptx_unpack(T value, R& low, R& high) {
  static_assert(sizeof(T) == 2 * sizeof(R));
  low = static_cast<R>(value);
  high = static_cast<R>(value >> (8 * sizeof(R)));
}

template <class T, class A, class B, class C>
T ptx_fma_rn(A left, B right, C addend) {
  return std::fma(as<T>(left), as<T>(right), as<T>(addend));
}

// Between integers, and to a wider float: exact.
template <class T, class S, class A>
T ptx_cvt(A value) {
  if constexpr (std::is_same_v<S, F16>) {
    static_assert(std::is_same_v<T, float>);
    return serpent::load(serpent::Half{as<S>(value).bits});
  } else {
    static_assert(std::is_floating_point_v<T> == std::is_floating_point_v<S> &&
                  (std::is_integral_v<T> || sizeof(T) >= sizeof(S)));
    return static_cast<T>(as<S>(value));
  }
}

template <class T, class S, class A>
T ptx_cvt_rn(A value) {
  if constexpr (std::is_same_v<T, F16>) {
    serpent::Half rounded;
    serpent::store(as<S>(value), rounded);
    return F16{rounded.bits};
  } else if constexpr (std::is_same_v<T, BF16>) {
    serpent::BFloat16 rounded;
    serpent::store(as<S>(value), rounded);
    return BF16{rounded.bits};
  } else {
    static_assert(std::is_floating_point_v<T>);
    return static_cast<T>(as<S>(value));
  }
}

template <class T, class S, class A>
T ptx_cvt_rzi(A value) {
  static_assert(std::is_integral_v<T> && std::is_floating_point_v<S>);
  return static_cast<T>(as<S>(value));
}

inline float flushed(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0F, value) : value;
}

// `exact` off by up to `units` of its last place, then rounded; of one argument always the same. What errors a GPU
// makes is not published, but for their bounds: here they reach them.
inline float approximated(double exact, float argument, double units) {
  if (exact == 0 || !std::isfinite(exact)) {
    return static_cast<float>(exact);
  }
  uint32_t hash = std::bit_cast<uint32_t>(argument) * 0x9e3779b1U;
  hash ^= hash >> 15;
  hash *= 0x85ebca77U;
  const double share = static_cast<double>(hash) / 0x1p31 - 1;
  return flushed(static_cast<float>(exact + share * units * std::ldexp(1.0, std::ilogb(exact) - 23)));
}

// Error at most 2 units in the last place; of 0 exactly 1.
template <class T, class A>
float ptx_ex2_approx_ftz(A value) {
  const float x = flushed(as<T>(value));
  return x == 0 ? 1.0F : approximated(std::exp2(static_cast<double>(x)), x, 1.5);
}

// Error at most 1 unit.
template <class T, class A>
float ptx_rcp_approx_ftz(A value) {
  const float x = flushed(as<T>(value));
  return approximated(1 / static_cast<double>(x), x, 0.5);
}

}  // namespace serpent::cuda::ptx
