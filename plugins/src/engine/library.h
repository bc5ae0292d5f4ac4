// Which TensorRT library and which adapter serve a plan: found, loaded, and compared with the plan's manifest.
#pragma once

#include <filesystem>
#include <string>

#include "adapter.h"
#include "manifest.h"

namespace serpent::engine {

struct Backend {
  const serpent_adapter* calls;
  void* library;        // dlopen handle of TensorRT; null where the adapter needs none
  std::string version;  // such as "10.16.0.72"
  std::string title;    // for messages, such as "TensorRT 10.16.0.72"
};

// Loads TensorRT (`library`, or as the system's loader finds it where empty) and the adapter for it. Both stay loaded
// for the life of the process: TensorRT and CUDA keep threads and exit handlers.
// Fails with SERPENT_ENGINE_UNSUPPORTED: not found, not TensorRT, without an adapter, or not what built the plan.
Backend load_backend(const std::filesystem::path& library, const std::filesystem::path& plan, const Manifest& manifest);

// The folder of this library, where its adapters and the plugin library lie.
std::filesystem::path own_folder();

}  // namespace serpent::engine
