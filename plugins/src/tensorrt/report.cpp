#include "report.h"

#include <atomic>
#include <cstdio>

#include "identity.h"

namespace serpent::tensorrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder = nullptr;

nvinfer1::ILogger* find_logger() noexcept {
  try {
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    return finder != nullptr ? finder->findLogger() : nullptr;
  } catch (...) {
    return nullptr;  // then stderr has to do
  }
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder = finder; }

void report(const char* method, const char* message) noexcept {
  char line[512];
  std::snprintf(line, sizeof(line), "%s, %s: %s", kPluginName, method, message);
  if (nvinfer1::ILogger* logger = find_logger(); logger != nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, line);
  } else {
    std::fprintf(stderr, "%s\n", line);
  }
}

}  // namespace serpent::tensorrt
