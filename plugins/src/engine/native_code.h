// Whether a plan brings native code for the host, whatever its manifest says of it.
#pragma once

#include <string_view>

namespace serpent::engine {

// Whether `bytes` hold a shared library for x86-64 or aarch64 anywhere: an ELF header of 64 bits and type ET_DYN, or a
// PE header of 64 bits with the flag of a DLL. TensorRT embeds libraries as they are. Code for the GPU is ELF as well,
// with the machine number of CUDA, and does not count. The same rule as in serpent/runtime/native_code.py.
bool carries_native_code(std::string_view bytes) noexcept;

}  // namespace serpent::engine
