// Errors of a result against the f64 oracle, and the bounds that they must keep.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "serpent/scan.h"

namespace twin_test {

// A result and what to hold it against, arrays of one shape. Element i belongs to channel (i / inner) % channels.
struct Comparison {
  std::string name;
  serpent_dtype dtype;  // that the result is stored in
  std::span<const double> result;
  std::span<const double> truth;
  std::span<const double> single;  // what the plain loop computes in f32; empty where it is no excuse
  size_t channels;
  size_t inner;
  double summing;  // relative rounding error of the longest sum behind an element, in one order
};

// Prints one line of figures; returns whether the result is finite where the truth is, not finite where the truth is
// not, and within its bounds:
//   f32     relative L2 error 2e-6, in any one channel 1e-5; or, where `single` is given, what f32 costs on this very
//           problem if that is more: twice the error of the plain loop, and `summing`
//   16-bit  that, and half a unit in the last place of each element: the result is computed in f32 and rounded once
bool compare(const Comparison& what);

}  // namespace twin_test
