// Registers the plugin when this library is loaded, for tools that do no more with a plugin library than that:
// trtexec --staticPlugins, Polygraphy --plugins, Triton's plugins=, ONNX Runtime's trt_extra_plugin_lib_paths.
//
// The registry's virtual functions lie elsewhere in each major version of TensorRT: there is one such library for each,
// and it touches no registry of another. TensorRT itself is not linked, it is found among the loaded libraries, since
// the process may have any of its flavours, under names of its own.
#include <NvInferRuntime.h>
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "identity.h"

namespace serpent::tensorrt {
namespace {

constexpr int32_t kMajor = NV_TENSORRT_MAJOR;
static_assert(kMajor == 10 || kMajor == 11, "the registry of this TensorRT is unknown here");

constexpr const char* kPluginLibrary = "libserpent_trt.so";
constexpr std::string_view kTensorRtLibraries[] = {"libnvinfer.so", "libnvinfer_lean.so", "libnvinfer_dispatch.so",
                                                   "libtensorrt_rtx.so"};

using GetCreators = nvinfer1::IPluginCreatorInterface* const*(int32_t&);
using SetLoggerFinder = void(nvinfer1::ILoggerFinder*);

void say(const std::string& message) {
  std::fprintf(stderr, "libserpent_trt_autoreg%d: %s\n", kMajor, message.c_str());
}

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

// A TensorRT in this process: its file as the loader knows it, and what getInferLibVersion says, 0 if it is not there.
struct Loaded {
  std::string path;
  void* library;
  int32_t version;

  std::string name() const { return path.substr(path.rfind('/') + 1); }

  // TensorRT 10.16.1 says 101601, 9.3.0 says 9300; TensorRT-RTX, which counts from 1, says 10701 for 1.7.1.
  int32_t unit() const { return version < 10000 ? 1000 : 10000; }

  // Since 1.7 TensorRT-RTX has the interface of TensorRT 11, before that no plugins; of a 2 nothing is known.
  int32_t interface_major() const {
    if (version >= 100000) {
      return version / 10000;
    }
    return version >= 10700 && version < 20000 ? 11 : 0;
  }

  std::string title() const {
    if (version == 0) {
      return name() + " (which tells no version)";
    }
    return name() + " (version " + std::to_string(version / unit()) + "." + std::to_string(version % unit() / 100) +
           "." + std::to_string(version % 100) + ")";
  }
};

bool is_tensorrt(std::string_view file) noexcept {
  return std::any_of(std::begin(kTensorRtLibraries), std::end(kTensorRtLibraries), [&](std::string_view known) {
    return file.starts_with(known) && (file.size() == known.size() || file[known.size()] == '.');
  });
}

// For dl_iterate_phdr, which exceptions must not cross: another result than 0 ends it.
int add_path(dl_phdr_info* info, size_t, void* paths) noexcept {
  try {
    const std::string_view path = info->dlpi_name != nullptr ? info->dlpi_name : "";
    if (is_tensorrt(path.substr(path.rfind('/') + 1))) {
      static_cast<std::vector<std::string>*>(paths)->emplace_back(path);
    }
    return 0;
  } catch (...) {
    return 1;
  }
}

// All versions, also those that this library cannot serve: they are to be named.
std::vector<Loaded> loaded_tensorrts() {
  std::vector<std::string> paths;
  if (dl_iterate_phdr(add_path, &paths) != 0) {
    throw std::bad_alloc();
  }
  std::vector<Loaded> found;
  std::vector<void*> seen;  // a file that is there for its name alone leads to the functions of the one that it needs
  for (const std::string& path : paths) {
    void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    void* get_version = library != nullptr ? dlsym(library, "getInferLibVersion") : nullptr;
    if (get_version != nullptr && std::find(seen.begin(), seen.end(), get_version) != seen.end()) {
      continue;
    }
    seen.push_back(get_version);
    found.push_back({path, library, get_version != nullptr ? reinterpret_cast<int32_t (*)()>(get_version)() : 0});
  }
  return found;
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

void register_creators(const Loaded& tensorrt) {
  auto* get_registry = symbol<nvinfer1::IPluginRegistry*()>(tensorrt.library, "getPluginRegistry");
  // By its name among the loaded ones, not by a symbol: every plugin library exports a getCreators.
  void* plugin = dlopen(kPluginLibrary, RTLD_LAZY | RTLD_NOLOAD);
  auto* get_creators = plugin != nullptr ? symbol<GetCreators>(plugin, "getCreators") : nullptr;
  auto* set_logger_finder = plugin != nullptr ? symbol<SetLoggerFinder>(plugin, "setLoggerFinder") : nullptr;
  nvinfer1::IPluginRegistry* registry = get_registry != nullptr ? get_registry() : nullptr;
  if (registry == nullptr || get_creators == nullptr || set_logger_finder == nullptr) {
    say((registry == nullptr ? tensorrt.name() : kPluginLibrary) + " lacks what registering needs");
    return;
  }
  if (auto* get_logger = symbol<GlobalLogger::GetLogger>(tensorrt.library, "getLogger"); get_logger != nullptr) {
    set_logger_finder(new GlobalLogger(get_logger));  // for the rest of the process: plugins report to it
  }
  int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* creators = get_creators(count);
  for (int32_t i = 0; i < count; ++i) {
    if (!registry->registerCreator(*creators[i], kPluginNamespace)) {
      say(tensorrt.name() + " refused the plugin " + kPluginNamespace + "::" + kPluginName +
          ": is it registered already?");
      return;
    }
  }
}

void register_everywhere() {
  std::string others;
  bool served = false;  // by another of these libraries
  bool found = false;
  for (const Loaded& tensorrt : loaded_tensorrts()) {
    if (tensorrt.interface_major() == kMajor) {
      register_creators(tensorrt);
      found = true;
    } else {
      others += (others.empty() ? "" : ", ") + tensorrt.title();
      served = served || tensorrt.interface_major() == 10 || tensorrt.interface_major() == 11;
    }
  }
  if (!found) {
    const std::string wanted = kMajor == 11 ? "TensorRT 11 or TensorRT-RTX 1.7 and later" : "TensorRT 10";
    const std::string advice = served ? "; load the libserpent_trt_autoreg of its version"
                                      : "; the plugin runs in TensorRT 10, 11 and TensorRT-RTX 1.7 and later 1.x alone";
    say("registered nothing: this library is for " + wanted + "; this process has loaded " +
        (others.empty() ? "no TensorRT; load that first" : others + advice));
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
