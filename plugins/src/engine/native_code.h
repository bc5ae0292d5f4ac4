// Whether a plan brings native code for the host, whatever its manifest says of it.
#pragma once

#include <string_view>

namespace serpent::engine {

// Whether `bytes` hold a shared library that the dynamic loader of an x86-64 or aarch64 machine takes, anywhere: the
// header of a 64-bit ELF file of type ET_DYN. TensorRT embeds libraries as they are. Code for the GPU is ELF as well,
// with the machine number of CUDA, and does not count.
bool carries_native_code(std::string_view bytes) noexcept;

}  // namespace serpent::engine
