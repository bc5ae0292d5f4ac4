// Registers the plugin when this library is loaded, for tools that do no more with a plugin library than that:
// trtexec --staticPlugins, Polygraphy --plugins, Triton's plugins=, ONNX Runtime's trt_extra_plugin_lib_paths.
//
// The registry's virtual functions lie elsewhere in each major version of TensorRT: there is one such library for each,
// and it touches no registry of another. TensorRT itself is not linked, it is found among the loaded libraries, since
// the process may have any of its flavours, under names of its own.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "identity.h"

namespace serpent::tensorrt {
namespace {

constexpr int32_t kMajor = NV_TENSORRT_MAJOR;
static_assert(kMajor == 10 || kMajor == 11, "the registry of this TensorRT is unknown here");

constexpr const char* kPluginLibrary = "libserpent_trt.so";
constexpr const char* kTensorRtLibraries[] = {
    "libnvinfer.so.11",          "libnvinfer.so.10",          "libnvinfer_lean.so.11", "libnvinfer_lean.so.10",
    "libnvinfer_dispatch.so.11", "libnvinfer_dispatch.so.10", "libtensorrt_rtx.so.1"};

using GetCreators = nvinfer1::IPluginCreatorInterface* const*(int32_t&);
using SetLoggerFinder = void(nvinfer1::ILoggerFinder*);

void say(const std::string& message) {
  std::fprintf(stderr, "libserpent_trt_autoreg%d: %s\n", kMajor, message.c_str());
}

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

// TensorRT-RTX counts its versions from 1; since 1.7 it has the interface of TensorRT 11, before that no plugins.
int32_t interface_major(int32_t version) {
  if (version >= 100000) {
    return version / 10000;
  }
  return version >= 10700 ? 11 : 0;
}

std::string title(const char* library, int32_t version) {
  const int32_t major = version / 10000;
  return std::string(library) + " (version " + std::to_string(major) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100) + ")";
}

// The logger that a loaded TensorRT hands out to whoever asks.
class GlobalLogger final : public nvinfer1::ILoggerFinder {
 public:
  using GetLogger = nvinfer1::ILogger*();

  explicit GlobalLogger(GetLogger* get_logger) : get_logger_(get_logger) {}
  nvinfer1::ILogger* findLogger() override { return get_logger_(); }

 private:
  GetLogger* get_logger_;
};

void register_creators(const char* name, void* library) {
  auto* get_registry = symbol<nvinfer1::IPluginRegistry*()>(library, "getPluginRegistry");
  // By its name among the loaded ones, not by a symbol: every plugin library exports a getCreators.
  void* plugin = dlopen(kPluginLibrary, RTLD_LAZY | RTLD_NOLOAD);
  auto* get_creators = plugin != nullptr ? symbol<GetCreators>(plugin, "getCreators") : nullptr;
  auto* set_logger_finder = plugin != nullptr ? symbol<SetLoggerFinder>(plugin, "setLoggerFinder") : nullptr;
  nvinfer1::IPluginRegistry* registry = get_registry != nullptr ? get_registry() : nullptr;
  if (registry == nullptr || get_creators == nullptr || set_logger_finder == nullptr) {
    say(std::string(registry == nullptr ? name : kPluginLibrary) + " lacks what registering needs");
    return;
  }
  if (auto* get_logger = symbol<GlobalLogger::GetLogger>(library, "getLogger"); get_logger != nullptr) {
    set_logger_finder(new GlobalLogger(get_logger));  // for the rest of the process: plugins report to it
  }
  int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* creators = get_creators(count);
  for (int32_t i = 0; i < count; ++i) {
    if (!registry->registerCreator(*creators[i], kPluginNamespace)) {
      say(std::string(name) + " refused the plugin " + kPluginNamespace + "::" + kPluginName +
          ": is it registered already?");
      return;
    }
  }
}

void register_everywhere() {
  std::string others;
  bool found = false;
  for (const char* name : kTensorRtLibraries) {
    void* library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) {
      continue;
    }
    auto* get_version = symbol<int32_t()>(library, "getInferLibVersion");
    const int32_t version = get_version != nullptr ? get_version() : 0;
    if (interface_major(version) == kMajor) {
      register_creators(name, library);
      found = true;
    } else {
      others += (others.empty() ? "" : ", ") + title(name, version);
    }
  }
  if (!found) {
    const std::string wanted = kMajor == 11 ? "TensorRT 11 or TensorRT-RTX 1.7 and later" : "TensorRT 10";
    say("registered nothing: this library is for " + wanted + "; this process has loaded " +
        (others.empty() ? "no TensorRT; load that first"
                        : others + "; load the libserpent_trt_autoreg of its version"));
  }
}

[[gnu::constructor]] void on_load() noexcept {
  try {
    register_everywhere();
  } catch (...) {
    std::fputs("libserpent_trt_autoreg: out of memory; registered nothing\n", stderr);
  }
}

}  // namespace
}  // namespace serpent::tensorrt
