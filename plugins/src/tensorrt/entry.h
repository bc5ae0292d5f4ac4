// What a TensorRT plugin library exports: TensorRT's loadLibrary looks these two up by name.
#pragma once

#include <NvInferRuntime.h>

#define SERPENT_TRT_API extern "C" __attribute__((visibility("default")))

// Where the plugin's messages go; TensorRT calls it before anything else.
SERPENT_TRT_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

// The library's creators, `count` of them. They live as long as the process.
SERPENT_TRT_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
