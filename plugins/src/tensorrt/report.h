// What TensorRT calls must not throw; what goes wrong inside reaches the user through TensorRT's own logger.
#pragma once

#include <NvInferRuntime.h>

#include <exception>
#include <new>

#include "failure.h"

namespace serpent::tensorrt {

// Where messages go from now on. TensorRT owns the finder; without one they go to stderr.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Hands "SelectiveScan2D, <method>: <message>" to the logger as an error. Allocates nothing: memory may be what failed.
void report(const char* method, const char* message) noexcept;

// What `body` returns, or, where it throws, `failed` after a report. Every method that can fail is one such call.
template <class Result, class Body>
Result guarded(const char* method, Result failed, const Body& body) noexcept {
  try {
    return body();
  } catch (const Failure& failure) {
    report(method, failure.message.c_str());
  } catch (const std::bad_alloc&) {
    report(method, "out of memory");
  } catch (const std::exception& error) {
    report(method, error.what());
  } catch (...) {
    report(method, "unexpected exception");
  }
  return failed;
}

}  // namespace serpent::tensorrt
