// Failures inside the engine library and its adapters: thrown as one type, a status at every C boundary.
#pragma once

#include <cstdio>
#include <new>
#include <string>

#include "serpent/engine.h"

namespace serpent::engine {

struct Failure {
  serpent_engine_status status;
  std::string message;
};

[[noreturn]] inline void fail(serpent_engine_status status, const std::string& message) {
  throw Failure{status, message};
}

inline void write_message(serpent_engine_error* error, const char* message) noexcept {
  if (error != nullptr) {
    std::snprintf(error->message, sizeof(error->message), "%s", message);
  }
}

// The body of every function of a C interface runs inside this.
template <class Body>
serpent_engine_status guarded(serpent_engine_error* error, const Body& body) noexcept {
  try {
    body();
    return SERPENT_ENGINE_OK;
  } catch (const Failure& failure) {
    write_message(error, failure.message.c_str());
    return failure.status;
  } catch (const std::bad_alloc&) {
    write_message(error, "out of host memory");
    return SERPENT_ENGINE_OUT_OF_MEMORY;
  } catch (const std::exception& exception) {
    write_message(error, exception.what());
    return SERPENT_ENGINE_INTERNAL;
  } catch (...) {
    write_message(error, "unexpected exception inside the engine library");
    return SERPENT_ENGINE_INTERNAL;
  }
}

// The other way round, for calls through such an interface: a status becomes a Failure.
template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
  serpent_engine_error error = {};
  const serpent_engine_status status = function(arguments..., &error);
  if (status != SERPENT_ENGINE_OK) {
    error.message[sizeof(error.message) - 1] = '\0';
    fail(status, error.message[0] != '\0' ? error.message : "failed with status " + std::to_string(status));
  }
}

}  // namespace serpent::engine
