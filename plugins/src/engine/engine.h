// An open plan: what lies behind the handle of the C interface.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "adapter.h"
#include "library.h"
#include "manifest.h"
#include "pool.h"
#include "transfer.h"

namespace serpent::engine {

class Engine {
 public:
  // Fails as serpent_engine_open says.
  Engine(const std::filesystem::path& plan, const serpent_engine_options& options);

  serpent_engine_info info() const;

  // Fails as serpent_engine_run says.
  void run(const serpent_engine_pictures& image, const serpent_engine_pictures& restored, void* stream);

 private:
  void load_plugin(const serpent_engine_options& options);
  void check_device() const;
  void check_tensors() const;
  void check_pictures(const serpent_engine_pictures& image, const serpent_engine_pictures& restored) const;
  void check_memory(const char* name, const serpent_engine_pictures& pictures) const;
  void set_shape(Slot& slot, const Shape& shape) const;
  void enqueue(Slot& slot, const serpent_engine_pictures& image, const serpent_engine_pictures& restored, void* stream);

  // Destroyed from the last to the first: contexts, engine, runtime.
  std::filesystem::path plan_;
  Manifest manifest_;
  Backend backend_;
  int32_t device_;
  std::unique_ptr<serpent_adapter_runtime, void (*)(serpent_adapter_runtime*)> runtime_;
  std::unique_ptr<serpent_adapter_engine, void (*)(serpent_adapter_engine*)> engine_;
  std::optional<Pool> pool_;
};

}  // namespace serpent::engine
