// Makes plugins from an ONNX node (build) or a plan (runtime). Needs no GPU.
#pragma once

#include <NvInferRuntime.h>

namespace serpent::tensorrt {

class ScanCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  // Empty: no attribute of the ONNX node is wanted, plugin_namespace and plugin_version are the parser's own.
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;
};

}  // namespace serpent::tensorrt
