#include "scan_tensors.h"

#include <algorithm>
#include <span>
#include <string>

#include "failure.h"
#include "shape.h"

namespace serpent::tensorrt {
namespace {

using nvinfer1::DataType;

[[noreturn]] void refuse(const std::string& message) { fail(SERPENT_STATUS_INVALID_ARGUMENT, message); }

std::string type_name(DataType type) {
  constexpr const char* kNames[] = {"FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64"};
  const auto number = static_cast<size_t>(type);
  return number < std::size(kNames) ? kNames[number] : "number " + std::to_string(static_cast<int32_t>(type));
}

std::string title(size_t tensor) {
  return std::string(tensor < kInputs ? "input " : "output ") + kTensors[tensor].name;
}

std::string text_of(std::span<const int64_t> sizes) {
  std::string text = "(";
  for (const int64_t size : sizes) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return text + ")";
}

std::span<const int64_t> sizes_of(const nvinfer1::Dims& dims) {
  return {dims.d, static_cast<size_t>(std::clamp<int32_t>(dims.nbDims, 0, nvinfer1::Dims::MAX_DIMS))};
}

void check_type(size_t tensor, DataType type, DataType x) {
  if (tensor == 0 && !is_type_of_x(type)) {
    refuse(title(0) + " has type " + type_name(type) + "; expected one of FLOAT, HALF, BF16");
  }
  const DataType expected = kTensors[tensor].has_type_of_x ? x : DataType::kFLOAT;
  if (type != expected) {
    refuse(title(tensor) + " has type " + type_name(type) + "; expected " + type_name(expected));
  }
}

int32_t dtype_of(DataType type) {
  return type == DataType::kFLOAT  ? SERPENT_DTYPE_F32
         : type == DataType::kHALF ? SERPENT_DTYPE_F16
                                   : SERPENT_DTYPE_BF16;
}

void check_sizes(size_t tensor, const nvinfer1::Dims& dims, std::initializer_list<int64_t> expected) {
  if (!std::ranges::equal(sizes_of(dims), expected)) {
    refuse(title(tensor) + " has shape " + text_of(sizes_of(dims)) + "; expected " +
           text_of({expected.begin(), expected.size()}));
  }
}

}  // namespace

void check_counts(int32_t inputs, int32_t outputs) {
  if (inputs != kInputs || outputs != kOutputs) {
    std::string names;
    for (int32_t i = 0; i < kInputs; ++i) {
      names += (i > 0 ? ", " : "") + std::string(kTensors[static_cast<size_t>(i)].name);
    }
    refuse(std::to_string(inputs) + " inputs and " + std::to_string(outputs) + " outputs; expected " +
           std::to_string(kInputs) + " (" + names + ") and " + std::to_string(kOutputs));
  }
}

bool is_type_of_x(DataType type) noexcept {
  return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
}

void check_input_types(const DataType* types) {
  for (size_t i = 0; i < kInputs; ++i) {
    check_type(i, types[i], types[0]);
  }
}

serpent_scan_shape scan_shape(const nvinfer1::PluginTensorDesc* inputs, const nvinfer1::PluginTensorDesc* outputs) {
  if (inputs == nullptr || outputs == nullptr) {
    refuse("the tensors' descriptions are NULL");
  }
  const auto tensor = [&](size_t i) -> const nvinfer1::PluginTensorDesc& {
    return i < kInputs ? inputs[i] : outputs[i - kInputs];
  };
  for (size_t i = 0; i < kTensors.size(); ++i) {
    check_type(i, tensor(i).type, inputs[0].type);
    if (tensor(i).format != nvinfer1::TensorFormat::kLINEAR) {
      refuse(title(i) + " has layout number " + std::to_string(static_cast<int32_t>(tensor(i).format)) +
             "; expected LINEAR");
    }
    if (tensor(i).dims.nbDims != kTensors[i].rank) {
      refuse(title(i) + " has rank " + std::to_string(tensor(i).dims.nbDims) + "; expected " +
             std::to_string(kTensors[i].rank));
    }
  }
  const int64_t* x = inputs[0].dims.d;
  const auto [B, H, W, D] = std::array{x[0], x[1], x[2], x[3]};
  const int64_t R = inputs[2].dims.d[2];
  const int64_t N = inputs[4].dims.d[2];
  const serpent_scan_shape shape{B, H, W, D, N, R, dtype_of(inputs[0].type)};
  check_cuda_shape(&shape);
  check_sizes(1, inputs[1].dims, {B, H, W, kDirections * (R + 2 * N)});
  check_sizes(2, inputs[2].dims, {kDirections, D, R});
  check_sizes(3, inputs[3].dims, {kDirections, D});
  check_sizes(4, inputs[4].dims, {kDirections, D, N});
  check_sizes(5, inputs[5].dims, {kDirections, D});
  check_sizes(6, outputs[0].dims, {B, H, W, D});
  return shape;
}

serpent_scan_shape largest_scan_shape(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                      const nvinfer1::DynamicPluginTensorDesc* outputs) {
  if (inputs == nullptr || outputs == nullptr) {
    refuse("the tensors' descriptions are NULL");
  }
  const auto largest = [](const nvinfer1::DynamicPluginTensorDesc& tensor) {
    nvinfer1::PluginTensorDesc description = tensor.desc;
    description.dims = tensor.max;
    return description;
  };
  std::array<nvinfer1::PluginTensorDesc, kInputs> in;
  std::transform(inputs, inputs + kInputs, in.begin(), largest);
  const nvinfer1::PluginTensorDesc out = largest(outputs[0]);
  return scan_shape(in.data(), &out);
}

}  // namespace serpent::tensorrt
