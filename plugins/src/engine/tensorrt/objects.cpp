#include "objects.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
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

using Creator = nvinfer1::IPluginCreatorInterface;

// The registry's creator of `plugin`, or null.
const Creator* find_creator(const nvinfer1::IPluginRegistry& registry, const serpent_adapter_plugin& plugin) {
  int32_t count = 0;
  // Asking for one creator by name would log an error where it is missing.
  Creator* const* creators = registry.getAllCreators(&count);
  Creator* const* const end = creators + count;
  Creator* const* const found = std::find_if(creators, end, [&](const Creator* creator) {
    if (creator == nullptr || std::string_view(creator->getInterfaceInfo().kind) != "PLUGIN CREATOR_V3ONE") {
      return false;
    }
    const auto& known = static_cast<const nvinfer1::IPluginCreatorV3One&>(*creator);
    return known.getPluginName() == std::string_view(plugin.name) &&
           known.getPluginVersion() == std::string_view(plugin.version) &&
           known.getPluginNamespace() == std::string_view(plugin.name_space);
  });
  return found != end ? *found : nullptr;
}

// Whether the library at `path` is loaded and `creator` is one of its own.
bool comes_from(const Creator* creator, const std::string& path) {
  // Not unloaded again: the registry points into it.
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  const auto get_creators =
      library != nullptr ? reinterpret_cast<Creator* const* (*)(int32_t&)>(dlsym(library, "getCreators")) : nullptr;
  int32_t count = 0;
  Creator* const* creators = get_creators != nullptr ? get_creators(count) : nullptr;
  return std::find(creators, creators + count, creator) != creators + count;
}

// The file that has the code of `creator`, whose first word is the address of its virtual functions.
std::string file_of(const Creator* creator) {
  Dl_info info = {};
  const bool found = dladdr(*reinterpret_cast<const void* const*>(creator), &info) != 0 && info.dli_fname != nullptr;
  return found ? info.dli_fname : "unknown code";
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

serpent_adapter_version version_of(void* library) {
  const auto part = [&](const char* name) { return find<int32_t (*)()>(library, name)(); };
  serpent_adapter_version found = {};
  found.major = part("getInferLibMajorVersion");
  found.minor = part("getInferLibMinorVersion");
  found.patch = part("getInferLibPatchVersion");
  found.build = part("getInferLibBuildVersion");
  found.is_rtx = found.major < 8 ? 1 : 0;  // TensorRT itself was at 8 when TensorRT-RTX began at 1
  return found;
}

void load_plugin(nvinfer1::IPluginRegistry& registry, Log& log, const char* file,
                 const serpent_adapter_plugin& plugin) {
  std::error_code problem;
  // A name without a slash would be sought in the system's folders.
  const std::string path = std::filesystem::absolute(file, problem).string();
  // Two engines opened at once must not both find the plugin missing: a second registration of one name fails.
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  const std::string title = std::string(plugin.name_space) + "::" + plugin.name + " version " + plugin.version;
  if (const Creator* known = find_creator(registry, plugin); known != nullptr) {
    if (!comes_from(known, path)) {
      fail(SERPENT_ENGINE_UNSUPPORTED, "another library, " + file_of(known) + ", has registered the plugin " + title +
                                           " in this process, not " + path +
                                           "; set plugin_library to the former if it is a libserpent_trt.so, " +
                                           "and use no serpent.runtime in the same process");
    }
    return;
  }
  if (!std::filesystem::exists(path, problem)) {
    fail(SERPENT_ENGINE_UNSUPPORTED, "the plan needs the plugin " + title + ", and its library " + path +
                                         " does not exist; build this project where CMake finds NvInfer.h, or set " +
                                         "plugin_library to the file");
  }
  log.take();
  if (registry.loadLibrary(path.c_str()) == nullptr) {
    const std::string reason = log.take();
    fail(SERPENT_ENGINE_UNSUPPORTED,
         "TensorRT cannot load the plugin library " + path + ": " + (reason.empty() ? "it gave no reason" : reason));
  }
  if (find_creator(registry, plugin) == nullptr) {
    fail(SERPENT_ENGINE_UNSUPPORTED, "the plugin library " + path + " does not have " + title +
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
  const bool dense = engine.getTensorFormat(name) == nvinfer1::TensorFormat::kLINEAR;
  tensor.type = dense ? type_name(engine.getTensorDataType(name)) : "of a layout that is not dense";
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
