// Creators, fields, clones.
#include <cstring>
#include <string_view>

#include "support.h"
#include "tensorrt/entry.h"

namespace plugin_test {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

bool creates(const PluginFieldCollection* fields, TensorRTPhase phase) {
  return Plugin(creator().createPlugin("scan", fields, phase)) != nullptr;
}

void test_creators() {
  int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* first = getCreators(count);
  CHECK(count == 1);
  CHECK(getCreators(count)[0] == first[0]);
  CHECK(std::string_view(first[0]->getInterfaceInfo().kind) == "PLUGIN CREATOR_V3ONE");
  CHECK(std::string_view(creator().getPluginName()) == "SelectiveScan2D");
  CHECK(std::string_view(creator().getPluginVersion()) == "1");
  CHECK(std::string_view(creator().getPluginNamespace()) == "serpent");
  CHECK(creator().getFieldNames()->nbFields == 0);
}

void test_capabilities() {
  const Plugin plugin = create();
  const auto kind = [&](nvinfer1::PluginCapabilityType type) {
    return std::string_view(plugin->getCapabilityInterface(type)->getInterfaceInfo().kind);
  };
  CHECK(std::string_view(plugin->getInterfaceInfo().kind) == "PLUGIN");
  CHECK(kind(nvinfer1::PluginCapabilityType::kCORE) == "PLUGIN_V3ONE_CORE");
  CHECK(kind(nvinfer1::PluginCapabilityType::kBUILD) == "PLUGIN_V3ONE_BUILD");
  CHECK(kind(nvinfer1::PluginCapabilityType::kRUNTIME) == "PLUGIN_V3ONE_RUNTIME");
  CHECK(plugin->getCapabilityInterface(static_cast<nvinfer1::PluginCapabilityType>(3)) == nullptr);
  const auto& core =
      *static_cast<nvinfer1::IPluginV3OneCore*>(plugin->getCapabilityInterface(nvinfer1::PluginCapabilityType::kCORE));
  CHECK(std::string_view(core.getPluginName()) == "SelectiveScan2D");
  CHECK(std::string_view(core.getPluginVersion()) == "1");
  CHECK(std::string_view(core.getPluginNamespace()) == "serpent");
  // Plans must not depend on tactics: there are none, and an announced default one is fine.
  CHECK(build_side(*plugin).getNbTactics() == 0);
  CHECK(build_side(*plugin).getValidTactics(nullptr, 0) == 0);
  CHECK(runtime_side(*plugin).setTactic(0) == 0);
}

void test_round_trip() {
  Plugin built = create();
  Plugin copy(built->clone());
  Plugin attached(runtime_side(*copy).attachToContext(nullptr));
  const PluginFieldCollection* fields = runtime_side(*copy).getFieldsToSerialize();
  // Read-only, and one for all of them.
  CHECK(runtime_side(*built).getFieldsToSerialize() == fields);
  CHECK(runtime_side(*attached).getFieldsToSerialize() == fields);
  built.reset();
  copy.reset();
  CHECK(fields->nbFields == 1);
  CHECK(std::strcmp(fields->fields[0].name, "schema") == 0);
  CHECK(fields->fields[0].type == PluginFieldType::kINT32 && fields->fields[0].length == 1);
  CHECK(*static_cast<const int32_t*>(fields->fields[0].data) == SERPENT_SCAN_SCHEMA);
  CHECK(creates(fields, TensorRTPhase::kRUNTIME));
  CHECK(creates(fields, TensorRTPhase::kBUILD));
  CHECK(take_messages().empty());
}

void test_refused_fields() {
  const int32_t schema[] = {SERPENT_SCAN_SCHEMA, 99};
  const auto refused = [&](std::initializer_list<PluginField> fields, TensorRTPhase phase = TensorRTPhase::kRUNTIME) {
    const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.begin()};
    CHECK(!creates(&collection, phase));
  };
  const PluginField good("schema", schema, PluginFieldType::kINT32, 1);
  refused({});
  CHECK_SAID("createPlugin: the plan lacks the field 'schema'");
  refused({}, static_cast<TensorRTPhase>(2));
  CHECK_SAID("createPlugin: the plan lacks the field 'schema'");
  refused({PluginField("schema", schema + 1, PluginFieldType::kINT32, 1)});
  CHECK_SAID(
      "createPlugin: the plan was built with workspace schema 99, this library has 1; build the plan again, or load "
      "the library of the version that built it");
  refused({PluginField("schema", schema, PluginFieldType::kINT64, 1)}, TensorRTPhase::kBUILD);
  CHECK_SAID("createPlugin: field 'schema' holds 1 of type INT64; expected one INT32");
  refused({PluginField("schema", schema, static_cast<PluginFieldType>(77), 1)});
  CHECK_SAID("createPlugin: field 'schema' holds 1 of type 77; expected one INT32");
  refused({PluginField("schema", schema, PluginFieldType::kINT32, 2)});
  CHECK_SAID("createPlugin: field 'schema' holds 2 of type INT32; expected one INT32");
  refused({PluginField("schema", nullptr, PluginFieldType::kINT32, 1)});
  CHECK_SAID("createPlugin: field 'schema' holds NULL, of type INT32; expected one INT32");
  refused({PluginField("d_state", schema, PluginFieldType::kINT32, 1)}, TensorRTPhase::kBUILD);
  CHECK_SAID("createPlugin: unknown field 'd_state'; expected 'schema' alone");
  refused({PluginField(nullptr, schema, PluginFieldType::kINT32, 1)});
  CHECK_SAID("createPlugin: unknown field 'NULL'; expected 'schema' alone");
  refused({good, good});
  CHECK_SAID("createPlugin: field 'schema' after 'schema'; expected 'schema' alone");
  refused({good, PluginField("other", schema, PluginFieldType::kINT32, 1)});
  CHECK_SAID("createPlugin: field 'other' after 'schema'; expected 'schema' alone");
  CHECK(!creates(nullptr, TensorRTPhase::kBUILD));
  CHECK_SAID("createPlugin: the field collection is NULL");
  const PluginFieldCollection nowhere{1, nullptr};
  CHECK(!creates(&nowhere, TensorRTPhase::kRUNTIME));
  CHECK_SAID("createPlugin: the field collection has 1 fields at NULL");
  const PluginFieldCollection negative{-1, &good};
  CHECK(!creates(&negative, TensorRTPhase::kRUNTIME));
  CHECK_SAID("createPlugin: the field collection has -1 fields at an address");
}

// A plan's bytes may lie anywhere.
void test_an_unaligned_field() {
  alignas(int32_t) char bytes[1 + sizeof(int32_t)];
  const int32_t schema = SERPENT_SCAN_SCHEMA;
  std::memcpy(bytes + 1, &schema, sizeof(schema));
  const PluginField field("schema", bytes + 1, PluginFieldType::kINT32, 1);
  const PluginFieldCollection fields{1, &field};
  CHECK(creates(&fields, TensorRTPhase::kRUNTIME));
}

}  // namespace

void test_creation() {
  test_creators();
  test_capabilities();
  test_round_trip();
  test_refused_fields();
  test_an_unaligned_field();
}

}  // namespace plugin_test
