// Failures inside the library: thrown as one type, turned into a status at the C boundary.
#pragma once

#include <cstdio>
#include <new>
#include <string>

#include "serpent/scan.h"

namespace serpent {

struct Failure {
  serpent_status status;
  std::string message;
};

[[noreturn]] inline void fail(serpent_status status, const std::string& message) { throw Failure{status, message}; }

inline void write_message(serpent_error* error, const char* message) noexcept {
  if (error != nullptr) {
    std::snprintf(error->message, sizeof(error->message), "%s", message);
  }
}

// Every exported function's body runs inside this: nothing escapes the C boundary.
template <class Body>
serpent_status guarded(serpent_error* error, const Body& body) noexcept {
  try {
    body();
    return SERPENT_STATUS_OK;
  } catch (const Failure& failure) {
    write_message(error, failure.message.c_str());
    return failure.status;
  } catch (const std::bad_alloc&) {
    write_message(error, "out of memory");
    return SERPENT_STATUS_OUT_OF_MEMORY;
  } catch (...) {
    write_message(error, "unexpected exception inside the native library");
    return SERPENT_STATUS_INTERNAL;
  }
}

}  // namespace serpent
