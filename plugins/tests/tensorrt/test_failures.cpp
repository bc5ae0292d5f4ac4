// Memory that runs out anywhere, and loggers that do not work: an error, never the end of the process.
#include <stdexcept>

#include "support.h"
#include "tensorrt/entry.h"

namespace plugin_test {
namespace {

void test_refused_memory() {
  const Plugin plugin = create();
  kernel_calls() = {};
  const nvinfer1::PluginFieldCollection* fields = runtime_side(*plugin).getFieldsToSerialize();
  const auto made = [](nvinfer1::IPluginV3* made) { return Plugin(made) == nullptr; };
  CHECK(with_each_allocation_refused(
            [&] { return made(creator().createPlugin("", fields, nvinfer1::TensorRTPhase::kRUNTIME)); },
            "createPlugin") >= 2);
  CHECK(with_each_allocation_refused([&] { return made(plugin->clone()); }, "clone") == 1);
  CHECK(with_each_allocation_refused([&] { return made(runtime_side(*plugin).attachToContext(nullptr)); },
                                     "attachToContext") == 1);
  // What runs at every inference, and what a build asks, needs no memory at all where nothing is wrong.
  const Tensors tensors(kShape);
  const auto dynamic = tensors.dynamic();
  CHECK(with_each_allocation_refused(
            [&] { return runtime_side(*plugin).onShapeChange(tensors.inputs(), 6, tensors.output(), 1) != 0; },
            "onShapeChange") == 0);
  CHECK(with_each_allocation_refused(
            [&] {
              alignas(256) char memory[512];
              const void* inputs[] = {memory, memory, memory, memory, memory, memory};
              void* outputs[] = {memory + 16};
              return runtime_side(*plugin).enqueue(tensors.inputs(), tensors.output(), inputs, outputs, memory + 256,
                                                   nullptr) != 0;
            },
            "enqueue") == 0);
  CHECK(with_each_allocation_refused(
            [&] { return build_side(*plugin).configurePlugin(dynamic.data(), 6, dynamic.data() + 6, 1) != 0; },
            "configurePlugin") == 0);
}

// Even the message of a failure may find no memory.
void test_refused_memory_for_a_message() {
  const Plugin plugin = create();
  Tensors bad(kShape);
  bad.all[1].dims.d[3] = 1000;
  int refusals = 0;
  for (bool said_it_all = false; !said_it_all && refusals < 100; ++refusals) {
    int calls = -1;
    with_allocations(refusals, [&] { calls = runtime_side(*plugin).onShapeChange(bad.inputs(), 6, bad.output(), 1); });
    CHECK(calls != 0);
    const std::vector<std::string> said = take_messages();
    CHECK(said.size() == 1);
    said_it_all = said.size() == 1 && said[0].ends_with("expected (2, 5, 9, 56)");
    CHECK(said_it_all || (said.size() == 1 && said[0] == "SelectiveScan2D, onShapeChange: out of memory"));
  }
  CHECK(refusals > 1 && refusals < 100);
}

class Throwing final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { throw std::runtime_error("no logger"); }
};

class Without final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return nullptr; }
};

// The messages go to stderr: three of them are to be seen there.
void test_loggers_that_are_none() {
  Throwing throwing;
  Without without;
  for (nvinfer1::ILoggerFinder* finder :
       {static_cast<nvinfer1::ILoggerFinder*>(&throwing), static_cast<nvinfer1::ILoggerFinder*>(&without),
        static_cast<nvinfer1::ILoggerFinder*>(nullptr)}) {
    setLoggerFinder(finder);
    CHECK(creator().createPlugin("", nullptr, nvinfer1::TensorRTPhase::kBUILD) == nullptr);
  }
  listen();
}

}  // namespace

void test_failures() {
  test_refused_memory();
  test_refused_memory_for_a_message();
  test_loggers_that_are_none();
}

}  // namespace plugin_test
