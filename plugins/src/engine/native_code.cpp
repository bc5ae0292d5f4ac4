#include "native_code.h"

namespace serpent::engine {
namespace {

// Of the ELF header, as far as the loader tells libraries by it. Numbers are little-endian.
constexpr std::string_view kMagic =
    "\x7f"
    "ELF";
constexpr std::size_t kClassAt = 4;
constexpr std::size_t kTypeAt = 16;
constexpr std::size_t kMachineAt = 18;
constexpr std::size_t kRead = 20;
constexpr unsigned kClass64 = 2;
constexpr unsigned kSharedObject = 3;  // ET_DYN, the only type that dlopen takes
constexpr unsigned kX86_64 = 62;
constexpr unsigned kAarch64 = 183;

bool is_host_library(std::string_view header) noexcept {
  const auto byte = [&](std::size_t at) -> unsigned { return static_cast<unsigned char>(header[at]); };
  const auto number = [&](std::size_t at) { return byte(at) | byte(at + 1) << 8; };
  return header.size() >= kRead && byte(kClassAt) == kClass64 && number(kTypeAt) == kSharedObject &&
         (number(kMachineAt) == kX86_64 || number(kMachineAt) == kAarch64);
}

}  // namespace

bool carries_native_code(std::string_view bytes) noexcept {
  for (std::size_t at = bytes.find(kMagic); at != std::string_view::npos; at = bytes.find(kMagic, at + 1)) {
    if (is_host_library({bytes.data() + at, bytes.size() - at})) {
      return true;
    }
  }
  return false;
}

}  // namespace serpent::engine
