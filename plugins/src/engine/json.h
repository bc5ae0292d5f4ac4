// A reader of JSON (RFC 8259), for manifests: small files, read once.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace serpent::engine {

// No JSON, or not the value that was asked for; `what()` says where.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json, std::less<>>;

  // Throws JsonError: no JSON, nested deeper than 64, or more than one value.
  static Json parse(std::string_view text);

  // Each throws JsonError, naming `what`, where the value is of another kind.
  bool boolean(std::string_view what) const;
  int64_t integer(std::string_view what) const;
  const std::string& string(std::string_view what) const;
  const Array& array(std::string_view what) const;
  const Object& object(std::string_view what) const;

  // Member of an object. Throws JsonError: this is no object, or has no such member.
  const Json& at(std::string_view key) const;

  using Value = std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object>;
  Value value;
};

}  // namespace serpent::engine
