// The CUDA scan on host pointers, with the tuning that only tests choose.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "serpent/scan.h"

namespace twin_test {

struct Tuning {
  std::string variant;  // of the forward pass; empty: what the table chooses
  int64_t chunk = 0;    // tokens; 0: what the table says
  int64_t warps = 0;    // that the backward pass aims at; 0: what it aims at by itself
};

std::vector<std::string> variant_names();

// Each on a workspace of its own that starts as NaN. Throw serpent::Failure.
void run_forward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const Tuning& tuning);
void run_backward(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors,
                  const serpent_scan_gradients& gradients, const Tuning& tuning);

}  // namespace twin_test
