#include "library.h"

#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <vector>

#include "failure.h"

namespace serpent::engine {
namespace {

// The oldest TensorRT-RTX that runs plugins, and the TensorRT whose class layouts it shares.
constexpr int kRtxMajor = 1;
constexpr int kRtxLeastMinor = 7;
constexpr int kRtxLayout = 11;

// Found when this library is loaded: the loader's name of it may start from a current folder that the program leaves
// later. Empty where it cannot be told.
const std::string folder_at_load = []() noexcept -> std::string {
  try {
    Dl_info info = {};
    const bool found = dladdr(reinterpret_cast<const void*>(&own_folder), &info) != 0 && info.dli_fname != nullptr;
    return found ? std::filesystem::absolute(info.dli_fname).parent_path().string() : "";
  } catch (...) {
    return "";
  }
}();

void* open_library(const std::string& path, const std::string& what, const std::string& advice) {
  // Local symbols: two TensorRT versions, or another CUDA runtime in this process, must not meet.
  if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    return handle;
  }
  const char* reason = dlerror();
  fail(SERPENT_ENGINE_UNSUPPORTED, what + " cannot be loaded: " + (reason != nullptr ? reason : path) + advice);
}

// `version` may be of either product: TensorRT 10.16.0 says 101600, TensorRT 8.6.1 says 8601, TensorRT-RTX 1.7.1 10701.
serpent_adapter_version decode(int32_t version) {
  serpent_adapter_version found = {};
  const int32_t unit = version < 10000 ? 1000 : 10000;
  found.major = version / unit;
  found.minor = version % unit / 100;
  found.patch = version % 100;
  found.is_rtx = unit == 10000 && found.major < 8;
  return found;
}

std::string product(bool is_rtx) { return is_rtx ? "TensorRT-RTX" : "TensorRT"; }

std::string title_of(const serpent_adapter_version& version) {
  return product(version.is_rtx != 0) + " " + std::to_string(version.major) + "." + std::to_string(version.minor) +
         "." + std::to_string(version.patch);
}

const serpent_adapter* load_adapter(const std::string& path) {
  void* handle = open_library(path, "the adapter", "; reinstall serpent-restoration");
  const auto entry = reinterpret_cast<const serpent_adapter* (*)()>(dlsym(handle, SERPENT_ADAPTER_ENTRY));
  const serpent_adapter* calls = entry != nullptr ? entry() : nullptr;
  if (calls == nullptr || calls->revision != SERPENT_ADAPTER_REVISION) {
    fail(SERPENT_ENGINE_UNSUPPORTED, path + " is no adapter of revision " + std::to_string(SERPENT_ADAPTER_REVISION) +
                                         " of this library; reinstall serpent-restoration");
  }
  return calls;
}

// The adapter whose headers fit the loaded TensorRT.
const serpent_adapter* choose_adapter(const serpent_adapter_version& version, const std::string& where) {
  const std::string title = title_of(version);
  if (version.is_rtx && (version.major != kRtxMajor || version.minor < kRtxLeastMinor)) {
    fail(SERPENT_ENGINE_UNSUPPORTED,
         where + " is " + title + "; this library has an adapter for TensorRT-RTX 1.7 and later 1.x alone");
  }
  const int major = version.is_rtx ? kRtxLayout : version.major;
  const auto path = own_folder() / ("libserpent_engine_trt" + std::to_string(major) + ".so");
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) {
    fail(SERPENT_ENGINE_UNSUPPORTED,
         where + " is " + title + ", and there is no adapter for it: " + path.string() +
             " does not exist; build this project with -DTENSORRT_ROOT naming the headers of TensorRT " +
             std::to_string(major));
  }
  return load_adapter(path.string());
}

std::vector<int> numbers(const std::string& version) {
  std::vector<int> found;
  const char* last = version.data() + version.size();
  for (const char* at = version.data(); at < last; ++at) {
    int number = 0;
    const auto [end, problem] = std::from_chars(at, last, number);
    if (problem != std::errc()) {
      break;
    }
    found.push_back(number);
    at = end;
  }
  return found;
}

// The library that a plan's manifest asks for, by the name under which the system's loader knows it.
std::string soname(const Manifest& manifest) {
  if (manifest.flavour == "rtx") {
    return "libtensorrt_rtx.so.1";
  }
  const std::vector<int> wanted = numbers(manifest.version);
  if (wanted.empty()) {
    fail(SERPENT_ENGINE_MODEL_FILE, manifest.path.string() + " has the TensorRT version \"" + manifest.version +
                                        "\", which is no version; run serpent-export again");
  }
  return "libnvinfer.so." + std::to_string(wanted[0]);
}

void check_version(const serpent_adapter_version& version, const Backend& backend, const std::filesystem::path& plan,
                   const Manifest& manifest) {
  const std::vector<int> wanted = numbers(manifest.version);
  const std::vector<int> found = {version.major, version.minor, version.patch, version.build};
  const bool is_rtx = manifest.flavour == "rtx";
  bool equal = wanted.size() >= 3 && is_rtx == (version.is_rtx != 0);
  for (std::size_t i = 0; i < wanted.size() && i < found.size(); ++i) {
    equal = equal && wanted[i] == found[i];
  }
  if (!equal) {
    fail(SERPENT_ENGINE_UNSUPPORTED, plan.string() + " was built with " + product(is_rtx) + " " + manifest.version +
                                         "; loaded is " + backend.title +
                                         ", which cannot run it; run serpent-export again on this "
                                         "machine, or set tensorrt_library to the library of that version");
  }
}

}  // namespace

std::filesystem::path own_folder() {
  if (folder_at_load.empty()) {
    fail(SERPENT_ENGINE_INTERNAL, "the engine library does not find its own file");
  }
  return folder_at_load;
}

Backend load_backend(const std::filesystem::path& library, const std::filesystem::path& plan,
                     const Manifest& manifest) {
  Backend backend = {};
  if (const char* stand_in = std::getenv("SERPENT_ENGINE_ADAPTER"); stand_in != nullptr && *stand_in != '\0') {
    backend.calls = load_adapter(stand_in);
  } else {
    const std::string where = library.empty() ? soname(manifest) : library.string();
    backend.library = open_library(
        where, product(manifest.flavour == "rtx") + " " + manifest.version + ", which " + plan.string() + " needs,",
        "; install it, or set tensorrt_library to its file");
    const auto version = reinterpret_cast<int32_t (*)()>(dlsym(backend.library, "getInferLibVersion"));
    if (version == nullptr) {
      fail(SERPENT_ENGINE_UNSUPPORTED, where + " is no TensorRT library: it has no getInferLibVersion");
    }
    backend.calls = choose_adapter(decode(version()), where);
  }
  serpent_adapter_version version = {};
  call(backend.calls->version, backend.library, &version);
  backend.title = title_of(version) + "." + std::to_string(version.build);
  backend.version = backend.title.substr(backend.title.find(' ') + 1);
  check_version(version, backend, plan, manifest);
  return backend;
}

}  // namespace serpent::engine
