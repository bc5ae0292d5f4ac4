// What the tests of the plugin stand on: checks that count, the plugin's messages, memory that runs out on command,
// kernels that only note how they were called, and tensors as TensorRT describes them.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serpent/scan.h"
#include "tensorrt/scan_tensors.h"

namespace plugin_test {

#define CHECK(condition) ::plugin_test::check((condition), #condition, __FILE__, __LINE__)

// The last thing that the plugin said must be just this.
#define CHECK_SAID(text) ::plugin_test::check_said((text), __FILE__, __LINE__)

void check(bool good, const char* what, const char* file, int line);
void check_said(const std::string& text, const char* file, int line);
int failed_checks();

// Makes the plugin report into this program; forgets what it said before.
void listen();
std::vector<std::string> take_messages();

// `call` with the first, then the second ... of its allocations refused, until it needs no more than were granted.
// Each time it must return `failed` and say that memory ran out. Returns how many allocations it makes.
int with_each_allocation_refused(const std::function<bool()>& call, const char* method);

// `call` with so many allocations granted and the next one refused; returns whether it got that far.
bool with_allocations(int granted, const std::function<void()>& call);

// What stands in for the CUDA kernels: notes the last call, and does `fails` first where that is set.
struct KernelCalls {
  int chosen = 0;
  int run = 0;
  serpent_scan_shape shape{};
  serpent_scan_tensors tensors{};
  int64_t plan_tag = 0;  // which choice the scan was run with, counted from 1
  void* workspace = nullptr;
  void* stream = nullptr;
  std::function<void()> fails;
};
KernelCalls& kernel_calls();

using Plugin = std::unique_ptr<nvinfer1::IPluginV3>;

nvinfer1::IPluginCreatorV3One& creator();
Plugin create();  // for a build
nvinfer1::IPluginV3OneBuild& build_side(nvinfer1::IPluginV3& plugin);
nvinfer1::IPluginV3OneRuntime& runtime_side(nvinfer1::IPluginV3& plugin);

// All tensors of one scan: six inputs, then the output.
struct Tensors {
  explicit Tensors(const serpent_scan_shape& shape, nvinfer1::DataType x = nvinfer1::DataType::kFLOAT);

  // Of a profile whose largest shapes are these and whose free sizes are free.
  std::array<nvinfer1::DynamicPluginTensorDesc, 7> dynamic() const;
  const nvinfer1::PluginTensorDesc* inputs() const { return all.data(); }
  const nvinfer1::PluginTensorDesc* output() const { return all.data() + serpent::tensorrt::kInputs; }

  std::array<nvinfer1::PluginTensorDesc, 7> all;
};

constexpr serpent_scan_shape kShape{2, 5, 9, 16, 6, 2, SERPENT_DTYPE_F32};

void test_creation();
void test_rules();
void test_runtime();
void test_failures();

}  // namespace plugin_test
