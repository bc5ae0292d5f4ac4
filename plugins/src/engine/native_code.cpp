#include "native_code.h"

namespace serpent::engine {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kElf =
    "\x7f"
    "ELF"sv;
constexpr std::string_view kPe = "PE\0\0"sv;

// A little-endian number of 16 bits.
unsigned number(std::string_view header, std::size_t at) noexcept {
  const auto byte = [&](std::size_t index) -> unsigned { return static_cast<unsigned char>(header[index]); };
  return byte(at) | byte(at + 1) << 8;
}

// What a loader asks of a library's first bytes: EI_CLASS, e_type (dlopen takes no other), e_machine.
bool is_elf_library(std::string_view header) noexcept {
  constexpr char kClass64 = 2;
  constexpr unsigned kSharedObject = 3;
  constexpr unsigned kX86_64 = 62;
  constexpr unsigned kAarch64 = 183;
  return header.size() >= 20 && header[4] == kClass64 && number(header, 16) == kSharedObject &&
         (number(header, 18) == kX86_64 || number(header, 18) == kAarch64);
}

// Machine, Characteristics, and the magic number of the optional header.
bool is_pe_library(std::string_view header) noexcept {
  constexpr unsigned kX86_64 = 0x8664;
  constexpr unsigned kAarch64 = 0xAA64;
  constexpr unsigned kIsDll = 0x2000;
  constexpr unsigned kPe64 = 0x020B;
  return header.size() >= 26 && (number(header, 4) == kX86_64 || number(header, 4) == kAarch64) &&
         (number(header, 22) & kIsDll) != 0 && number(header, 24) == kPe64;
}

bool holds(std::string_view bytes, std::string_view magic, bool (*is_library)(std::string_view) noexcept) noexcept {
  for (std::size_t at = bytes.find(magic); at != std::string_view::npos; at = bytes.find(magic, at + 1)) {
    if (is_library({bytes.data() + at, bytes.size() - at})) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool carries_native_code(std::string_view bytes) noexcept {
  return holds(bytes, kElf, is_elf_library) || holds(bytes, kPe, is_pe_library);
}

}  // namespace serpent::engine
