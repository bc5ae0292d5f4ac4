// Registers of PTX: unsigned integers of their width, read and written as the type that an instruction names. Constants
// come as the widest.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace serpent::cuda::ptx {

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

}  // namespace serpent::cuda::ptx
