#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "harness_device.h"

namespace plugin_harness {
namespace {

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
  }
}

#define CHECK_CUDA(call) check((call), #call)

cudaStream_t cuda_stream() { return reinterpret_cast<cudaStream_t>(stream()); }

}  // namespace

void* allocate(size_t bytes) {
  void* memory = nullptr;
  CHECK_CUDA(cudaMalloc(&memory, bytes));
  return memory;
}

void release(void* memory) noexcept { cudaFree(memory); }

void fill(void* memory, int byte, size_t bytes) {
  CHECK_CUDA(cudaMemsetAsync(memory, byte, bytes, cuda_stream()));
  synchronise();
}

void copy_in(void* to, const void* from, size_t bytes) {
  CHECK_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

void copy_out(void* to, const void* from, size_t bytes) {
  synchronise();
  CHECK_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

Stream* stream() {
  static cudaStream_t made = [] {
    cudaStream_t created = nullptr;
    CHECK_CUDA(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
    return created;
  }();
  return reinterpret_cast<Stream*>(made);
}

void synchronise() { CHECK_CUDA(cudaStreamSynchronize(cuda_stream())); }

bool has_graphs() { return true; }

void run_captured(const std::function<void()>& enqueue, const std::function<void()>& between, int times) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CHECK_CUDA(cudaStreamBeginCapture(cuda_stream(), cudaStreamCaptureModeThreadLocal));
  enqueue();
  CHECK_CUDA(cudaStreamEndCapture(cuda_stream(), &graph));
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  between();
  for (int i = 0; i < times; ++i) {
    CHECK_CUDA(cudaGraphLaunch(executable, cuda_stream()));
  }
  synchronise();
  CHECK_CUDA(cudaGraphExecDestroy(executable));
  CHECK_CUDA(cudaGraphDestroy(graph));
}

}  // namespace plugin_harness
