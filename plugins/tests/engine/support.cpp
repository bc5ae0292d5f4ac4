#include "support.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>

#include "../../src/engine/sha256.h"

namespace test {

int failures = 0;

void expect_error(serpent_engine_status status, const std::vector<std::string>& words,
                  const std::function<void()>& body) {
  try {
    body();
  } catch (const serpent::Error& error) {
    bool fits = error.status() == status;
    for (const std::string& word : words) {
      fits = fits && std::string(error.what()).find(word) != std::string::npos;
    }
    if (!fits) {
      std::fprintf(stderr, "status %d, \"%s\"; expected %d, with:", error.status(), error.what(), status);
      for (const std::string& word : words) {
        std::fprintf(stderr, " \"%s\"", word.c_str());
      }
      std::fprintf(stderr, "\n");
      ++failures;
    }
    return;
  }
  std::fprintf(stderr, "no error; expected status %d and \"%s\"\n", status, words.empty() ? "" : words[0].c_str());
  ++failures;
}

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "serpent-engine-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    std::perror(name.c_str());
    std::exit(1);
  }
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string manifest_text(const std::string& file, const std::string& plan, const std::string& io) {
  return R"({"format": "serpent-manifest", "format_version": 1, "variant": "H", "task": "deblur", "precision": "fp16",
 "io": ")" +
         io +
         R"(", "weights": "untrained", "profile": {"batch": [1, 1, 2], "height": [16, 32, 64], "width": [16, 32, 48], "multiple": 8},
 "files": {")" +
         file + R"(": {"kind": "plan", "bytes": 1, "sha256": ")" + serpent::engine::sha256(plan.data(), plan.size()) +
         R"(",
  "engine": {"flavour": "rtx", "version": "1.7.1.116", "targets": ["sm86", "sm89"],
   "plugin": {"name": "SelectiveScan2D", "version": "1", "namespace": "serpent", "schema": 1}}}}})";
}

std::filesystem::path write_plan(const Folder& folder, const std::string& plan, const std::string& io) {
  const std::filesystem::path path = folder / "net.plan";
  write_text(path, plan);
  write_text(folder / "net.json", manifest_text("net.plan", plan, io));
  return path;
}

std::vector<float> make_pictures(const serpent::PictureSize& size, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  std::vector<float> pictures(size.elements());
  std::generate(pictures.begin(), pictures.end(), [&] { return uniform(random); });
  return pictures;
}

std::vector<float> expected(const std::vector<float>& image, const serpent::PictureSize& size) {
  // Batches of 1 are within the profile, so only sides grow; all that is read is looked up through this.
  const int64_t height = std::max<int64_t>(16, (size.height + 7) / 8 * 8);
  const int64_t width = std::max<int64_t>(16, (size.width + 7) / 8 * 8);
  const auto source = [](int64_t index, int64_t old) {
    return index < old ? index : std::max<int64_t>(2 * (old - 1) - index, 0);
  };
  const auto at = [&](int64_t b, int64_t c, int64_t i, int64_t j) {
    const int64_t row = (b * 3 + c) * size.height + source(i, size.height);
    return image[static_cast<std::size_t>(row * size.width + source(j, size.width))];
  };
  std::vector<float> restored;
  for (int64_t b = 0; b < size.batch; ++b) {
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t i = 0; i < size.height; ++i) {
        for (int64_t j = 0; j < size.width; ++j) {
          restored.push_back(at(b, c, i, j) / 2 + at(b, c, height - 1 - i, j) / 4 + at(b, c, i, width - 1 - j) / 4 +
                             at(size.batch - 1 - b, c, i, j) / 8);
        }
      }
    }
  }
  return restored;
}

int run_all(const char* adapter, const std::function<void()>& tests) {
  setenv("SERPENT_ENGINE_ADAPTER", adapter, 1);
  try {
    tests();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "unexpected: %s\n", error.what());
    ++failures;
  }
  std::printf(failures == 0 ? "all checks passed\n" : "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace test
