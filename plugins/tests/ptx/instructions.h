// What each PTX instruction does, for the C++ that tests/ptx_to_cpp.py writes: ptx_<name>, T and S its types. Registers
// come as unsigned integers of their width, or wider where they are constants. Source: PTX ISA 9.0, section 9.7.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

#include "cpu/storage.h"
#include "cuda/twin/thread.h"

namespace serpent::cuda::ptx {

using twin::current;

struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

template <size_t kBytes>
using Bits =
    std::conditional_t<kBytes == 1, uint8_t,
                       std::conditional_t<kBytes == 2, uint16_t, std::conditional_t<kBytes == 4, uint32_t, uint64_t>>>;

template <class T, class R>
T as(R raw) {
  static_assert(sizeof(R) >= sizeof(T));
  if constexpr (std::is_same_v<T, bool>) {
    return raw != 0;
  } else {
    return std::bit_cast<T>(static_cast<Bits<sizeof(T)>>(raw));
  }
}

template <class R, class T>
void put(R& to, T value) {
  static_assert(sizeof(R) >= sizeof(T));
  if constexpr (std::is_integral_v<T>) {
    to = static_cast<R>(value);  // a signed value fills a wider register with its sign
  } else {
    to = std::bit_cast<Bits<sizeof(T)>>(value);
  }
}

inline uint64_t integer(long long value) { return static_cast<uint64_t>(value); }
inline uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

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

template <class T, class... R>
void load_from(const char* space, const unsigned char* from, R&... to) {
  twin::check_aligned(space, from, sizeof(T) * sizeof...(R));
  size_t i = 0;
  (
      [&] {
        Bits<sizeof(T)> bits;
        std::memcpy(&bits, from + sizeof(T) * i++, sizeof(T));
        put(to, std::bit_cast<T>(bits));
      }(),
      ...);
}

template <class T, class... R>
void store_to(const char* space, unsigned char* to, R... values) {
  twin::check_aligned(space, to, sizeof(T) * sizeof...(R));
  size_t i = 0;
  (
      [&] {
        const auto bits = std::bit_cast<Bits<sizeof(T)>>(as<T>(values));
        std::memcpy(to + sizeof(T) * i++, &bits, sizeof(T));
      }(),
      ...);
}

// Shared memory begins at address 0.
inline unsigned char* shared_at(uint64_t address, size_t bytes) {
  const auto place = static_cast<uint32_t>(address);
  const size_t size = current().block->shared_bytes();
  if (bytes > size || place > size - bytes) {
    current().block->fail("shared memory at " + std::to_string(place) + " + " + std::to_string(bytes) + ", of " +
                          std::to_string(size) + " bytes");
  }
  return current().shared + place;
}

inline unsigned char* memory_at(uint64_t address) { return reinterpret_cast<unsigned char*>(address); }

template <class T, class... R>
void ptx_ld_param(uint64_t address, R&... to) {
  load_from<T>("ld.param", memory_at(address), to...);
}

template <class T, class... R>
void ptx_ld_global(uint64_t address, R&... to) {
  load_from<T>("ld.global", memory_at(address), to...);
}

template <class T, class... R>
void ptx_ld_global_nc(uint64_t address, R&... to) {
  load_from<T>("ld.global.nc", memory_at(address), to...);
}

template <class T, class... R>
void ptx_ld_shared(uint64_t address, R&... to) {
  load_from<T>("ld.shared", shared_at(address, sizeof(T) * sizeof...(R)), to...);
}

template <class T, class... R>
void ptx_st_global(uint64_t address, R... values) {
  store_to<T>("st.global", memory_at(address), values...);
}

template <class T, class... R>
void ptx_st_shared(uint64_t address, R... values) {
  store_to<T>("st.shared", shared_at(address, sizeof(T) * sizeof...(R)), values...);
}

inline void expect(const char* what, uint64_t value, uint64_t expected) {
  if (static_cast<uint32_t>(value) != static_cast<uint32_t>(expected)) {
    current().block->fail(std::string(what) + " is " + std::to_string(value) + "; expected " +
                          std::to_string(expected));
  }
}

inline void ptx_bar_sync(uint64_t barrier) {
  expect("bar.sync's barrier", barrier, 0);
  twin::block_sync("bar.sync");
}

inline void ptx_bar_warp_sync(uint64_t members) {
  expect("bar.warp.sync's mask", members, 0xffffffffU);
  twin::warp_sync("bar.warp.sync");
}

template <class T, class A, class B, class C, class M>
T ptx_shfl_sync_bfly(A value, B mask, C clamp, M members) {
  expect("shfl.sync's clamp", clamp, 31);
  expect("shfl.sync's mask", members, 0xffffffffU);
  return twin::shuffle_xor(as<uint32_t>(value), static_cast<int>(mask));
}

inline void ptx_cp_async_cg_shared_global(uint64_t to, uint64_t from, uint64_t bytes) {
  expect("cp.async.cg's size", bytes, 16);
  twin::copy_async(shared_at(to, bytes), memory_at(from), bytes);
}

inline void ptx_cp_async_ca_shared_global(uint64_t to, uint64_t from, uint64_t bytes) {
  twin::copy_async(shared_at(to, bytes), memory_at(from), bytes);
}

inline void ptx_cp_async_commit_group() { twin::copy_async_commit(); }

inline void ptx_cp_async_wait_group(uint64_t pending) { twin::copy_async_wait(static_cast<int>(pending)); }

}  // namespace serpent::cuda::ptx
