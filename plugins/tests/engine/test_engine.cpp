// Pictures through an engine over the stand-in: values, memory, streams, threads, the pool, order of release.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>

#include "on_device.h"
#include "standin.h"
#include "support.h"

using serpent::Engine;
using serpent::Memory;
using serpent::PictureSize;
using serpent::WhenBusy;
using test::expect_error;
using test::expected;
using test::Folder;
using test::make_pictures;
using test::OnDevice;

namespace {

void check_equal(const float* found, const std::vector<float>& wanted) {
  CHECK(std::memcmp(found, wanted.data(), wanted.size() * sizeof(float)) == 0);
}

void test_description(const Folder& folder) {
  const Engine engine(test::write_plan(folder));
  const serpent_engine_info info = engine.info();
  CHECK(info.batch.min == 1 && info.batch.opt == 1 && info.batch.max == 2);
  CHECK(info.height.min == 16 && info.height.opt == 32 && info.height.max == 64);
  CHECK(info.width.min == 16 && info.width.opt == 32 && info.width.max == 48);
  CHECK(info.multiple == 8);
  CHECK(std::string(info.variant) == "H" && std::string(info.task) == "deblur");
  CHECK(std::string(info.precision) == "fp16" && std::string(info.weights) == "untrained");
  CHECK(std::string(info.flavour) == "rtx" && std::string(info.version) == "1.7.1.116");
  CHECK(serpent_engine_abi_version() == SERPENT_ENGINE_ABI_VERSION);
}

void test_sizes(const Folder& folder) {
  Engine engine(test::write_plan(folder));
  // Unpadded; one pixel more and less than a multiple; below the least; 1 pixel; the largest; two pictures.
  const PictureSize sizes[] = {{1, 16, 16}, {1, 17, 16}, {1, 16, 23}, {1, 25, 31}, {1, 9, 5},   {1, 1, 1},
                               {1, 1, 48},  {1, 64, 1},  {1, 64, 48}, {2, 33, 47}, {2, 64, 48}, {2, 2, 3}};
  for (const PictureSize& size : sizes) {
    const std::vector<float> image = make_pictures(size);
    std::vector<float> restored(size.elements());
    engine.run(image.data(), restored.data(), size);
    check_equal(restored.data(), expected(image, size));
  }
}

void test_device_memory(const Folder& folder) {
  Engine engine(test::write_plan(folder));
  for (const PictureSize& size : {PictureSize{1, 32, 48}, PictureSize{2, 21, 19}}) {
    for (const std::size_t offset : {0, 1}) {
      const std::vector<float> image = make_pictures(size);
      const OnDevice source(image, offset);
      const OnDevice target(std::vector<float>(size.elements()), offset);
      const std::size_t before = standin::allocations();
      engine.run(source.data, target.data, size, Memory::device, standin::stream(1));
      standin::finish(standin::stream(1));
      check_equal(target.read().data(), expected(image, size));
      if (size.height == 32 && offset == 0) {
        CHECK(standin::allocations() == before);  // used where they are
      }
    }
  }
}

// Bytes, of pixels of three, where they lie: unpadded and aligned they are used in place.
void test_bytes_in_device_memory(const Folder& folder) {
  const std::string plan = "serpent-standin 1\ninput image UINT8 1 16 16 3 2 64 48 3\noutput restored UINT8\n";
  Engine engine(test::write_plan(folder, plan, "u8-nhwc"));
  CHECK(engine.info().io == SERPENT_ENGINE_U8_NHWC);
  for (const PictureSize& size : {PictureSize{1, 32, 48}, PictureSize{2, 21, 19}}) {
    std::vector<std::uint8_t> image(size.elements());
    std::iota(image.begin(), image.end(), std::uint8_t{1});
    std::vector<std::uint8_t> wanted(image.size());
    engine.run(image.data(), wanted.data(), size);
    auto* source = static_cast<std::uint8_t*>(standin::allocate(image.size()));
    auto* target = static_cast<std::uint8_t*>(standin::allocate(image.size()));
    standin::upload(source, image.data(), image.size());
    engine.run(source, target, size, Memory::device, standin::stream(1));
    standin::finish(standin::stream(1));
    standin::download(image.data(), target, image.size());
    CHECK(image == wanted);
    standin::release(source);
    standin::release(target);
  }
}

// Runs on several streams share the one context: each must wait for the one before, on the device.
void test_streams_take_turns(const Folder& folder) {
  Engine engine(test::write_plan(folder), {.contexts = 1});
  standin::set_delay_ms(10);
  const PictureSize size = {1, 20, 20};
  std::vector<std::vector<float>> images;
  std::vector<std::unique_ptr<OnDevice>> sources;
  std::vector<std::unique_ptr<OnDevice>> targets;
  for (unsigned i = 0; i < 4; ++i) {
    images.push_back(make_pictures(size, i + 1));
    sources.push_back(std::make_unique<OnDevice>(images[i]));
    targets.push_back(std::make_unique<OnDevice>(std::vector<float>(size.elements())));
    engine.run(sources[i]->data, targets[i]->data, size, Memory::device, standin::stream(1 + static_cast<int>(i)));
  }
  for (unsigned i = 0; i < 4; ++i) {
    standin::finish(standin::stream(1 + static_cast<int>(i)));
    check_equal(targets[i]->read().data(), expected(images[i], size));
  }
  standin::set_delay_ms(0);
  CHECK(standin::collisions() == 0);
}

// A run that takes a while, on a thread of its own; returns once the engine's only context is lent to it.
std::thread busy_run(Engine& engine, std::vector<float>& image, const PictureSize& size, void* stream) {
  standin::set_delay_ms(200);
  standin::take_log();
  std::atomic<bool> started = false;
  std::thread thread([&engine, &image, size, stream, &started] {
    std::vector<float> restored(size.elements());
    started = true;
    engine.run(image.data(), restored.data(), size, Memory::host, stream);
    check_equal(restored.data(), expected(image, size));
  });
  while (!started) {
    std::this_thread::yield();
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  return thread;
}

// A run of another size must not touch what the one before it still uses.
void test_a_new_size_waits_for_the_run_before(const Folder& folder) {
  Engine engine(test::write_plan(folder), {.contexts = 1});
  standin::set_delay_ms(20);
  standin::take_log();
  std::vector<std::unique_ptr<OnDevice>> memory;
  for (int turn = 0; turn < 3; ++turn) {
    const PictureSize size = {1, 16 + 8 * turn, 16};
    const std::vector<float> image = make_pictures(size);
    memory.push_back(std::make_unique<OnDevice>(image));
    memory.push_back(std::make_unique<OnDevice>(image));
    engine.run(memory.end()[-2]->data, memory.back()->data, size, Memory::device, standin::stream(1 + turn));
  }
  for (int turn = 0; turn < 3; ++turn) {
    standin::finish(standin::stream(1 + turn));
  }
  standin::set_delay_ms(0);
  for (const std::string& line : standin::take_log()) {
    CHECK(line != "set_shape while it runs");
  }
}

// While contexts are made, which takes time, others go on, and several may be made at once.
void test_contexts_are_made_beside_each_other(const Folder& folder) {
  Engine engine(test::write_plan(folder), {.contexts = 3});
  const PictureSize size = {1, 16, 16};
  std::vector<float> image = make_pictures(size);
  std::thread first = busy_run(engine, image, size, standin::stream(1));
  standin::hold_calls("create_context");
  std::atomic<int> done = 0;
  std::vector<std::thread> others;
  for (int number = 0; number < 2; ++number) {
    others.emplace_back([&engine, &image, size, &done] {
      std::vector<float> restored(size.elements());
      engine.run(image.data(), restored.data(), size);
      ++done;
    });
  }
  CHECK(standin::wait_until_held(2));
  first.join();  // gives its context back
  standin::set_delay_ms(0);
  std::vector<float> restored(size.elements());
  engine.run(image.data(), restored.data(), size, Memory::host, standin::stream(1));
  CHECK(done == 0);
  standin::release_calls();
  for (std::thread& other : others) {
    other.join();
  }
  check_equal(restored.data(), expected(image, size));
}

// Nobody says what state a failed run leaves a context in.
void test_a_context_is_not_used_after_a_failure(const Folder& folder) {
  Engine engine(test::write_plan(folder), {.contexts = 1});
  const PictureSize size = {1, 16, 16};
  const std::vector<float> image = make_pictures(size);
  std::vector<float> restored(size.elements());
  standin::take_log();
  standin::fail_call("enqueue");
  expect_error(SERPENT_ENGINE_TENSORRT, {"fails in enqueue"}, [&] { engine.run(image.data(), restored.data(), size); });
  const std::vector<std::string> thrown_away = {"destroy_event", "destroy_context"};
  CHECK(standin::take_log() == thrown_away);
  standin::fail_call("create_context");
  expect_error(SERPENT_ENGINE_OUT_OF_MEMORY, {"fails in create_context"},
               [&] { engine.run(image.data(), restored.data(), size); });
  engine.run(image.data(), restored.data(), size);
  check_equal(restored.data(), expected(image, size));
}

void test_threads(const Folder& folder) {
  Engine engine(test::write_plan(folder), {.contexts = 3});
  constexpr int kThreads = 8;
  std::vector<std::thread> threads;
  for (int number = 0; number < kThreads; ++number) {
    threads.emplace_back([&engine, stream = standin::stream(1 + number), number] {
      for (int turn = 0; turn < 12; ++turn) {
        const PictureSize size = {1 + (number + turn) % 2, 1 + (number * 7 + turn * 11) % 64, 1 + (turn * 13) % 48};
        const std::vector<float> image = make_pictures(size, static_cast<unsigned>(number * 100 + turn));
        std::vector<float> restored(size.elements());
        engine.run(image.data(), restored.data(), size, Memory::host, stream);
        check_equal(restored.data(), expected(image, size));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(standin::collisions() == 0);
  CHECK(standin::most_at_once() <= 3);
}

void test_exhausted_pool(const Folder& folder) {
  const PictureSize size = {1, 16, 16};
  std::vector<float> image = make_pictures(size);
  std::vector<float> restored(size.elements());
  Engine failing(test::write_plan(folder), {.contexts = 1, .when_busy = WhenBusy::fail});
  std::thread other = busy_run(failing, image, size, standin::stream(1));
  expect_error(SERPENT_ENGINE_BUSY, {"all 1 contexts", "more contexts"},
               [&] { failing.run(image.data(), restored.data(), size); });
  other.join();
  failing.run(image.data(), restored.data(), size);  // free again

  Engine waiting(test::write_plan(folder), {.contexts = 1, .when_busy = WhenBusy::wait});
  other = busy_run(waiting, image, size, standin::stream(1));
  standin::set_delay_ms(0);
  waiting.run(image.data(), restored.data(), size);
  check_equal(restored.data(), expected(image, size));
  other.join();
}

void test_closing_turns_waiting_runs_away(const Folder& folder) {
  const PictureSize size = {1, 16, 16};
  std::vector<float> image = make_pictures(size);
  auto engine = std::make_unique<Engine>(test::write_plan(folder), serpent::EngineOptions{.contexts = 1});
  std::thread running = busy_run(*engine, image, size, standin::stream(1));
  std::thread waiting([&image, size, handle = engine->handle()] {
    std::vector<float> restored(size.elements());
    const serpent_engine_pictures source = {image.data(), 1, 16, 16, SERPENT_ENGINE_F32_NCHW, SERPENT_ENGINE_HOST};
    const serpent_engine_pictures target = {restored.data(), 1, 16, 16, SERPENT_ENGINE_F32_NCHW, SERPENT_ENGINE_HOST};
    serpent_engine_error error = {};
    CHECK(serpent_engine_run(handle, &source, &target, nullptr, &error) == SERPENT_ENGINE_INVALID_ARGUMENT);
    CHECK(std::strstr(error.message, "closed") != nullptr);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  engine.reset();
  running.join();
  waiting.join();
  standin::set_delay_ms(0);
}

void test_order_of_release(const Folder& folder) {
  const std::filesystem::path plan = test::write_plan(folder);
  standin::take_log();
  {
    Engine engine(plan, {.plugin_library = "somewhere/libserpent_trt.so", .contexts = 2});
    const PictureSize size = {1, 20, 20};
    const std::vector<float> image = make_pictures(size);
    std::vector<float> restored(size.elements());
    engine.run(image.data(), restored.data(), size);
  }
  const std::vector<std::string> wanted = {"create_runtime",  "load_plugin somewhere/libserpent_trt.so",
                                           "create_engine",   "create_context",
                                           "create_event",    "destroy_event",
                                           "destroy_context", "destroy_engine",
                                           "destroy_runtime"};
  CHECK(standin::take_log() == wanted);
  CHECK(standin::allocations() == 0);
}

void test_closing_waits_for_the_device(const Folder& folder) {
  const PictureSize size = {1, 16, 16};
  const std::vector<float> image = make_pictures(size);
  const OnDevice source(image);
  const OnDevice target(std::vector<float>(size.elements()));
  {
    Engine engine(test::write_plan(folder));
    standin::set_delay_ms(50);
    engine.run(source.data, target.data, size, Memory::device, standin::stream(1));
  }
  check_equal(target.read().data(), expected(image, size));
  standin::set_delay_ms(0);
  for (const std::string& line : standin::take_log()) {
    CHECK(line != "destroy_context while it runs");
  }
}

// Each call of the interface fails once, at opening and at running: an error that names it, nothing leaked, and an
// engine that still works.
void test_every_call_fails(const Folder& folder) {
  const std::filesystem::path plan = test::write_plan(folder);
  const PictureSize size = {1, 20, 20};
  const std::vector<float> image = make_pictures(size);
  std::vector<float> restored(size.elements());
  const auto balanced = [] {
    const std::vector<std::string> log = standin::take_log();
    for (const char* kind : {"runtime", "engine", "context", "event"}) {
      const auto count = [&](const std::string& what) { return std::count(log.begin(), log.end(), what + kind); };
      CHECK(count("create_") == count("destroy_"));
    }
    CHECK(standin::allocations() == 0);
  };
  for (const char* name : {"version", "create_runtime", "describe_device", "load_plugin", "deserialize",
                           "count_tensors", "describe_tensor", "create_context", "create_event"}) {
    standin::take_log();
    standin::fail_call(name);
    const bool memory = std::string(name) == "create_context";
    expect_error(memory ? SERPENT_ENGINE_OUT_OF_MEMORY : SERPENT_ENGINE_TENSORRT, {std::string("fails in ") + name},
                 [&] { const Engine engine(plan); });
    balanced();
  }
  // And how often a run calls it.
  const std::pair<const char*, int> in_a_run[] = {
      {"locate", 2},       {"wait", 1},    {"allocate", 2},    {"copy", 2},   {"set_shape", 1},    {"get_shape", 1},
      {"finish_event", 1}, {"enqueue", 1}, {"set_address", 2}, {"record", 1}, {"finish_stream", 1}};
  for (const auto& [name, most] : in_a_run) {
    for (int skip = 0; skip < most; ++skip) {
      standin::take_log();
      {
        Engine engine(plan, {.contexts = 1, .when_busy = WhenBusy::fail});
        standin::fail_call(name, skip);
        const bool memory = std::string(name) == "allocate";
        expect_error(memory ? SERPENT_ENGINE_OUT_OF_MEMORY : SERPENT_ENGINE_TENSORRT, {std::string("fails in ") + name},
                     [&] { engine.run(image.data(), restored.data(), size); });
        engine.run(image.data(), restored.data(), size);
        check_equal(restored.data(), expected(image, size));
      }
      balanced();
    }
  }
  // A second context that cannot be made is that run's error; the first goes on working.
  Engine engine(plan, {.contexts = 2});
  std::vector<float> other = image;
  std::thread busy = busy_run(engine, other, size, standin::stream(1));
  standin::fail_call("create_context");
  expect_error(SERPENT_ENGINE_OUT_OF_MEMORY, {"fails in create_context"},
               [&] { engine.run(image.data(), restored.data(), size); });
  busy.join();
  standin::set_delay_ms(0);
  engine.run(image.data(), restored.data(), size);
}

}  // namespace

int main(int, char** arguments) {
  return test::run_all(arguments[1], [] {
    const Folder folder;
    test_description(folder);
    test_sizes(folder);
    test_device_memory(folder);
    test_bytes_in_device_memory(folder);
    test_streams_take_turns(folder);
    test_a_new_size_waits_for_the_run_before(folder);
    test_contexts_are_made_beside_each_other(folder);
    test_a_context_is_not_used_after_a_failure(folder);
    test_threads(folder);
    test_exhausted_pool(folder);
    test_closing_turns_waiting_runs_away(folder);
    test_order_of_release(folder);
    test_closing_waits_for_the_device(folder);
    test_every_call_fails(folder);
  });
}
