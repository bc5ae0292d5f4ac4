#include "harness_plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace plugin_harness {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginCapabilityType;

constexpr int kZoneByte = 0x5a;
constexpr int32_t kInputs = 6;

void require(bool succeeded, const char* step) {
  if (!succeeded) {
    throw std::runtime_error(std::string(step) + " failed");
  }
}

std::vector<nvinfer1::PluginTensorDesc> describe(const serpent_scan_shape& s) {
  const DataType x = s.dtype == SERPENT_DTYPE_F32   ? DataType::kFLOAT
                     : s.dtype == SERPENT_DTYPE_F16 ? DataType::kHALF
                                                    : DataType::kBF16;
  std::vector<nvinfer1::PluginTensorDesc> found;
  const auto add = [&](DataType type, std::initializer_list<int64_t> sizes) {
    nvinfer1::PluginTensorDesc& tensor = found.emplace_back();
    tensor.type = type;
    tensor.format = nvinfer1::TensorFormat::kLINEAR;
    tensor.dims.nbDims = static_cast<int32_t>(sizes.size());
    std::ranges::copy(sizes, tensor.dims.d);
  };
  add(x, {s.batch, s.height, s.width, s.channels});
  add(x, {s.batch, s.height, s.width, 4 * (s.dt_rank + 2 * s.d_state)});
  add(DataType::kFLOAT, {4, s.channels, s.dt_rank});
  add(DataType::kFLOAT, {4, s.channels});
  add(DataType::kFLOAT, {4, s.channels, s.d_state});
  add(DataType::kFLOAT, {4, s.channels});
  add(x, {s.batch, s.height, s.width, s.channels});
  return found;
}

}  // namespace

GuardedMemory::GuardedMemory(size_t bytes) : bytes_(bytes), memory_(allocate(bytes + 2 * kZone)) {
  fill(memory_, kZoneByte, bytes + 2 * kZone);
}

GuardedMemory::~GuardedMemory() { release(memory_); }

std::vector<char> GuardedMemory::contents() const {
  std::vector<char> bytes(bytes_);
  copy_out(bytes.data(), data(), bytes_);
  return bytes;
}

bool GuardedMemory::zones_are_untouched() const {
  std::vector<char> zones(2 * kZone);
  copy_out(zones.data(), memory_, kZone);
  copy_out(zones.data() + kZone, static_cast<const char*>(data()) + bytes_, kZone);
  return std::ranges::all_of(zones, [](char byte) { return byte == kZoneByte; });
}

nvinfer1::IPluginCreatorV3One& find_creator(const char* path) {
  void* library = dlopen(*path != '\0' ? path : nullptr, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw std::runtime_error(dlerror());
  }
  using GetCreators = nvinfer1::IPluginCreatorInterface* const*(int32_t&);
  auto* get_creators = reinterpret_cast<GetCreators*>(dlsym(library, "getCreators"));
  require(get_creators != nullptr, "looking up getCreators");
  int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* creators = get_creators(count);
  require(creators != nullptr && count == 1, "getCreators");
  return static_cast<nvinfer1::IPluginCreatorV3One&>(*creators[0]);
}

PluginRun::PluginRun(nvinfer1::IPluginCreatorV3One& creator, const serpent_scan_shape& shape)
    : tensors_(describe(shape)) {
  const nvinfer1::PluginFieldCollection none{};
  const std::unique_ptr<nvinfer1::IPluginV3> built(
      creator.createPlugin("scan", &none, nvinfer1::TensorRTPhase::kBUILD));
  require(built != nullptr, "createPlugin at build time");
  build(*built);
  const auto runtime_of = [](nvinfer1::IPluginV3& plugin) {
    return static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  };
  const std::unique_ptr<nvinfer1::IPluginV3> loaded(
      creator.createPlugin("scan", runtime_of(*built)->getFieldsToSerialize(), nvinfer1::TensorRTPhase::kRUNTIME));
  require(loaded != nullptr, "createPlugin at run time");
  plugin_.reset(runtime_of(*loaded)->attachToContext(nullptr));
  require(plugin_ != nullptr, "attachToContext");
  runtime_ = runtime_of(*plugin_);
  require(runtime_->onShapeChange(tensors_.data(), kInputs, tensors_.data() + kInputs, 1) == 0, "onShapeChange");
}

void PluginRun::build(nvinfer1::IPluginV3& plugin) {
  auto& side = *static_cast<nvinfer1::IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
  std::vector<DataType> types;
  std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic;
  for (const nvinfer1::PluginTensorDesc& tensor : tensors_) {
    types.push_back(tensor.type);
    dynamic.push_back({tensor, tensor.dims, tensor.dims, tensor.dims});
  }
  DataType out{};
  require(side.getOutputDataTypes(&out, 1, types.data(), kInputs) == 0 && out == types.back(), "getOutputDataTypes");
  for (int32_t i = 0; i <= kInputs; ++i) {
    require(side.supportsFormatCombination(i, dynamic.data(), kInputs, 1), "supportsFormatCombination");
  }
  require(side.configurePlugin(dynamic.data(), kInputs, dynamic.data() + kInputs, 1) == 0, "configurePlugin");
  workspace_bytes_ = side.getWorkspaceSize(dynamic.data(), kInputs, dynamic.data() + kInputs, 1);
}

void PluginRun::enqueue(const std::vector<const void*>& inputs, void* y, void* workspace) {
  require(runtime_->enqueue(tensors_.data(), tensors_.data() + kInputs, inputs.data(), &y, workspace,
                            reinterpret_cast<cudaStream_t>(stream())) == 0,
          "enqueue");
}

}  // namespace plugin_harness
