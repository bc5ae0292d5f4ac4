// Kernels on CPU threads, by name: what tests/ptx_to_cpp.py writes registers them, and the CUDA runtime launches them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace serpent::cuda::ptx {

struct Parameter {
  size_t offset;  // in the parameter space of the kernel
  size_t bytes;
};

struct Kernel {
  std::string name;  // mangled
  void (*run)(const unsigned char* parameters);
  unsigned max_threads;  // of a block
  size_t parameter_bytes;
  std::vector<Parameter> parameters;
};

// Each translated file has one.
struct Registration {
  explicit Registration(std::vector<Kernel> kernels);
};

}  // namespace serpent::cuda::ptx
