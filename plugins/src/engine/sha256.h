// SHA-256 (FIPS 180-4): the digest by which a manifest knows its files.
#pragma once

#include <cstddef>
#include <string>

namespace serpent::engine {

// 64 lower-case hexadecimal digits.
std::string sha256(const void* data, std::size_t bytes);

}  // namespace serpent::engine
