// What this CPU can do at most: exponentials per second in one instruction set, and bytes per second copied.
// Compiled once per instruction set; the vector width follows from the flags.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

namespace {

typedef float Vector __attribute__((vector_size(kBytes)));
typedef uint32_t Bits __attribute__((vector_size(kBytes)));

constexpr int kLanes = kBytes / 4;
constexpr int kVectors = 128;  // in and out of them lie in the L1 cache, and each is independent of the others
constexpr int kPasses = 256;   // between two looks at the clock

// e^x by a quintic with value 1 at 0 (the minimax one of 2^r on [-1/2, 1/2]: error 1e-7), without clamps or special
// cases: the least work that the accuracy of a scan in f32 takes.
inline Vector exp_quintic(Vector x) {
  const Vector scaled = x * 1.44269504F;
#if defined(__AVX512F__)
  const Vector n = (Vector)_mm512_roundscale_ps((__m512)scaled, 0);
#else
  const Vector shifted = scaled + 0x1.8p23F;
  const Vector n = shifted - 0x1.8p23F;
#endif
  const Vector r = scaled - n;
  Vector p = r * 1.326472731e-3F + 9.671512991e-3F;
  p = p * r + 5.550733581e-2F;
  p = p * r + 2.402224243e-1F;
  p = p * r + 6.931470037e-1F;
  p = p * r + 1.0F;
#if defined(__AVX512F__)
  return (Vector)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  return (Vector)((Bits)p + ((Bits)shifted << 23));
#endif
}

// Runs body() on `threads` threads at once until `seconds` have passed; the number of bodies per second.
template <class MakeBody>
double rate(int64_t threads, double seconds, const MakeBody& make_body) {
  using Clock = std::chrono::steady_clock;
  std::atomic<int64_t> ready{0};
  std::vector<double> rates(static_cast<size_t>(threads));
  const auto work = [&](int64_t thread) {
    const auto body = make_body();
    body();
    ready.fetch_add(1);
    while (ready.load() < threads) {
      std::this_thread::yield();
    }
    const auto start = Clock::now();
    std::chrono::duration<double> passed{};
    int64_t bodies = 0;
    do {
      body();
      ++bodies;
      passed = Clock::now() - start;
    } while (passed.count() < seconds);
    rates[static_cast<size_t>(thread)] = static_cast<double>(bodies) / passed.count();
  };
  std::vector<std::thread> others;
  for (int64_t thread = 1; thread < threads; ++thread) {
    others.emplace_back(work, thread);
  }
  work(0);
  for (std::thread& other : others) {
    other.join();
  }
  double sum = 0;
  for (const double one : rates) {
    sum += one;
  }
  return sum;
}

}  // namespace

// Exponentials per second of all threads together.
extern "C" double ceiling_exp(int64_t threads, double seconds) {
  const auto make_body = [] {
    return [] {
      alignas(64) Vector in[kVectors];
      alignas(64) Vector out[kVectors];
      for (int i = 0; i < kVectors; ++i) {
        in[i] = Vector{} - 0.01F * static_cast<float>(i);
      }
      for (int pass = 0; pass < kPasses; ++pass) {
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
          out[i] = exp_quintic(in[i]);
        }
        asm volatile("" : : "r"(in), "r"(out) : "memory");  // or the compiler drops all passes but one
      }
    };
  };
  return rate(threads, seconds, make_body) * kPasses * kVectors * kLanes;
}

// Bytes per second read and written together, by all threads, each copying `bytes` of its own.
extern "C" double ceiling_copy(int64_t threads, double seconds, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  const auto make_body = [size] {
    std::shared_ptr<char[]> from(new char[size]);
    std::shared_ptr<char[]> to(new char[size]);
    std::memset(from.get(), 1, size);
    return [from, to, size] {
      std::memcpy(to.get(), from.get(), size);
      asm volatile("" : : "r"(to.get()) : "memory");
    };
  };
  return rate(threads, seconds, make_body) * 2.0 * static_cast<double>(bytes);
}

// e^x of one number, so that a test can hold the polynomial to its word.
extern "C" float ceiling_exp_of(float x) { return exp_quintic(Vector{} + x)[0]; }
