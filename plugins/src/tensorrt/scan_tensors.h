// The types and shapes of the scan's tensors as TensorRT describes them: the rules, and the sizes that follow.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>

#include "serpent/scan.h"

namespace serpent::tensorrt {

struct TensorRule {
  const char* name;
  int32_t rank;
  bool has_type_of_x;  // else f32
};

constexpr int32_t kInputs = 6;
constexpr int32_t kOutputs = 1;

// Inputs in order, then the output.
constexpr std::array<TensorRule, kInputs + kOutputs> kTensors = {{{"x", 4, true},
                                                                  {"x_dbl", 4, true},
                                                                  {"dt_weight", 3, false},
                                                                  {"dt_bias", 2, false},
                                                                  {"A", 3, false},
                                                                  {"D_skip", 2, false},
                                                                  {"y", 4, true}}};

// All that follow throw Failure naming the first thing that is wrong.

void check_counts(int32_t inputs, int32_t outputs);

bool is_type_of_x(nvinfer1::DataType type) noexcept;

// `types` are those of the inputs.
void check_input_types(const nvinfer1::DataType* types);

// Sizes of the scan of six inputs and one output, whose types, layouts and shapes must agree.
serpent_scan_shape scan_shape(const nvinfer1::PluginTensorDesc* inputs, const nvinfer1::PluginTensorDesc* outputs);

// The same for the largest shapes of a profile.
serpent_scan_shape largest_scan_shape(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                      const nvinfer1::DynamicPluginTensorDesc* outputs);

}  // namespace serpent::tensorrt
