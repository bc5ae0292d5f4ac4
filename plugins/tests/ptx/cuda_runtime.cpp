// The CUDA runtime over CPU threads, as far as the kernels' host side and the plugin's harness call it, for objects
// that nvcc made: device memory is host memory, and a launch runs the translated PTX of its kernel before it returns.
// One stream may be captured at a time; what a capture forbids fails, as on a GPU.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cuda/twin/grid.h"
#include "failure.h"
#include "kernels.h"

using Work = std::vector<std::function<cudaError_t()>>;

struct CUgraph_st {
  Work work;
};

struct CUgraphExec_st {
  Work work;
};

struct CUstream_st {};

namespace serpent::cuda::ptx {
namespace {

std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

// The host functions that stand for kernels, with the kernels' names.
std::map<const void*, std::string>& host_functions() {
  static std::map<const void*, std::string> all;
  return all;
}

cudaStream_t captured_stream = nullptr;
Work captured;
std::string last_message;

cudaError_t failed(cudaError_t code, const std::string& message) {
  last_message = message;
  return code;
}

cudaError_t not_while_capturing(const char* call) {
  return captured_stream == nullptr
             ? cudaSuccess
             : failed(cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream is captured");
}

cudaError_t enqueue(cudaStream_t stream, std::function<cudaError_t()> work) {
  if (captured_stream == nullptr) {
    return work();
  }
  if (stream != captured_stream) {
    return failed(cudaErrorStreamCaptureImplicit, "work on another stream than the captured one");
  }
  captured.push_back(std::move(work));
  return cudaSuccess;
}

const Kernel* find_kernel(const void* host_function) {
  const auto name = host_functions().find(host_function);
  const auto kernel = name == host_functions().end() ? kernels().end() : kernels().find(name->second);
  return kernel == kernels().end() ? nullptr : &kernel->second;
}

cudaError_t run(const Kernel& kernel, const cudaLaunchConfig_t& configuration, const std::string& parameters) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(parameters.data());
  const dim3 grid = configuration.gridDim;
  try {
    twin::run_grid({grid.x, grid.y, grid.z}, configuration.blockDim.x, configuration.dynamicSmemBytes,
                   [&] { kernel.run(bytes); });
  } catch (const Failure& failure) {
    return failed(cudaErrorLaunchFailure, failure.message);
  }
  return cudaSuccess;
}

cudaError_t launch(const Kernel& kernel, const cudaLaunchConfig_t& configuration, void** arguments) {
  const dim3 block = configuration.blockDim;
  if (block.y != 1 || block.z != 1 || block.x > kernel.max_threads || configuration.numAttrs != 0) {
    return failed(cudaErrorInvalidConfiguration,
                  std::to_string(block.x) + " threads; the kernel is compiled for blocks of one dimension, of " +
                      std::to_string(kernel.max_threads) + " threads at most, and no attributes");
  }
  std::string parameters(kernel.parameter_bytes, '\0');
  for (size_t i = 0; i < kernel.parameters.size(); ++i) {
    std::memcpy(&parameters[kernel.parameters[i].offset], arguments[i], kernel.parameters[i].bytes);
  }
  return enqueue(configuration.stream, [&kernel, configuration, parameters = std::move(parameters)] {
    return run(kernel, configuration, parameters);
  });
}

}  // namespace

Registration::Registration(std::vector<Kernel> translated) {
  for (Kernel& kernel : translated) {
    kernels().insert_or_assign(kernel.name, std::move(kernel));
  }
}

}  // namespace serpent::cuda::ptx

using namespace serpent::cuda::ptx;

extern "C" {

// What the objects of nvcc call before main, one file after another.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterFunction(void**, const char* host_function, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  host_functions().emplace(host_function, name);
}

// What <<<>>> calls, which nothing here uses.
unsigned __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return 1; }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return failed(cudaErrorNotSupported, "__cudaGetKernel"); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  return failed(cudaErrorNotSupported, "__cudaLaunchKernel");
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* configuration, const void* function, void** arguments) {
  const Kernel* kernel = find_kernel(function);
  return kernel == nullptr ? failed(cudaErrorInvalidDeviceFunction, "no such kernel was translated")
                           : launch(*kernel, *configuration, arguments);
}

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  const Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) {
    return failed(cudaErrorInvalidDeviceFunction, "no such kernel was translated");
  }
  *name = kernel->name.c_str();
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = 4;  // as the host twin of the kernels
  return attribute == cudaDevAttrMultiProcessorCount ? cudaSuccess
                                                     : failed(cudaErrorInvalidValue, "cudaDeviceGetAttribute");
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return last_message.c_str(); }

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const cudaError_t forbidden = not_while_capturing("cudaMalloc");
  *memory = forbidden == cudaSuccess ? std::aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
  return *memory != nullptr || forbidden != cudaSuccess ? forbidden : failed(cudaErrorMemoryAllocation, "no memory");
}

cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  const cudaError_t forbidden = not_while_capturing("cudaMemcpy");
  if (forbidden == cudaSuccess) {
    std::memcpy(to, from, bytes);
  }
  return forbidden;
}

cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] {
    std::memset(memory, byte, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return not_while_capturing("cudaStreamSynchronize"); }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  captured_stream = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  captured_stream = nullptr;
  *graph = new CUgraph_st{std::move(captured)};
  captured.clear();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : executable->work) {
    if (const cudaError_t code = work(); code != cudaSuccess) {
      return code;
    }
  }
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

}  // extern "C"
