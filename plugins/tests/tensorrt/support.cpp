#include "support.h"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <utility>

#include "cuda/scan_cuda.h"
#include "tensorrt/entry.h"

namespace {

// Allocations that are granted before one is refused; negative: all are.
int granted = -1;
bool refused = false;

void* allocate(std::size_t bytes) {
  if (granted >= 0 && granted-- == 0) {
    refused = true;
    throw std::bad_alloc();
  }
  void* memory = std::malloc(bytes > 0 ? bytes : 1);
  return memory != nullptr ? memory : throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace plugin_test {
namespace {

int failures = 0;
std::vector<std::string> messages;

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    const int left = std::exchange(granted, -1);  // what this program keeps is not to run out
    messages.emplace_back(severity == Severity::kERROR ? message : "not an error");
    granted = left;
  }
};

class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return &logger_; }

 private:
  Logger logger_;
};

nvinfer1::Dims dims_of(std::initializer_list<int64_t> sizes) {
  nvinfer1::Dims dims{};
  for (const int64_t size : sizes) {
    dims.d[dims.nbDims++] = size;
  }
  return dims;
}

}  // namespace

void check(bool good, const char* what, const char* file, int line) {
  if (!good) {
    std::fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
    ++failures;
  }
}

void check_said(const std::string& text, const char* file, int line) {
  const std::vector<std::string> said = take_messages();
  const std::string all = said.size() == 1 ? said[0] : std::to_string(said.size()) + " messages";
  if (all != "SelectiveScan2D, " + text) {
    std::fprintf(stderr, "%s:%d: the plugin said '%s'; expected '%s'\n", file, line, all.c_str(), text.c_str());
    ++failures;
  }
}

int failed_checks() { return failures; }

void listen() {
  static Finder finder;
  setLoggerFinder(&finder);
  messages.clear();
}

std::vector<std::string> take_messages() { return std::exchange(messages, {}); }

bool with_allocations(int count, const std::function<void()>& call) {
  granted = count;
  refused = false;
  call();
  granted = -1;
  return refused;
}

int with_each_allocation_refused(const std::function<bool()>& call, const char* method) {
  take_messages();
  for (int count = 0;; ++count) {
    bool failed = false;
    if (!with_allocations(count, [&] { failed = call(); })) {
      CHECK(!failed);
      CHECK(take_messages().empty());
      return count;
    }
    CHECK(failed);
    check_said(std::string(method) + ": out of memory", __FILE__, __LINE__);
  }
}

KernelCalls& kernel_calls() {
  static KernelCalls calls;
  return calls;
}

nvinfer1::IPluginCreatorV3One& creator() {
  int32_t count = 0;
  return static_cast<nvinfer1::IPluginCreatorV3One&>(**getCreators(count));
}

Plugin create() {
  const nvinfer1::PluginFieldCollection none{};
  return Plugin(creator().createPlugin("scan", &none, nvinfer1::TensorRTPhase::kBUILD));
}

nvinfer1::IPluginV3OneBuild& build_side(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneBuild*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD));
}

nvinfer1::IPluginV3OneRuntime& runtime_side(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneRuntime*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
}

Tensors::Tensors(const serpent_scan_shape& s, nvinfer1::DataType x) {
  const auto describe = [](nvinfer1::Dims dims, nvinfer1::DataType type) {
    return nvinfer1::PluginTensorDesc{dims, type, nvinfer1::TensorFormat::kLINEAR, -1.0F};
  };
  const nvinfer1::DataType f32 = nvinfer1::DataType::kFLOAT;
  all = {describe(dims_of({s.batch, s.height, s.width, s.channels}), x),
         describe(dims_of({s.batch, s.height, s.width, 4 * (s.dt_rank + 2 * s.d_state)}), x),
         describe(dims_of({4, s.channels, s.dt_rank}), f32),
         describe(dims_of({4, s.channels}), f32),
         describe(dims_of({4, s.channels, s.d_state}), f32),
         describe(dims_of({4, s.channels}), f32),
         describe(dims_of({s.batch, s.height, s.width, s.channels}), x)};
}

std::array<nvinfer1::DynamicPluginTensorDesc, 7> Tensors::dynamic() const {
  std::array<nvinfer1::DynamicPluginTensorDesc, 7> found{};
  for (size_t i = 0; i < all.size(); ++i) {
    found[i].desc = all[i];
    found[i].min = found[i].opt = found[i].max = all[i].dims;
    if (all[i].dims.nbDims == 4) {
      for (size_t axis = 0; axis < 3; ++axis) {
        found[i].desc.dims.d[axis] = -1;
        found[i].min.d[axis] = 1;
      }
    }
  }
  return found;
}

}  // namespace plugin_test

// The kernels of this program, found by the linker before those of the archive.
namespace serpent {

cuda::ScanPlan choose_scan(const serpent_scan_shape&) {
  plugin_test::KernelCalls& calls = plugin_test::kernel_calls();
  return {nullptr, ++calls.chosen, 0};
}

void scan_cuda(const serpent_scan_shape& shape, const serpent_scan_tensors& tensors, const cuda::ScanPlan& plan,
               void* workspace, void* stream) {
  plugin_test::KernelCalls& calls = plugin_test::kernel_calls();
  ++calls.run;
  calls.shape = shape;
  calls.tensors = tensors;
  calls.plan_tag = plan.chunk_tokens;
  calls.workspace = workspace;
  calls.stream = stream;
  if (calls.fails) {
    calls.fails();
  }
}

}  // namespace serpent
