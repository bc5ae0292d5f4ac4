// The exported C functions: check pointers, call, translate failures.
#include "engine.h"
#include "failure.h"
#include "serpent/engine.h"
#include "serpent/scan.h"

using serpent::engine::fail;
using serpent::engine::guarded;

// The numbers that both interfaces share mean the same.
static_assert(static_cast<int>(SERPENT_ENGINE_INVALID_ARGUMENT) == static_cast<int>(SERPENT_STATUS_INVALID_ARGUMENT));
static_assert(static_cast<int>(SERPENT_ENGINE_UNSUPPORTED) == static_cast<int>(SERPENT_STATUS_UNSUPPORTED));
static_assert(static_cast<int>(SERPENT_ENGINE_OUT_OF_MEMORY) == static_cast<int>(SERPENT_STATUS_OUT_OF_MEMORY));
static_assert(static_cast<int>(SERPENT_ENGINE_INTERNAL) == static_cast<int>(SERPENT_STATUS_INTERNAL));
static_assert(static_cast<int>(SERPENT_ENGINE_CUDA) == static_cast<int>(SERPENT_STATUS_CUDA));

struct serpent_engine {
  serpent::engine::Engine engine;
};

namespace {

template <class Pointer>
void require(Pointer pointer, const char* name) {
  if (pointer == nullptr) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT, std::string(name) + " is NULL");
  }
}

void check_options(const serpent_engine_options& options) {
  constexpr int32_t kMaxContexts = 1024;
  if (options.device < 0) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT, "options.device is " + std::to_string(options.device) + "; expected >= 0");
  }
  if (options.contexts < 1 || options.contexts > kMaxContexts) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT,
         "options.contexts is " + std::to_string(options.contexts) + "; expected 1 to " + std::to_string(kMaxContexts));
  }
  if (options.when_busy != SERPENT_ENGINE_WAIT && options.when_busy != SERPENT_ENGINE_FAIL) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT,
         "options.when_busy is " + std::to_string(options.when_busy) + "; expected 0 (wait) or 1 (fail)");
  }
}

}  // namespace

extern "C" {

int32_t serpent_engine_abi_version(void) { return SERPENT_ENGINE_ABI_VERSION; }

void serpent_engine_default_options(serpent_engine_options* options) {
  if (options != nullptr) {
    *options = {nullptr, nullptr, 0, 2, SERPENT_ENGINE_WAIT, 0};
  }
}

serpent_engine_status serpent_engine_open(const char* plan, const serpent_engine_options* options,
                                          serpent_engine** engine, serpent_engine_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    *engine = nullptr;
    require(plan, "plan");
    serpent_engine_options chosen = {};
    serpent_engine_default_options(&chosen);
    if (options != nullptr) {
      chosen = *options;
    }
    check_options(chosen);
    *engine = new serpent_engine{{plan, chosen}};
  });
}

void serpent_engine_close(serpent_engine* engine) { delete engine; }

serpent_engine_status serpent_engine_describe(const serpent_engine* engine, serpent_engine_info* info,
                                              serpent_engine_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(info, "info");
    *info = engine->engine.info();
  });
}

serpent_engine_status serpent_engine_run(serpent_engine* engine, const serpent_engine_pictures* image,
                                         const serpent_engine_pictures* restored, void* stream,
                                         serpent_engine_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(image, "image");
    require(restored, "restored");
    engine->engine.run(*image, *restored, stream);
  });
}

}  // extern "C"
