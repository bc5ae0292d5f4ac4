// Vector<Real>: as many numbers as a register of the instruction set that a file is compiled for.
//
// Arithmetic is the compiler's own vector extension (GCC, Clang) or loops over an array (elsewhere). Intrinsics appear
// only for what the extension cannot say, or says in more instructions. Internal linkage throughout: see kernel_impl.h.
#pragma once

#include <cstdint>

#if defined(__GNUC__)
#define SERPENT_INLINE inline __attribute__((always_inline))
#else
#define SERPENT_INLINE inline
#endif

// Bytes of a vector. A width beyond the registers works too, in pieces: so the logic of 16 lanes runs on any machine.
#if !defined(SERPENT_VECTOR_BYTES)
#if defined(__AVX512F__)
#define SERPENT_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define SERPENT_VECTOR_BYTES 32
#else
#define SERPENT_VECTOR_BYTES 16
#endif
#endif

#if defined(__GNUC__) && !defined(SERPENT_LANE_ARRAYS)
#define SERPENT_VECTOR_TYPES 1
#else
#include "lane_array.h"
#endif

// The intrinsics of a register width serve only vectors of that width.
#if defined(SERPENT_VECTOR_TYPES) && defined(__AVX512F__) && SERPENT_VECTOR_BYTES == 64
#define SERPENT_USE_AVX512 1
#define SERPENT_SCALES_BY_EXPONENT 1  // scale() below is one instruction
#elif defined(SERPENT_VECTOR_TYPES) && defined(__AVX2__) && defined(__FMA__) && SERPENT_VECTOR_BYTES == 32
#define SERPENT_USE_AVX2 1
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a call: everything is inlined
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 warns of its own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if defined(SERPENT_USE_AVX512) || defined(SERPENT_USE_AVX2)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace serpent {
namespace {

// std::bit_cast would have external linkage.
template <class To, class From>
SERPENT_INLINE To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
}

// kLanes numbers of type Element.
#if defined(SERPENT_VECTOR_TYPES)
template <class Element, int64_t kLanes>
struct LanesOf {
  typedef Element Type __attribute__((vector_size(kLanes * sizeof(Element))));
};

template <class To, class From>
SERPENT_INLINE auto convert_lanes(From from) {
  using Result = typename LanesOf<To, static_cast<int64_t>(sizeof(From) / sizeof(from[0]))>::Type;
  return __builtin_convertvector(from, Result);
}

template <class Mask, class Lanes>
SERPENT_INLINE Lanes select_lanes(Mask mask, Lanes yes, Lanes no) {
  return mask ? yes : no;
}
#else
template <class Element, int64_t kLanes>
struct LanesOf {
  using Type = LaneArray<Element, kLanes>;
};
#endif

template <class Real>
struct BitsOf;
template <>
struct BitsOf<float> {
  using Type = uint32_t;
};
template <>
struct BitsOf<double> {
  using Type = uint64_t;
};

template <class Real>
struct Vector {
  static constexpr int64_t kLanes = SERPENT_VECTOR_BYTES / static_cast<int64_t>(sizeof(Real));
  using Lanes = typename LanesOf<Real, kLanes>::Type;
  using Bits = typename LanesOf<typename BitsOf<Real>::Type, kLanes>::Type;

  Lanes lanes;

  Vector() = default;
  SERPENT_INLINE Vector(Lanes values) : lanes(values) {}
  SERPENT_INLINE explicit Vector(Real value) : lanes(value - Lanes{}) {}  // in every lane

  // No alignment is asked for.
  static SERPENT_INLINE Vector load(const Real* from) {
    Vector result;
    __builtin_memcpy(&result.lanes, from, sizeof(Lanes));
    return result;
  }
  SERPENT_INLINE void store(Real* to) const { __builtin_memcpy(to, &lanes, sizeof(Lanes)); }
  SERPENT_INLINE Bits bits() const { return bits_as<Bits>(lanes); }

  friend SERPENT_INLINE Vector operator+(Vector a, Vector b) { return a.lanes + b.lanes; }
  friend SERPENT_INLINE Vector operator-(Vector a, Vector b) { return a.lanes - b.lanes; }
  friend SERPENT_INLINE Vector operator*(Vector a, Vector b) { return a.lanes * b.lanes; }
  friend SERPENT_INLINE Vector operator/(Vector a, Vector b) { return a.lanes / b.lanes; }
  friend SERPENT_INLINE Vector operator&(Vector a, Vector b) { return bits_as<Lanes>(a.bits() & b.bits()); }
};

// The intrinsic of that name for f32 or f64 vectors.
#if defined(SERPENT_USE_AVX512)
#define SERPENT_INTRINSIC(name, ...)        \
  if constexpr (sizeof(Real) == 4) {        \
    return _mm512_##name##_ps(__VA_ARGS__); \
  } else {                                  \
    return _mm512_##name##_pd(__VA_ARGS__); \
  }
#elif defined(SERPENT_USE_AVX2)
#define SERPENT_INTRINSIC(name, ...)        \
  if constexpr (sizeof(Real) == 4) {        \
    return _mm256_##name##_ps(__VA_ARGS__); \
  } else {                                  \
    return _mm256_##name##_pd(__VA_ARGS__); \
  }
#endif

// a * b + c, rounded once where the instruction set can.
template <class Real>
SERPENT_INLINE Vector<Real> fma(Vector<Real> a, Vector<Real> b, Vector<Real> c) {
#if defined(SERPENT_INTRINSIC)
  SERPENT_INTRINSIC(fmadd, a.lanes, b.lanes, c.lanes)
#else
  return a.lanes * b.lanes + c.lanes;
#endif
}

// The larger, or `b` where either is NaN.
template <class Real>
SERPENT_INLINE Vector<Real> max(Vector<Real> a, Vector<Real> b) {
#if defined(SERPENT_INTRINSIC)
  SERPENT_INTRINSIC(max, a.lanes, b.lanes)
#else
  return select_lanes(a.lanes > b.lanes, a.lanes, b.lanes);
#endif
}

// The smaller, or `b` where either is NaN.
template <class Real>
SERPENT_INLINE Vector<Real> min(Vector<Real> a, Vector<Real> b) {
#if defined(SERPENT_INTRINSIC)
  SERPENT_INTRINSIC(min, a.lanes, b.lanes)
#else
  return select_lanes(a.lanes < b.lanes, a.lanes, b.lanes);
#endif
}

// The larger of z and `lowest`, a negative number. Where z is NaN, the result is NaN or `lowest`.
template <class Real>
SERPENT_INLINE Vector<Real> at_least_negative(Vector<Real> z, Real lowest) {
#if defined(SERPENT_USE_AVX2)
  if constexpr (sizeof(Real) == 4) {
    // As unsigned integers negative numbers grow with their magnitude, above all positive ones. The integer minimum
    // leaves the multipliers, which bound the scan, alone.
    const __m256i bound = _mm256_castps_si256(Vector<Real>(lowest).lanes);
    return _mm256_castsi256_ps(_mm256_min_epu32(_mm256_castps_si256(z.lanes), bound));
  }
#endif
  return max(Vector<Real>(lowest), z);
}

#if defined(SERPENT_USE_AVX512)
template <class Real>
SERPENT_INLINE Vector<Real> round_to_integral(Vector<Real> z) {
  SERPENT_INTRINSIC(roundscale, z.lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
}

// a - b that no compiler fuses with the product a: for a huge product, its rounding error would be the difference.
template <class Real>
SERPENT_INLINE Vector<Real> minus(Vector<Real> a, Vector<Real> b) {
  if constexpr (sizeof(Real) == 4) {
    return _mm512_sub_round_ps(a.lanes, b.lanes, _MM_FROUND_CUR_DIRECTION);
  } else {
    return _mm512_sub_round_pd(a.lanes, b.lanes, _MM_FROUND_CUR_DIRECTION);
  }
}

// a 2^n for integral n of any size.
template <class Real>
SERPENT_INLINE Vector<Real> scale(Vector<Real> a, Vector<Real> n) {
  SERPENT_INTRINSIC(scalef, a.lanes, n.lanes)
}
#endif

// `yes` where a < b, else `no`; `no` too where either is NaN.
template <class Real>
SERPENT_INLINE Vector<Real> where_less(Vector<Real> a, Vector<Real> b, Vector<Real> yes, Vector<Real> no) {
  return select_lanes(a.lanes < b.lanes, yes.lanes, no.lanes);
}

}  // namespace
}  // namespace serpent
