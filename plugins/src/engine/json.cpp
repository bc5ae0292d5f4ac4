#include "json.h"

#include <charconv>

namespace serpent::engine {
namespace {

constexpr int kMaxDepth = 64;  // a manifest has 5 levels; recursion must not exhaust the stack

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Json document() {
    Json found = value(0);
    skip_space();
    if (position_ != text_.size()) {
      refuse("more text after the value");
    }
    return found;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw JsonError("no JSON: " + what + " at byte " + std::to_string(position_));
  }

  void skip_space() {
    while (position_ < text_.size() && std::string_view(" \t\n\r").find(text_[position_]) != std::string_view::npos) {
      ++position_;
    }
  }

  char peek() const {
    if (position_ == text_.size()) {
      refuse("the text ends");
    }
    return text_[position_];
  }

  void expect(char wanted) {
    if (peek() != wanted) {
      refuse(std::string("expected ") + wanted);
    }
    ++position_;
  }

  bool take(std::string_view word) {
    if (text_.substr(position_, word.size()) != word) {
      return false;
    }
    position_ += word.size();
    return true;
  }

  Json value(int depth) {
    if (depth > kMaxDepth) {
      refuse("nested too deeply");
    }
    skip_space();
    switch (peek()) {
      case '{':
        return {object(depth)};
      case '[':
        return {array(depth)};
      case '"':
        return {string()};
      default:
        break;
    }
    if (take("null")) {
      return {nullptr};
    }
    if (take("true")) {
      return {true};
    }
    if (take("false")) {
      return {false};
    }
    return {number()};
  }

  Json::Value object(int depth) {
    Json::Object found;
    expect('{');
    skip_space();
    if (take("}")) {
      return found;
    }
    do {
      skip_space();
      std::string key = string();
      skip_space();
      expect(':');
      found.insert_or_assign(std::move(key), value(depth + 1));  // the last of equal keys counts, as in Python
      skip_space();
    } while (take(","));
    expect('}');
    return found;
  }

  Json::Value array(int depth) {
    Json::Array found;
    expect('[');
    skip_space();
    if (take("]")) {
      return found;
    }
    do {
      found.push_back(value(depth + 1));
      skip_space();
    } while (take(","));
    expect(']');
    return found;
  }

  Json::Value number() {
    const std::size_t begin = position_;
    const auto digits = [this] {
      const std::size_t first = position_;
      while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') {
        ++position_;
      }
      if (position_ == first) {
        refuse("expected a value");
      }
      return position_ - first;
    };
    take("-");
    const bool zero = position_ < text_.size() && text_[position_] == '0';
    if (digits() > 1 && zero) {
      refuse("a number begins with 0");
    }
    bool integral = true;
    if (take(".")) {
      integral = false;
      digits();
    }
    if (take("e") || take("E")) {
      integral = false;
      if (!take("+")) {
        take("-");
      }
      digits();
    }
    const char* first = text_.data() + begin;
    const char* last = text_.data() + position_;
    int64_t whole = 0;
    if (integral && std::from_chars(first, last, whole).ec == std::errc()) {
      return whole;
    }
    double real = 0.0;  // out of range: keeps 0, which nothing that is asked for accepts as an integer
    std::from_chars(first, last, real);
    return real;
  }

  std::string string() {
    expect('"');
    std::string found;
    while (peek() != '"') {
      const char next = text_[position_++];
      if (static_cast<unsigned char>(next) < 0x20) {
        refuse("a control character in a string");
      }
      if (next == '\\') {
        escape(found);
      } else {
        found += next;
      }
    }
    ++position_;
    return found;
  }

  void escape(std::string& found) {
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const char name = peek();
    ++position_;
    if (name == 'u') {
      append_utf8(code_point(), found);
    } else if (const std::size_t index = kNames.find(name); index != std::string_view::npos) {
      found += kMeanings[index];
    } else {
      refuse("an unknown escape");
    }
  }

  uint32_t code_point() {
    const uint32_t high = hexadecimal();
    if (high < 0xD800 || high > 0xDFFF) {
      return high;
    }
    if (high > 0xDBFF || !take("\\u")) {
      refuse("half a surrogate pair");
    }
    const uint32_t low = hexadecimal();
    if (low < 0xDC00 || low > 0xDFFF) {
      refuse("half a surrogate pair");
    }
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  uint32_t hexadecimal() {
    uint32_t code = 0;
    const std::string_view digits = text_.substr(position_, 4);
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() < 4 || problem != std::errc() || end != digits.data() + 4) {
      refuse("expected four hexadecimal digits");
    }
    position_ += 4;
    return code;
  }

  static void append_utf8(uint32_t code, std::string& found) {
    const auto follow = [&](int shift) { found += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
      found += static_cast<char>(code);
    } else if (code < 0x800) {
      found += static_cast<char>(0xC0 | (code >> 6));
      follow(0);
    } else if (code < 0x10000) {
      found += static_cast<char>(0xE0 | (code >> 12));
      follow(6);
      follow(0);
    } else {
      found += static_cast<char>(0xF0 | (code >> 18));
      follow(12);
      follow(6);
      follow(0);
    }
  }

  std::string_view text_;
  std::size_t position_ = 0;
};

template <class Kind>
const Kind& get(const Json& json, std::string_view what, const char* kind) {
  if (const Kind* found = std::get_if<Kind>(&json.value)) {
    return *found;
  }
  throw JsonError(std::string(what) + " is no " + kind);
}

}  // namespace

Json Json::parse(std::string_view text) { return Reader(text).document(); }

bool Json::boolean(std::string_view what) const { return get<bool>(*this, what, "boolean"); }

int64_t Json::integer(std::string_view what) const { return get<int64_t>(*this, what, "integer"); }

const std::string& Json::string(std::string_view what) const { return get<std::string>(*this, what, "string"); }

const Json::Array& Json::array(std::string_view what) const { return get<Array>(*this, what, "list"); }

const Json::Object& Json::object(std::string_view what) const { return get<Object>(*this, what, "object"); }

const Json& Json::at(std::string_view key) const {
  const Object& members = object("what should hold \"" + std::string(key) + "\"");
  const auto found = members.find(key);
  if (found == members.end()) {
    throw JsonError("the field \"" + std::string(key) + "\" is missing");
  }
  return found->second;
}

}  // namespace serpent::engine
