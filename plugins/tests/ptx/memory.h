// PTX instructions that touch memory or other threads. Shared memory begins at address 0; addresses of all else are the
// host's.
#pragma once

#include <cstring>
#include <string>

#include "cuda/twin/thread.h"
#include "registers.h"

namespace serpent::cuda::ptx {

using twin::current;

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

// A place in the shared memory of the block.
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
