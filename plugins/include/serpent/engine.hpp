// serpent/engine.h for C++20: RAII and exceptions, header only.
//
//   serpent::Engine engine("serpent-h-512-fp32.plan");
//   engine.run(photo.data(), restored.data(), {.height = 480, .width = 640});  // (3, 480, 640) floats on the host
//
// A plan exported with --io u8-nhwc takes std::uint8_t instead, (480, 640, 3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include "serpent/engine.h"

namespace serpent {

// What every failure throws; `what()` is one sentence for the user.
class Error : public std::runtime_error {
 public:
  Error(serpent_engine_status status, const char* message) : std::runtime_error(message), status_(status) {}

  serpent_engine_status status() const noexcept { return status_; }

 private:
  serpent_engine_status status_;
};

enum class Memory : int32_t { host = SERPENT_ENGINE_HOST, device = SERPENT_ENGINE_DEVICE };
enum class WhenBusy : int32_t { wait = SERPENT_ENGINE_WAIT, fail = SERPENT_ENGINE_FAIL };

// How to open a plan; empty paths mean "as found", see serpent_engine_options.
struct EngineOptions {
  std::filesystem::path tensorrt_library = {};
  std::filesystem::path plugin_library = {};
  int32_t device = 0;
  int32_t contexts = 2;
  WhenBusy when_busy = WhenBusy::wait;
  bool allow_native_code = false;
};

// Sizes of a run: `batch` pictures of `height` x `width` pixels, of three values each.
struct PictureSize {
  int64_t batch = 1;
  int64_t height = 0;
  int64_t width = 0;

  std::size_t elements() const noexcept { return static_cast<std::size_t>(batch * 3 * height * width); }
};

// An open plan. Threads may share it; moving or destroying it while a run is under way is the caller's mistake.
class Engine {
 public:
  explicit Engine(const std::filesystem::path& plan, const EngineOptions& options = {}) {
    serpent_engine_options c = {};
    serpent_engine_default_options(&c);
    c.tensorrt_library = options.tensorrt_library.empty() ? nullptr : options.tensorrt_library.c_str();
    c.plugin_library = options.plugin_library.empty() ? nullptr : options.plugin_library.c_str();
    c.device = options.device;
    c.contexts = options.contexts;
    c.when_busy = static_cast<int32_t>(options.when_busy);
    c.allow_native_code = options.allow_native_code ? 1 : 0;
    serpent_engine* handle = nullptr;
    serpent_engine_error error = {};
    check(serpent_engine_open(plan.c_str(), &c, &handle, &error), error);
    handle_.reset(handle);
  }

  // Its strings live as long as the engine.
  serpent_engine_info info() const {
    serpent_engine_info found = {};
    serpent_engine_error error = {};
    check(serpent_engine_describe(handle_.get(), &found, &error), error);
    return found;
  }

  // Restores `image` into `restored`, both of `size` and in `memory`; see serpent_engine_run for when it returns. The
  // type of the pixels says what the plan must take (info().io): float is f32-nchw, std::uint8_t is u8-nhwc, and
  // std::uint16_t, the bits of half precision, is f16-nchw.
  void run(const float* image, float* restored, const PictureSize& size, Memory memory = Memory::host,
           void* stream = nullptr) {
    run(SERPENT_ENGINE_F32_NCHW, image, restored, size, memory, stream);
  }
  void run(const std::uint8_t* image, std::uint8_t* restored, const PictureSize& size, Memory memory = Memory::host,
           void* stream = nullptr) {
    run(SERPENT_ENGINE_U8_NHWC, image, restored, size, memory, stream);
  }
  void run(const std::uint16_t* image, std::uint16_t* restored, const PictureSize& size, Memory memory = Memory::host,
           void* stream = nullptr) {
    run(SERPENT_ENGINE_F16_NCHW, image, restored, size, memory, stream);
  }

  serpent_engine* handle() const noexcept { return handle_.get(); }

 private:
  static void check(serpent_engine_status status, const serpent_engine_error& error) {
    if (status != SERPENT_ENGINE_OK) {
      throw Error(status, error.message);
    }
  }

  void run(serpent_engine_io io, const void* image, void* restored, const PictureSize& size, Memory memory,
           void* stream) {
    const auto pictures = [&](void* data) {
      return serpent_engine_pictures{data, size.batch, size.height, size.width, io, static_cast<int32_t>(memory)};
    };
    // The C struct serves both directions; nothing writes through the image's pointer.
    const auto source = pictures(const_cast<void*>(image));
    const auto target = pictures(restored);
    serpent_engine_error error = {};
    check(serpent_engine_run(handle_.get(), &source, &target, stream, &error), error);
  }

  struct Close {
    void operator()(serpent_engine* engine) const noexcept { serpent_engine_close(engine); }
  };
  std::unique_ptr<serpent_engine, Close> handle_;
};

}  // namespace serpent
