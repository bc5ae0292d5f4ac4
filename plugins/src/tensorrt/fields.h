// What a plan keeps of the plugin: one field, `schema`. One parser reads it, whether the fields come from the node of
// an ONNX file (build), which has none of its own, or from a plan (runtime).
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace serpent::tensorrt {

// Immutable, and shared by a plugin and its clones: TensorRT reads the field after the call that returned it.
class PlanFields {
 public:
  // `schema`: revision of the workspace-size function that the plan was built with.
  explicit PlanFields(int32_t schema) noexcept;
  PlanFields(const PlanFields&) = delete;
  PlanFields& operator=(const PlanFields&) = delete;

  const nvinfer1::PluginFieldCollection& collection() const noexcept { return collection_; }

 private:
  int32_t schema_;
  nvinfer1::PluginField field_;
  nvinfer1::PluginFieldCollection collection_;
};

// The schema of the fields, or this library's own where a build names none. Throws Failure where a field is unknown,
// repeated, of another type or length, missing at run time, or of another revision than this library's.
int32_t parse_schema(const nvinfer1::PluginFieldCollection* fields, nvinfer1::TensorRTPhase phase);

}  // namespace serpent::tensorrt
