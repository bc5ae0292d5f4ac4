#include "entry.h"

#include "creator.h"
#include "report.h"

void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { serpent::tensorrt::set_logger_finder(finder); }

nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  count = 0;
  return serpent::tensorrt::guarded(
      "getCreators", static_cast<nvinfer1::IPluginCreatorInterface* const*>(nullptr), [&count] {
        // Never destroyed: a registry that outlives this library's static objects may still point to it.
        static nvinfer1::IPluginCreatorInterface* const creator = new serpent::tensorrt::ScanCreator;
        count = 1;
        return &creator;
      });
}
