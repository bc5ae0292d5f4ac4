// One scan driven through the plugin's interface in the order in which TensorRT calls it: build, plan, context, runs.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "harness_device.h"
#include "serpent/scan.h"

namespace plugin_harness {

// Device memory between two zones that nobody may write to.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t bytes);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  void* data() const { return static_cast<char*>(memory_) + kZone; }
  void fill_with_nan() { fill(data(), 0xff, bytes_); }
  std::vector<char> contents() const;
  bool zones_are_untouched() const;

 private:
  static constexpr size_t kZone = 4096;

  size_t bytes_;
  void* memory_;
};

// The creator in a plugin library; throws std::runtime_error. Where `path` is empty: in this program.
nvinfer1::IPluginCreatorV3One& find_creator(const char* path);

// Runs one shape. All that can fail throws std::runtime_error with the name of the step.
class PluginRun {
 public:
  // Builds, serialises, creates again from the fields and attaches: what is left is ready for `enqueue`.
  PluginRun(nvinfer1::IPluginCreatorV3One& creator, const serpent_scan_shape& shape);

  uint64_t workspace_bytes() const { return workspace_bytes_; }
  void enqueue(const std::vector<const void*>& inputs, void* y, void* workspace);

 private:
  void build(nvinfer1::IPluginV3& plugin);

  std::vector<nvinfer1::PluginTensorDesc> tensors_;
  std::unique_ptr<nvinfer1::IPluginV3> plugin_;
  nvinfer1::IPluginV3OneRuntime* runtime_;
  uint64_t workspace_bytes_ = 0;
};

}  // namespace plugin_harness
