#include "fields.h"

#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "failure.h"
#include "serpent/scan.h"

namespace serpent::tensorrt {
namespace {

constexpr const char* kSchemaField = "schema";

std::string type_name(nvinfer1::PluginFieldType type) {
  constexpr const char* kNames[] = {"FLOAT16", "FLOAT32", "FLOAT64", "INT8", "INT16", "INT32",
                                    "CHAR",    "DIMS",    "UNKNOWN", "BF16", "INT64"};
  const auto number = static_cast<size_t>(type);
  return number < std::size(kNames) ? kNames[number] : std::to_string(static_cast<int32_t>(type));
}

[[noreturn]] void refuse(const std::string& message) { fail(SERPENT_STATUS_INVALID_ARGUMENT, message); }

std::span<const nvinfer1::PluginField> checked(const nvinfer1::PluginFieldCollection* fields) {
  if (fields == nullptr) {
    refuse("the field collection is NULL");
  }
  if (fields->nbFields < 0 || (fields->nbFields > 0 && fields->fields == nullptr)) {
    refuse("the field collection has " + std::to_string(fields->nbFields) + " fields at " +
           (fields->fields == nullptr ? "NULL" : "an address"));
  }
  return {fields->fields, static_cast<size_t>(fields->nbFields)};
}

int32_t read_schema(const nvinfer1::PluginField& field) {
  if (field.name == nullptr || std::strcmp(field.name, kSchemaField) != 0) {
    refuse("unknown field '" + std::string(field.name != nullptr ? field.name : "NULL") + "'; expected '" +
           kSchemaField + "' alone");
  }
  if (field.type != nvinfer1::PluginFieldType::kINT32 || field.length != 1 || field.data == nullptr) {
    refuse(std::string("field '") + kSchemaField + "' holds " +
           (field.data == nullptr ? "NULL, " : std::to_string(field.length) + " ") + "of type " +
           type_name(field.type) + "; expected one INT32");
  }
  int32_t schema;
  std::memcpy(&schema, field.data, sizeof(schema));  // a plan promises no alignment
  return schema;
}

}  // namespace

PlanFields::PlanFields(int32_t schema) noexcept
    : schema_(schema), field_(kSchemaField, &schema_, nvinfer1::PluginFieldType::kINT32, 1), collection_{1, &field_} {}

int32_t parse_schema(const nvinfer1::PluginFieldCollection* fields, nvinfer1::TensorRTPhase phase) {
  std::optional<int32_t> schema;
  for (const nvinfer1::PluginField& field : checked(fields)) {
    if (schema.has_value()) {
      refuse("field '" + std::string(field.name != nullptr ? field.name : "NULL") + "' after '" + kSchemaField +
             "'; expected '" + kSchemaField + "' alone");
    }
    schema = read_schema(field);
  }
  if (!schema.has_value() && phase != nvinfer1::TensorRTPhase::kBUILD) {
    refuse(std::string("the plan lacks the field '") + kSchemaField + "'");
  }
  if (schema.value_or(SERPENT_SCAN_SCHEMA) != SERPENT_SCAN_SCHEMA) {
    refuse("the plan was built with workspace schema " + std::to_string(*schema) + ", this library has " +
           std::to_string(SERPENT_SCAN_SCHEMA) +
           "; build the plan again, or load the library of the version that built it");
  }
  return SERPENT_SCAN_SCHEMA;
}

}  // namespace serpent::tensorrt
