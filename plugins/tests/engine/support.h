// What the engine's tests share: checks, a plan with its manifest in a folder of its own, and the expected result.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "serpent/engine.hpp"

namespace test {

extern int failures;

// assert() is gone from release builds, which are the ones to test.
#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      ++test::failures;                                                                  \
    }                                                                                    \
  } while (0)

// Runs `body`, which must throw serpent::Error of this status whose message holds all of `words`.
void expect_error(serpent_engine_status status, const std::vector<std::string>& words,
                  const std::function<void()>& body);

// A folder that is removed at the end.
class Folder {
 public:
  Folder();
  ~Folder();
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// B 1:1:2, H 16:32:64, W 16:32:48, multiples of 8.
inline const std::string kPlan =
    "serpent-standin 1\n"
    "input image FLOAT 1 3 16 16 2 3 64 48\n"
    "output restored FLOAT\n";

void write_text(const std::filesystem::path& path, const std::string& text);

// The manifest of `plan`, as serpent-export writes it where the runtime looks.
std::string manifest_text(const std::string& file, const std::string& plan, const std::string& io = "f32-nchw");

// Writes both and returns the plan's path.
std::filesystem::path write_plan(const Folder& folder, const std::string& plan = kPlan,
                                 const std::string& io = "f32-nchw");

// A picture of distinct values, (B, 3, H, W).
std::vector<float> make_pictures(const serpent::PictureSize& size, unsigned seed = 1);

// What the stand-in must give for kPlan, by the definition of padding, map and cropping, element by element.
std::vector<float> expected(const std::vector<float>& image, const serpent::PictureSize& size);

// Points SERPENT_ENGINE_ADAPTER at the stand-in; returns the exit status of the tests.
int run_all(const char* adapter, const std::function<void()>& tests);

}  // namespace test
