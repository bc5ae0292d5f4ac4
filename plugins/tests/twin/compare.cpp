#include "compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace twin_test {
namespace {

constexpr double kRelative = 2e-6;
constexpr double kWorstChannel = 1e-5;

double half_unit(serpent_dtype dtype, double value) {
  const bool f16 = dtype == SERPENT_DTYPE_F16;
  if (dtype == SERPENT_DTYPE_F32) {
    return 0;  // the bounds of f32 results include it
  }
  const int exponent = value == 0 ? -1000 : std::ilogb(value);
  return std::ldexp(0.5, std::max(exponent, f16 ? -14 : -126) - (f16 ? 10 : 7));
}

// Sums of squares of one channel, or of all.
struct Squares {
  double error = 0;
  double single = 0;
  double rounding = 0;
  double truth = 0;

  void add(const Squares& other) {
    error += other.error;
    single += other.single;
    rounding += other.rounding;
    truth += other.truth;
  }
};

// The error as a share of what is allowed.
double share(const Squares& squares, double allowed, double summing) {
  const double norm = std::sqrt(squares.truth);
  const double plain = squares.single > 0 ? 2 * std::sqrt(squares.single) + summing * norm : 0;
  const double in_f32 = std::max(allowed * norm, plain);
  const double bound = in_f32 + std::sqrt(squares.rounding);
  return bound > 0 ? std::sqrt(squares.error) / bound : squares.error > 0 ? HUGE_VAL : 0;
}

double relative(double squared_error, double squared_norm) {
  return squared_norm > 0 ? std::sqrt(squared_error / squared_norm) : std::sqrt(squared_error);
}

}  // namespace

bool compare(const Comparison& what) {
  std::vector<Squares> channels(what.channels);
  size_t misplaced = 0;
  for (size_t i = 0; i < what.truth.size(); ++i) {
    const bool finite = std::isfinite(what.truth[i]);
    misplaced += finite != std::isfinite(what.result[i]) ? 1 : 0;
    if (finite && std::isfinite(what.result[i])) {
      const double error = what.result[i] - what.truth[i];
      const double single = what.single.empty() ? 0 : what.single[i] - what.truth[i];
      const double rounding = half_unit(what.dtype, what.truth[i]);
      channels[i / what.inner % what.channels].add(
          {error * error, single * single, rounding * rounding, what.truth[i] * what.truth[i]});
    }
  }
  Squares all;
  double worst_share = 0;
  double worst_error = 0;
  for (const Squares& channel : channels) {
    all.add(channel);
    worst_share = std::max(worst_share, share(channel, kWorstChannel, what.summing));
    worst_error = std::max(worst_error, relative(channel.error, channel.truth));
  }
  const double total_share = share(all, kRelative, what.summing);
  const bool good = misplaced == 0 && total_share <= 1 && worst_share <= 1;
  std::printf("%-10s %s: relative error %.2e (%.2f of its bound), worst channel %.2e (%.2f)", what.name.c_str(),
              good ? "ok" : "WRONG", relative(all.error, all.truth), total_share, worst_error, worst_share);
  if (misplaced != 0) {
    std::printf(", %zu elements finite where the truth is not, or the reverse", misplaced);
  }
  std::printf("\n");
  return good;
}

}  // namespace twin_test
