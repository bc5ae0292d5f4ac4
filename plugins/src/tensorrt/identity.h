// The plugin's identity in ONNX files and plans, as serpent/identity.py has it for Python.
#pragma once

namespace serpent::tensorrt {

constexpr const char* kPluginName = "SelectiveScan2D";
constexpr const char* kPluginVersion = "1";
constexpr const char* kPluginNamespace = "serpent";

}  // namespace serpent::tensorrt
