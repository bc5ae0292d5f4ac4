// What stands behind the adapter's opaque pointers.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>

#include "../adapter.h"
#include "cuda_driver.h"

namespace serpent::engine {

// Keeps what TensorRT reports as an error, for the message of the call that failed.
class Log : public nvinfer1::ILogger {
 public:
  // The one log, never destroyed: TensorRT keeps the first logger it is given for as long as any object of it lives.
  static Log& instance();

  void log(Severity severity, const char* message) noexcept override;

  // The calling thread's errors since the last call, as one line: TensorRT reports in the thread that called it.
  std::string take();
};

// Fails with SERPENT_ENGINE_TENSORRT: `what`, and the reason in the log.
[[noreturn]] void refuse(Log& log, const std::string& what);

// What a TensorRT library says of itself. Fails with SERPENT_ENGINE_UNSUPPORTED: it lacks a function for it.
serpent_adapter_version version_of(void* library);

// Where the registry lacks `plugin`, loads the library `file`.
// Fails with SERPENT_ENGINE_UNSUPPORTED: no such library, one without this plugin, or the registry has it from another.
void load_plugin(nvinfer1::IPluginRegistry& registry, Log& log, const char* file, const serpent_adapter_plugin& plugin);

// Sizes and type of a tensor of the engine. Fails with SERPENT_ENGINE_TENSORRT: no such tensor.
serpent_adapter_tensor describe_tensor(const nvinfer1::ICudaEngine& engine, int32_t index);

}  // namespace serpent::engine

struct serpent_adapter_runtime {
  serpent_adapter_runtime(void* tensorrt, int32_t device);

  serpent::engine::CudaDriver cuda;
  serpent::engine::Log& log = serpent::engine::Log::instance();
  nvinfer1::IPluginRegistry* registry = nullptr;  // TensorRT's own, of the whole process
  std::unique_ptr<nvinfer1::IRuntime> runtime;
};

struct serpent_adapter_engine {
  serpent_adapter_runtime& owner;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
};

struct serpent_adapter_context {
  serpent_adapter_runtime& owner;
  std::unique_ptr<nvinfer1::IExecutionContext> context;
};
