// What a context does with the plugin, over kernels that only note how they were called.
#include "failure.h"
#include "support.h"

namespace plugin_test {
namespace {

struct Addresses {
  std::array<const void*, 6> inputs;
  std::array<void*, 1> outputs;
  void* workspace;
  cudaStream_t stream;
};

Addresses addresses() {
  alignas(256) static std::array<char, 9 * 256> memory;
  const auto place = [](size_t i) { return &memory[256 * i]; };
  Addresses found{};
  for (size_t i = 0; i < found.inputs.size(); ++i) {
    found.inputs[i] = place(i);
  }
  found.outputs[0] = place(6);
  found.workspace = place(7);
  found.stream = reinterpret_cast<cudaStream_t>(place(8));
  return found;
}

int32_t enqueue(nvinfer1::IPluginV3& plugin, const Tensors& tensors, const Addresses& at = addresses()) {
  return runtime_side(plugin).enqueue(tensors.inputs(), tensors.output(), at.inputs.data(), at.outputs.data(),
                                      at.workspace, at.stream);
}

int32_t change_shape(nvinfer1::IPluginV3& plugin, const Tensors& tensors) {
  return runtime_side(plugin).onShapeChange(tensors.inputs(), 6, tensors.output(), 1);
}

Plugin attached() { return Plugin(runtime_side(*create()).attachToContext(nullptr)); }

void test_enqueue_hands_everything_over() {
  KernelCalls& calls = kernel_calls() = {};
  const Plugin plugin = attached();
  const Tensors tensors(kShape, nvinfer1::DataType::kBF16);
  CHECK(change_shape(*plugin, tensors) == 0);
  CHECK(calls.chosen == 1 && calls.run == 0);
  const Addresses at = addresses();
  CHECK(enqueue(*plugin, tensors) == 0);
  CHECK(calls.chosen == 1 && calls.run == 1);
  const serpent_scan_shape& shape = calls.shape;
  CHECK(shape.batch == 2 && shape.height == 5 && shape.width == 9 && shape.channels == 16);
  CHECK(shape.d_state == 6 && shape.dt_rank == 2 && shape.dtype == SERPENT_DTYPE_BF16);
  CHECK(calls.tensors.x == at.inputs[0] && calls.tensors.x_dbl == at.inputs[1]);
  CHECK(calls.tensors.dt_weight == at.inputs[2] && calls.tensors.dt_bias == at.inputs[3]);
  CHECK(calls.tensors.A == at.inputs[4] && calls.tensors.D_skip == at.inputs[5]);
  CHECK(calls.tensors.y == at.outputs[0]);
  CHECK(calls.workspace == at.workspace && calls.stream == at.stream);
}

void test_kernels_are_chosen_once_a_shape() {
  KernelCalls& calls = kernel_calls() = {};
  const Plugin plugin = attached();
  const Tensors small(kShape);
  serpent_scan_shape larger = kShape;
  larger.width = 64;
  const Tensors large(larger);
  CHECK(change_shape(*plugin, small) == 0);
  CHECK(enqueue(*plugin, small) == 0);
  CHECK(enqueue(*plugin, small) == 0);
  CHECK(calls.chosen == 1 && calls.plan_tag == 1);
  CHECK(change_shape(*plugin, large) == 0);
  CHECK(enqueue(*plugin, large) == 0);
  CHECK(calls.chosen == 2 && calls.plan_tag == 2 && calls.shape.width == 64);
  // A caller that changes shapes without a word gets the right kernels all the same.
  CHECK(enqueue(*plugin, small) == 0);
  CHECK(calls.chosen == 3 && calls.plan_tag == 3 && calls.shape.width == 9);
  // A clone goes on where its original was; a context may be on another device.
  const Plugin copy(plugin->clone());
  CHECK(enqueue(*copy, small) == 0);
  CHECK(calls.chosen == 3);
  const Plugin elsewhere(runtime_side(*plugin).attachToContext(nullptr));
  CHECK(enqueue(*elsewhere, small) == 0);
  CHECK(calls.chosen == 4);
  // TensorRT promises no alignment of a workspace.
  Addresses odd = addresses();
  odd.workspace = static_cast<char*>(odd.workspace) + 4;
  CHECK(enqueue(*plugin, small, odd) == 0);
  CHECK(take_messages().empty());
}

void test_an_empty_batch_runs_nothing() {
  KernelCalls& calls = kernel_calls() = {};
  const Plugin plugin = attached();
  serpent_scan_shape empty = kShape;
  empty.batch = 0;
  const Tensors tensors(empty);
  CHECK(change_shape(*plugin, tensors) == 0);
  CHECK(enqueue(*plugin, tensors, {}) == 0);  // and needs no memory
  CHECK(calls.chosen == 0 && calls.run == 0);
  CHECK(take_messages().empty());
}

void test_refusals() {
  KernelCalls& calls = kernel_calls() = {};
  const Plugin plugin = attached();
  const Tensors good(kShape);
  auto& runtime = runtime_side(*plugin);
  CHECK(runtime.onShapeChange(good.inputs(), 4, good.output(), 1) != 0);
  CHECK_SAID("onShapeChange: 4 inputs and 1 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1");
  CHECK(runtime.onShapeChange(nullptr, 6, good.output(), 1) != 0);
  CHECK_SAID("onShapeChange: the tensors' descriptions are NULL");
  const Addresses at = addresses();
  CHECK(runtime.enqueue(good.inputs(), nullptr, at.inputs.data(), at.outputs.data(), at.workspace, at.stream) != 0);
  CHECK_SAID("enqueue: the tensors' descriptions are NULL");
  CHECK(runtime.enqueue(good.inputs(), good.output(), nullptr, at.outputs.data(), at.workspace, at.stream) != 0);
  CHECK_SAID("enqueue: inputs is NULL");
  CHECK(runtime.enqueue(good.inputs(), good.output(), at.inputs.data(), nullptr, at.workspace, at.stream) != 0);
  CHECK_SAID("enqueue: outputs is NULL");
  Addresses missing = at;
  missing.workspace = nullptr;
  CHECK(enqueue(*plugin, good, missing) != 0);
  CHECK_SAID("enqueue: workspace is NULL");
  missing.workspace = static_cast<char*>(at.workspace) + 2;
  CHECK(enqueue(*plugin, good, missing) != 0);
  CHECK_SAID("enqueue: workspace is not aligned to its elements of 4 bytes");
  missing = at;
  missing.inputs[1] = static_cast<const char*>(at.inputs[1]) + 1;
  CHECK(enqueue(*plugin, good, missing) != 0);
  CHECK_SAID("enqueue: x_dbl is not aligned to its elements of 4 bytes");
  missing = at;
  missing.inputs[4] = nullptr;
  CHECK(enqueue(*plugin, good, missing) != 0);
  CHECK_SAID("enqueue: A is NULL");
  missing = at;
  missing.outputs[0] = nullptr;
  CHECK(enqueue(*plugin, good, missing) != 0);
  CHECK_SAID("enqueue: y is NULL");

  Tensors bad = good;
  bad.all[6].format = nvinfer1::TensorFormat::kHWC;
  CHECK(change_shape(*plugin, bad) != 0);
  CHECK_SAID("onShapeChange: output y has layout number 8; expected LINEAR");
  bad = good;
  bad.all[6].type = nvinfer1::DataType::kHALF;
  CHECK(enqueue(*plugin, bad) != 0);
  CHECK_SAID("enqueue: output y has type HALF; expected FLOAT");
  bad = good;
  bad.all[1].dims.d[2] = 8;
  CHECK(enqueue(*plugin, bad) != 0);
  CHECK_SAID("enqueue: input x_dbl has shape (2, 5, 8, 56); expected (2, 5, 9, 56)");
  CHECK(calls.run == 0);
}

void test_failing_kernels() {
  KernelCalls& calls = kernel_calls() = {};
  const Plugin plugin = attached();
  const Tensors tensors(kShape);
  calls.fails = [] { serpent::fail(SERPENT_STATUS_CUDA, "CUDA: too many resources requested for launch"); };
  CHECK(enqueue(*plugin, tensors) != 0);
  CHECK_SAID("enqueue: CUDA: too many resources requested for launch");
  calls.fails = [] { throw std::runtime_error("something else"); };
  CHECK(enqueue(*plugin, tensors) != 0);
  CHECK_SAID("enqueue: something else");
  calls.fails = [] { throw 7; };
  CHECK(enqueue(*plugin, tensors) != 0);
  CHECK_SAID("enqueue: unexpected exception");
  calls.fails = nullptr;
  CHECK(enqueue(*plugin, tensors) == 0);
  CHECK(take_messages().empty());
}

}  // namespace

void test_runtime() {
  test_enqueue_hands_everything_over();
  test_kernels_are_chosen_once_a_shape();
  test_an_empty_batch_runs_nothing();
  test_refusals();
  test_failing_kernels();
}

}  // namespace plugin_test
