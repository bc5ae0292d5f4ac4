#include "objects.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include "../failure.h"

namespace serpent::engine {
namespace {

constexpr std::size_t kKeptMessages = 16;
thread_local std::vector<std::string> messages;

template <class Function>
Function find(void* library, const char* name) {
  const auto function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    fail(SERPENT_ENGINE_UNSUPPORTED, std::string("the TensorRT library lacks the function ") + name);
  }
  return function;
}

bool has(const nvinfer1::IPluginRegistry& registry, const serpent_adapter_plugin& plugin) {
  int32_t count = 0;
  // Asking for one creator by name would log an error where it is missing.
  const auto* creators = registry.getAllCreators(&count);
  return std::any_of(creators, creators + count, [&](const nvinfer1::IPluginCreatorInterface* creator) {
    if (creator == nullptr || std::string_view(creator->getInterfaceInfo().kind) != "PLUGIN CREATOR_V3ONE") {
      return false;
    }
    const auto& known = static_cast<const nvinfer1::IPluginCreatorV3One&>(*creator);
    return known.getPluginName() == std::string_view(plugin.name) &&
           known.getPluginVersion() == std::string_view(plugin.version) &&
           known.getPluginNamespace() == std::string_view(plugin.name_space);
  });
}

const char* type_name(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return "FLOAT";
    case nvinfer1::DataType::kHALF:
      return "HALF";
    case nvinfer1::DataType::kBF16:
      return "BF16";
    case nvinfer1::DataType::kUINT8:
      return "UINT8";
    case nvinfer1::DataType::kINT32:
      return "INT32";
    default:
      return "of another type";
  }
}

}  // namespace

Log& Log::instance() {
  static Log* const log = new Log;
  return *log;
}

void Log::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kERROR || message == nullptr) {
    return;
  }
  try {
    if (messages.size() < kKeptMessages && std::find(messages.begin(), messages.end(), message) == messages.end()) {
      messages.emplace_back(message);
    }
  } catch (...) {
    // A message is lost; nothing may escape into TensorRT.
  }
}

std::string Log::take() {
  std::string line;
  for (const std::string& message : messages) {
    line += (line.empty() ? "" : "; ") + message;
  }
  messages.clear();
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

void refuse(Log& log, const std::string& what) {
  const std::string reason = log.take();
  fail(SERPENT_ENGINE_TENSORRT, what + ": " + (reason.empty() ? "TensorRT gave no reason" : reason));
}

void load_plugin(nvinfer1::IPluginRegistry& registry, Log& log, const char* path,
                 const serpent_adapter_plugin& plugin) {
  // Two engines opened at once must not both find the plugin missing: a second registration of one name fails.
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  if (has(registry, plugin)) {
    return;
  }
  const std::string title = std::string(plugin.name_space) + "::" + plugin.name + " version " + plugin.version;
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) {
    fail(SERPENT_ENGINE_UNSUPPORTED, "the plan needs the plugin " + title + ", and its library " + path +
                                         " does not exist; build this project where CMake finds NvInfer.h, or set " +
                                         "plugin_library to the file");
  }
  log.take();
  if (registry.loadLibrary(path) == nullptr) {
    const std::string reason = log.take();
    fail(SERPENT_ENGINE_UNSUPPORTED, std::string("TensorRT cannot load the plugin library ") + path + ": " +
                                         (reason.empty() ? "it gave no reason" : reason));
  }
  if (!has(registry, plugin)) {
    fail(SERPENT_ENGINE_UNSUPPORTED, std::string("the plugin library ") + path + " does not have " + title +
                                         ", which the plan needs; install the version that built the plan");
  }
}

serpent_adapter_tensor describe_tensor(const nvinfer1::ICudaEngine& engine, int32_t index) {
  const char* name = engine.getIOTensorName(index);
  if (name == nullptr) {
    fail(SERPENT_ENGINE_TENSORRT, "the plan has no tensor " + std::to_string(index));
  }
  const nvinfer1::Dims sizes = engine.getTensorShape(name);
  serpent_adapter_tensor tensor = {};
  tensor.name = name;
  tensor.type = type_name(engine.getTensorDataType(name));
  tensor.is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT ? 1 : 0;
  tensor.rank = sizes.nbDims;
  if (tensor.is_input == 0 || tensor.rank != SERPENT_ADAPTER_RANK) {
    return tensor;
  }
  const bool is_static = std::find(sizes.d, sizes.d + sizes.nbDims, -1) == sizes.d + sizes.nbDims;
  using Selector = nvinfer1::OptProfileSelector;
  const nvinfer1::Dims least = is_static ? sizes : engine.getProfileShape(name, 0, Selector::kMIN);
  const nvinfer1::Dims most = is_static ? sizes : engine.getProfileShape(name, 0, Selector::kMAX);
  if (least.nbDims != tensor.rank || most.nbDims != tensor.rank) {
    fail(SERPENT_ENGINE_TENSORRT, std::string("the plan has no profile for its input ") + name);
  }
  std::copy_n(least.d, tensor.rank, tensor.min);
  std::copy_n(most.d, tensor.rank, tensor.max);
  return tensor;
}

}  // namespace serpent::engine

serpent_adapter_runtime::serpent_adapter_runtime(void* tensorrt, int32_t device) : cuda(device) {
  using serpent::engine::find;
  const serpent::engine::CudaDriver::Scope current(cuda);
  // The library's own version: TensorRT-RTX counts differently from the headers that describe its classes.
  const int32_t version = find<int32_t (*)()>(tensorrt, "getInferLibVersion")();
  const auto create = find<void* (*)(void*, int32_t)>(tensorrt, "createInferRuntime_INTERNAL");
  registry = find<nvinfer1::IPluginRegistry* (*)()>(tensorrt, "getPluginRegistry")();
  runtime.reset(static_cast<nvinfer1::IRuntime*>(create(static_cast<nvinfer1::ILogger*>(&log), version)));
  if (runtime == nullptr || registry == nullptr) {
    serpent::engine::refuse(log, "TensorRT cannot make a runtime");
  }
}
