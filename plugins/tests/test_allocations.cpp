// A scan asks for memory before it begins, and never while it walks over pixels: no more often for a large picture than
// for a small one. This program's operator new takes the place of the library's and counts.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "check.h"
#include "serpent/scan.h"

namespace {

int allocations = 0;

void* allocate(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  return memory != nullptr ? memory : throw std::bad_alloc();
}

}  // namespace

// Where GCC inlines some of these and not others, it takes `new` and `delete` for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

struct Count {
  int forward, backward;
};

Count count_at(int64_t side, serpent_dtype dtype) {
  const serpent_scan_shape shape = {1, side, side, 40, 6, 2, dtype};
  const auto zeros = [](int64_t elements) { return std::vector<double>(static_cast<std::size_t>(elements)); };
  const auto pixels = side * side;
  auto x = zeros(pixels * 40), x_dbl = zeros(pixels * 56), dt_weight = zeros(4 * 40 * 2), per_channel = zeros(4 * 40);
  auto A = zeros(4 * 40 * 6), y = x, grad_x = x, grad_x_dbl = x_dbl, grad_dt_weight = dt_weight, grad_A = A;
  auto grad_dt_bias = per_channel, grad_D_skip = per_channel;
  const serpent_scan_tensors tensors = {x.data(), x_dbl.data(),       dt_weight.data(), per_channel.data(),
                                        A.data(), per_channel.data(), y.data()};
  const serpent_scan_gradients gradients = {
      x.data(),      grad_x.data(),     grad_x_dbl.data(), grad_dt_weight.data(), grad_dt_bias.data(),
      grad_A.data(), grad_D_skip.data()};
  allocations = 0;
  CHECK(serpent_scan_cpu(&shape, &tensors, 1, nullptr) == SERPENT_STATUS_OK);
  const int forward = allocations;
  CHECK(serpent_scan_backward_cpu(&shape, &tensors, &gradients, 1, nullptr) == SERPENT_STATUS_OK);
  return {forward, allocations - forward};
}

}  // namespace

int main() {
  for (const serpent_dtype dtype : {SERPENT_DTYPE_F32, SERPENT_DTYPE_F64, SERPENT_DTYPE_F16, SERPENT_DTYPE_BF16}) {
    const Count small = count_at(9, dtype);
    const Count large = count_at(72, dtype);
    std::printf("dtype %d: %d and %d allocations, %d and %d backward\n", dtype, small.forward, large.forward,
                small.backward, large.backward);
    CHECK(small.forward > 0);
    CHECK(small.backward > 0);
    CHECK(large.forward <= small.forward);
    CHECK(large.backward <= small.backward);
  }
  if (failures == 0) {
    std::printf("all checks passed\n");
  }
  return failures == 0 ? 0 : 1;
}
