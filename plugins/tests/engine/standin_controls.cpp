#include "standin_controls.h"

#include <chrono>
#include <utility>

#include "../../src/engine/failure.h"
#include "standin.h"
#include "standin_gpu.h"

namespace standin {
namespace {

constexpr std::chrono::seconds kLimit(10);  // a test that waits in vain is to fail, not to hang

}  // namespace

void Controls::fail_if_asked(const std::string& name) {
  const std::lock_guard lock(mutex);
  if (failing != name || skip-- > 0) {
    return;
  }
  failing.clear();
  const bool memory = name == "allocate" || name == "create_context";
  serpent::engine::fail(memory ? SERPENT_ENGINE_OUT_OF_MEMORY : SERPENT_ENGINE_TENSORRT,
                        "the stand-in fails in " + name);
}

void Controls::hold_if_asked(const std::string& name) {
  std::unique_lock lock(mutex);
  if (held_name != name) {
    return;
  }
  ++held;
  held_changed.notify_all();
  held_changed.wait_for(lock, kLimit, [&] { return held_name != name; });
  --held;
}

Controls& controls() {
  static Controls* const the_controls = new Controls;  // streams may still look at it while the process ends
  return *the_controls;
}

void fail_call(const std::string& name, int skip) {
  const std::lock_guard lock(controls().mutex);
  controls().failing = name;
  controls().skip = skip;
}

void hold_calls(const std::string& name) {
  const std::lock_guard lock(controls().mutex);
  controls().held_name = name;
}

bool wait_until_held(int count) {
  std::unique_lock lock(controls().mutex);
  return controls().held_changed.wait_for(lock, kLimit, [count] { return controls().held >= count; });
}

void release_calls() {
  hold_calls("");
  controls().held_changed.notify_all();
}

void set_version(const std::string& version) {
  const std::lock_guard lock(controls().mutex);
  controls().version = version;
}

void set_delay_ms(int milliseconds) { controls().delay_ms = milliseconds; }

std::vector<std::string> take_log() {
  const std::lock_guard lock(controls().mutex);
  return std::exchange(controls().log, {});
}

int collisions() { return controls().collisions; }

int most_at_once() { return controls().most; }

void* allocate(std::size_t bytes) { return gpu::allocate(bytes); }

void release(void* address) { gpu::release(address); }

std::size_t allocations() { return gpu::allocations(); }

void upload(void* target, const void* source, std::size_t bytes) {
  gpu::copy({target, source, bytes, bytes, bytes, 1, SERPENT_ADAPTER_TO_DEVICE}, gpu::stream(0));
  finish(gpu::stream(0));
}

void download(void* target, const void* source, std::size_t bytes) {
  gpu::copy({target, source, bytes, bytes, bytes, 1, SERPENT_ADAPTER_TO_HOST}, gpu::stream(0));
  finish(gpu::stream(0));
}

void* stream(int number) { return gpu::stream(number); }

void finish(void* stream) { gpu::finish_stream(stream); }

}  // namespace standin
