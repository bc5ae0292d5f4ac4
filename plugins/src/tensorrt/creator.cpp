#include "creator.h"

#include <memory>

#include "fields.h"
#include "identity.h"
#include "plugin.h"
#include "report.h"

namespace serpent::tensorrt {

nvinfer1::IPluginV3* ScanCreator::createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                               nvinfer1::TensorRTPhase phase) noexcept {
  return guarded("createPlugin", static_cast<nvinfer1::IPluginV3*>(nullptr), [&]() -> nvinfer1::IPluginV3* {
    return new ScanPlugin(std::make_shared<const PlanFields>(parse_schema(fields, phase)));
  });
}

const nvinfer1::PluginFieldCollection* ScanCreator::getFieldNames() noexcept {
  static constexpr nvinfer1::PluginFieldCollection kNone{0, nullptr};
  return &kNone;
}

const char* ScanCreator::getPluginName() const noexcept { return kPluginName; }

const char* ScanCreator::getPluginVersion() const noexcept { return kPluginVersion; }

const char* ScanCreator::getPluginNamespace() const noexcept { return kPluginNamespace; }

}  // namespace serpent::tensorrt
