// device.h on the host, for tests: each thread of a block is a CPU thread, and what the GPU would punish by wrong
// numbers, a hang or a fault is an error here. It says what a kernel computes, and nothing about its speed.
#pragma once

#include <cmath>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "../device_types.h"
#include "cpu/storage.h"
#include "grid.h"
#include "thread.h"

#define SERPENT_KERNEL(threads, min_blocks)
#define SERPENT_DEVICE inline
#define SERPENT_HOST_DEVICE inline
#define SERPENT_UNROLL
#define SERPENT_UNROLL_BY(n) static_assert((n) > 0);

#define SERPENT_BLOCK_SYNC(name)                            \
  do {                                                      \
    if constexpr (!::serpent::cuda::twin::omitted(#name)) { \
      ::serpent::cuda::twin::block_sync(#name);             \
    }                                                       \
  } while (false)
#define SERPENT_WARP_SYNC(name)                             \
  do {                                                      \
    if constexpr (!::serpent::cuda::twin::omitted(#name)) { \
      ::serpent::cuda::twin::warp_sync(#name);              \
    }                                                       \
  } while (false)

#define SERPENT_TEXT_OF(name) #name
#define SERPENT_TEXT(name) SERPENT_TEXT_OF(name)

namespace serpent::cuda {
namespace twin {

// Whether this build leaves the barrier `name` out.
constexpr bool omitted([[maybe_unused]] std::string_view name) {
#ifdef SERPENT_OMIT_SYNC
  return name == SERPENT_TEXT(SERPENT_OMIT_SYNC);
#else
  return false;
#endif
}

}  // namespace twin

inline Index3 block_index() { return twin::current().block_index; }
inline Index3 grid_size() { return twin::current().grid_size; }
inline unsigned thread_index() { return twin::current().index; }
inline unsigned block_size() { return twin::current().block_size; }
inline unsigned char* shared_memory() { return twin::current().shared; }

template <class V>
V shuffle_xor(V value, int mask) {
  static_assert(sizeof(V) == 4 && std::is_trivially_copyable_v<V>);
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = twin::shuffle_xor(bits, mask);
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1.0F / x; }
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }

inline float to_float(float value) { return value; }
inline float to_float(Half value) { return serpent::load(serpent::Half{value.bits}); }
inline float to_float(BFloat16 value) { return serpent::load(serpent::BFloat16{value.bits}); }

template <class T>
float load(const T* p) {
  return to_float(*p);
}

inline void store(float value, float* p) { *p = value; }

inline void store(float value, Half* p) {
  serpent::Half rounded;
  serpent::store(value, rounded);
  p->bits = rounded.bits;
}

inline void store(float value, BFloat16* p) {
  serpent::BFloat16 rounded;
  serpent::store(value, rounded);
  p->bits = rounded.bits;
}

template <int kBytes>
void copy_async(void* shared, const void* global) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  twin::copy_async(shared, global, kBytes);
}

inline void copy_async_commit() { twin::copy_async_commit(); }

template <int kPending>
void copy_async_wait() {
  static_assert(kPending >= 0);
  twin::copy_async_wait(kPending);
}

template <class... P, class... A>
void launch(void (*kernel)(P...), Index3 grid, unsigned threads, size_t shared_bytes, void*, A... arguments) {
  static_assert(sizeof...(P) == sizeof...(A));
  const auto enqueue = [&](P... values) { twin::run_grid(grid, threads, shared_bytes, [&] { kernel(values...); }); };
  enqueue(static_cast<P>(arguments)...);
}

inline void fill_zero(void* pointer, size_t bytes, void*) { std::memset(pointer, 0, bytes); }

inline int device_multiprocessors() { return 4; }

}  // namespace serpent::cuda
