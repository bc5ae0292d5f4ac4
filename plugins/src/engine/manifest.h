// The manifest beside a plan, as serpent/manifest.py writes and reads it: what the runtime needs of it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "border.h"
#include "serpent/engine.h"

namespace serpent::engine {

struct Plugin {
  std::string name;
  std::string version;
  std::string name_space;
  bool embedded;  // in the plan, which then brings its own native code
};

struct Manifest {
  std::filesystem::path path;
  std::string variant;
  std::string task;
  std::string precision;
  std::string weights;
  serpent_engine_range batch;
  serpent_engine_range height;
  serpent_engine_range width;
  int64_t multiple;
  const Border* border;              // what the plan takes and gives
  std::string sha256;                // of the plan
  std::string flavour;               // "rtx" or "trt"
  std::string version;               // of TensorRT
  std::vector<std::string> targets;  // such as "sm89"
  Plugin plugin;
};

// Reads the manifest of `plan`. Fails with SERPENT_ENGINE_MODEL_FILE: missing, damaged, or silent about this plan.
Manifest load_manifest(const std::filesystem::path& plan);

// The bytes of `plan`. Fails with SERPENT_ENGINE_MODEL_FILE: not readable, or not the file that the manifest describes.
std::vector<char> read_plan(const std::filesystem::path& plan, const Manifest& manifest);

// A file's content. Fails with SERPENT_ENGINE_MODEL_FILE, calling the file `what`.
std::vector<char> read_file(const std::filesystem::path& path, const std::string& what);

}  // namespace serpent::engine
