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
constexpr int kChains = 8;       // independent exponentials in flight; more would not fit the registers of AVX2
constexpr int kBlock = 1 << 14;  // exponentials per chain between two looks at the clock

// e^x by a quintic with value 1 at 0, the least that a relative error of 2e-7 takes; no clamping, no special cases.
inline Vector exp_quintic(Vector x) {
  const Vector zero = {};
  const Vector scaled = x * 1.44269504F;
#if defined(__AVX512F__)
  const Vector n = (Vector)_mm512_roundscale_ps((__m512)scaled, 0);
#else
  const Vector shifted = scaled + 0x1.8p23F;
  const Vector n = shifted - 0x1.8p23F;
#endif
  const Vector r = scaled - n;  // 2^r, |r| <= 1/2
  Vector p = zero + 1.339887440e-3F;
  p = p * r + 9.618437357e-3F;
  p = p * r + 5.550332548e-2F;
  p = p * r + 2.402264791e-1F;
  p = p * r + 6.931472028e-1F;
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
      Vector x[kChains];
      for (int chain = 0; chain < kChains; ++chain) {
        x[chain] = Vector{} - 0.01F * static_cast<float>(chain + 1);
      }
      for (int step = 0; step < kBlock; ++step) {
        for (int chain = 0; chain < kChains; ++chain) {
          x[chain] = exp_quintic(x[chain]);
        }
      }
      for (int chain = 0; chain < kChains; ++chain) {
        asm volatile("" : : "m"(x[chain]));  // the compiler must believe that somebody looks
      }
    };
  };
  return rate(threads, seconds, make_body) * kBlock * kChains * kLanes;
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
