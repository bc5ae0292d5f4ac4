// The two small readers that the engine library has of its own: SHA-256 and JSON.
#include <cstdio>
#include <string>

#include "../../src/engine/json.h"
#include "../../src/engine/sha256.h"

using serpent::engine::Json;
using serpent::engine::JsonError;
using serpent::engine::sha256;

namespace {

int failures = 0;

void check(bool holds, const std::string& what) {
  if (!holds) {
    std::fprintf(stderr, "%s does not hold\n", what.c_str());
    ++failures;
  }
}

std::string digest(const std::string& text) { return sha256(text.data(), text.size()); }

// The examples of FIPS 180-4, and the lengths around which the padding changes (from Python's hashlib).
void test_sha256() {
  check(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "digest of nothing");
  check(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "digest of abc");
  check(digest(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        "digest of a million letters a");
  check(digest(std::string(55, 'x')) == "d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072",
        "digest of 55 bytes");
  check(digest(std::string(56, 'x')) == "04c26261370ee7541549d16dee320c723e3fd14671e66a099afe0a377c16888e",
        "digest of 56 bytes");
  check(digest(std::string(63, 'x')) == "75220b47218278e656f2013bb8f0c455a25eaf01e86c64924e9d48d89776d6f2",
        "digest of 63 bytes");
  check(digest(std::string(64, 'x')) == "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c",
        "digest of 64 bytes");
  check(digest(std::string(65, 'x')) == "9537c5fdf120482f7d58d25e9ed583f52c02b4e304ea814db1633ad565aed7e9",
        "digest of 65 bytes");
  check(digest(std::string(119, 'x')) == "000b48d4edf0fa7bee3c6236ecd2785baa5db4eeb8bb54341b029e0d9fa5fb0c",
        "digest of 119 bytes");
  check(digest(std::string(120, 'x')) == "13f05a0b594787f5ecd315edc96141bd3243203d1b7d4f0836f37308b276ba98",
        "digest of 120 bytes");
}

bool refused(const std::string& text) {
  try {
    (void)Json::parse(text);
    return false;
  } catch (const JsonError&) {
    return true;
  }
}

void test_json() {
  const Json found = Json::parse(
      " { \"a\" : [ 1 , -2, 9223372036854775807 ], \"b\": {\"\": \"\\u00e9\\ud83d\\ude00\\n\\/\"}, \"c\": 1.5e2, "
      "\"d\": [null, true, false, [], {}], \"a\": [7] }\n");
  check(found.at("a").array("a").size() == 1 && found.at("a").array("a")[0].integer("a") == 7,
        "the last of equal keys");
  check(found.at("b").at("").string("b") == "\xC3\xA9\xF0\x9F\x98\x80\n/", "escapes");
  check(std::get<double>(found.at("c").value) == 150.0, "a number with an exponent");
  check(found.at("d").array("d").size() == 5, "constants and empty values");
  check(Json::parse("9223372036854775807").integer("n") == INT64_MAX, "the largest integer");
  for (const char* text : {"",
                           " ",
                           "{",
                           "[",
                           "[1",
                           "[1,",
                           "[1,]",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":1,}",
                           "{a:1}",
                           "'a'",
                           "\"a",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\udc00\"",
                           "\"\n\"",
                           "01",
                           "-",
                           "1.",
                           ".5",
                           "1e",
                           "+1",
                           "tru",
                           "nul",
                           "1 2",
                           "{} {}",
                           "NaN",
                           "[1 2]",
                           "{\"a\" 1}",
                           "\"\\u+123\"",
                           "\"\\u 123\""}) {
    check(refused(text), std::string("refusal of ") + text);
  }
  check(refused(std::string(100, '[') + std::string(100, ']')), "refusal of 100 levels");
  check(!refused(std::string(60, '[') + std::string(60, ']')), "acceptance of 60 levels");
  for (const char* what : {"a", "c"}) {
    try {
      (void)Json::parse(R"({"a": "text", "c": 1.5})").at(what).integer(what);
      check(false, "that no integer is refused");
    } catch (const JsonError& error) {
      check(std::string(error.what()) == std::string(what) + " is no integer", "the message that names it");
    }
  }
}

}  // namespace

int main() {
  test_sha256();
  test_json();
  if (failures == 0) {
    std::printf("all checks passed\n");
  }
  return failures == 0 ? 0 : 1;
}
