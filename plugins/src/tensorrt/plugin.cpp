#include "plugin.h"

#include <string>
#include <tuple>
#include <utility>

#include "cuda/scan_cuda.h"
#include "identity.h"
#include "report.h"
#include "scan_tensors.h"
#include "shape.h"
#include "workspace.h"

namespace serpent::tensorrt {
namespace {

constexpr int32_t kSucceeded = 0;
constexpr int32_t kFailed = 1;

// getWorkspaceSize cannot fail. What no GPU has makes the build fail, where 0 would make the plan fail later.
constexpr size_t kNoSuchWorkspace = size_t{1} << 62;

[[noreturn]] void refuse(const std::string& message) { fail(SERPENT_STATUS_INVALID_ARGUMENT, message); }

void check_not_null(const void* pointer, const char* name) {
  if (pointer == nullptr) {
    refuse(std::string(name) + " is NULL");
  }
}

bool same(const serpent_scan_shape& a, const serpent_scan_shape& b) {
  const auto sizes = [](const serpent_scan_shape& s) {
    return std::tuple(s.batch, s.height, s.width, s.channels, s.d_state, s.dt_rank, s.dtype);
  };
  return sizes(a) == sizes(b);
}

}  // namespace

ScanPlugin::ScanPlugin(std::shared_ptr<const PlanFields> fields) noexcept : fields_(std::move(fields)) {}

nvinfer1::IPluginCapability* ScanPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;  // a capability that TensorRT has learnt since
}

nvinfer1::IPluginV3* ScanPlugin::clone() noexcept {
  return guarded("clone", static_cast<ScanPlugin*>(nullptr), [this] { return new ScanPlugin(*this); });
}

// The context may be on another device than the one that a choice was made for.
nvinfer1::IPluginV3* ScanPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return guarded("attachToContext", static_cast<ScanPlugin*>(nullptr), [this] { return new ScanPlugin(fields_); });
}

const char* ScanPlugin::getPluginName() const noexcept { return kPluginName; }

const char* ScanPlugin::getPluginVersion() const noexcept { return kPluginVersion; }

const char* ScanPlugin::getPluginNamespace() const noexcept { return kPluginNamespace; }

int32_t ScanPlugin::getNbOutputs() const noexcept { return kOutputs; }

int32_t ScanPlugin::getOutputDataTypes(nvinfer1::DataType* types, int32_t outputs,
                                       const nvinfer1::DataType* input_types, int32_t inputs) const noexcept {
  return guarded("getOutputDataTypes", kFailed, [&] {
    check_counts(inputs, outputs);
    check_not_null(types, "outputTypes");
    check_not_null(input_types, "inputTypes");
    check_input_types(input_types);
    types[0] = input_types[0];
    return kSucceeded;
  });
}

int32_t ScanPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*,
                                    int32_t shape_input_count, nvinfer1::DimsExprs* outputs, int32_t output_count,
                                    nvinfer1::IExprBuilder&) noexcept {
  return guarded("getOutputShapes", kFailed, [&] {
    check_counts(input_count, output_count);
    check_not_null(inputs, "inputs");
    check_not_null(outputs, "outputs");
    if (shape_input_count != 0) {
      refuse(std::to_string(shape_input_count) + " shape inputs; expected none");
    }
    for (size_t i = 0; i < kInputs; ++i) {
      if (inputs[i].nbDims != kTensors[i].rank) {
        refuse(std::string("input ") + kTensors[i].name + " has rank " + std::to_string(inputs[i].nbDims) +
               "; expected " + std::to_string(kTensors[i].rank));
      }
    }
    outputs[0] = inputs[0];
    return kSucceeded;
  });
}

bool ScanPlugin::supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                           int32_t inputs, int32_t outputs) noexcept {
  return guarded("supportsFormatCombination", false, [&] {
    check_counts(inputs, outputs);
    check_not_null(tensors, "inOut");
    if (position < 0 || position >= kInputs + kOutputs) {
      refuse("position " + std::to_string(position) + " is none of the " + std::to_string(kTensors.size()) +
             " tensors");
    }
    const nvinfer1::PluginTensorDesc& asked = tensors[position].desc;
    if (asked.format != nvinfer1::TensorFormat::kLINEAR) {
      return false;
    }
    if (position == 0) {
      return is_type_of_x(asked.type);
    }
    const bool shared = kTensors[static_cast<size_t>(position)].has_type_of_x;
    return asked.type == (shared ? tensors[0].desc.type : nvinfer1::DataType::kFLOAT);
  });
}

// Nothing is chosen at build time. But here, unlike in getWorkspaceSize, a wrong shape ends the build with its reason.
int32_t ScanPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                    const nvinfer1::DynamicPluginTensorDesc* outputs, int32_t output_count) noexcept {
  return guarded("configurePlugin", kFailed, [&] {
    check_counts(input_count, output_count);
    largest_scan_shape(inputs, outputs);
    return kSucceeded;
  });
}

size_t ScanPlugin::getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                    const nvinfer1::DynamicPluginTensorDesc* outputs,
                                    int32_t output_count) const noexcept {
  return guarded("getWorkspaceSize", kNoSuchWorkspace, [&] {
    check_counts(input_count, output_count);
    return static_cast<size_t>(workspace_bytes(largest_scan_shape(inputs, outputs)));
  });
}

int32_t ScanPlugin::onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                                  const nvinfer1::PluginTensorDesc* outputs, int32_t output_count) noexcept {
  return guarded("onShapeChange", kFailed, [&] {
    check_counts(input_count, output_count);
    choose(scan_shape(inputs, outputs));
    return kSucceeded;
  });
}

int32_t ScanPlugin::enqueue(const nvinfer1::PluginTensorDesc* input_descs,
                            const nvinfer1::PluginTensorDesc* output_descs, const void* const* inputs,
                            void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
  return guarded("enqueue", kFailed, [&] {
    const serpent_scan_shape shape = scan_shape(input_descs, output_descs);
    if (shape.batch == 0) {
      return kSucceeded;
    }
    check_not_null(inputs, "inputs");
    check_not_null(outputs, "outputs");
    check_not_null(workspace, "workspace");
    const serpent_scan_tensors tensors{inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], outputs[0]};
    check_tensors(shape, &tensors);
    check_cuda_alignment(shape, tensors, workspace);  // TensorRT does not say how it aligns what it hands out
    if (!choice_.has_value() || !same(choice_->shape, shape)) {
      choose(shape);
    }
    scan_cuda(shape, tensors, choice_->plan, workspace, stream);
    return kSucceeded;
  });
}

void ScanPlugin::choose(const serpent_scan_shape& shape) {
  choice_.reset();
  if (shape.batch > 0) {
    choice_ = Choice{shape, choose_scan(shape)};
  }
}

const nvinfer1::PluginFieldCollection* ScanPlugin::getFieldsToSerialize() noexcept { return &fields_->collection(); }

}  // namespace serpent::tensorrt
