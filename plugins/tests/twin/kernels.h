// The CUDA scan on host pointers, with the tuning that only tests choose.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "serpent/scan.h"

namespace twin_test {

// What is empty or 0 is left to the launch; where all is, so is the choice of the function: the one that the C
// interface calls.
struct Tuning {
  std::string variant;  // of the forward pass
  int64_t parts = 0;    // of a chunk in the forward pass, at most
  int64_t chunk = 0;    // tokens
  int64_t warps = 0;    // that the backward pass aims at

  bool any() const { return !variant.empty() || parts != 0 || chunk != 0 || warps != 0; }
};

// Name, N, R and channels of a tile of each forward variant; N and R are the greatest that it takes, and where the
// table says so the only.
std::vector<std::string> variant_lines();

// Each on a workspace of its own, of exactly the size it asks for, that starts as NaN and, as arrays do, `offset`
// elements past an aligned address. Throw serpent::Failure.
void run_forward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const Tuning& tuning,
                 size_t offset);
void run_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                  const serpent_scan_gradients& gradients, const Tuning& tuning, size_t offset);

}  // namespace twin_test
