// Kernels that do what no kernel may, one at a time: the host twin must say so, and not hang.
#pragma once

#include <string>

namespace twin_test {

// Runs the faulty kernel of that name, whose launch throws serpent::Failure; returns if nothing was noticed.
void run_misuse(const std::string& name);

}  // namespace twin_test
