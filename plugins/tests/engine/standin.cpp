// The stand-in adapter: TensorRT's half, over one GPU or another (standin_gpu.h). See standin.h.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <thread>

#include "../../src/engine/adapter.h"
#include "../../src/engine/failure.h"
#include "network.h"
#include "standin_controls.h"
#include "standin_gpu.h"

using serpent::engine::fail;
using standin::Controls;
using standin::controls;
namespace gpu = standin::gpu;

struct serpent_adapter_runtime {};

struct serpent_adapter_engine {
  struct Tensor {
    std::string name;
    std::string type;
    bool is_input = false;
    int64_t least[SERPENT_ADAPTER_RANK] = {};
    int64_t most[SERPENT_ADAPTER_RANK] = {};
    int64_t growth = 1;  // of an output's height
  };
  std::vector<Tensor> tensors;
};

struct serpent_adapter_context {
  serpent_adapter_engine* engine;
  standin::Sizes sizes = {};
  void* image = nullptr;
  void* restored = nullptr;
  std::atomic<bool> running = false;
  std::atomic<int> unfinished = 0;  // running, or waiting for their turn
};

namespace {

template <class Body>
serpent_engine_status run(const char* name, serpent_engine_error* error, const Body& body) {
  return serpent::engine::guarded(error, [&] {
    controls().hold_if_asked(name);
    controls().fail_if_asked(name);
    body();
  });
}

serpent_adapter_engine::Tensor read_tensor(const std::string& line) {
  std::istringstream words(line);
  std::string kind;
  serpent_adapter_engine::Tensor tensor;
  words >> kind >> tensor.name >> tensor.type;
  tensor.is_input = kind == "input";
  if (tensor.is_input) {
    for (int64_t* sizes : {tensor.least, tensor.most}) {
      for (int axis = 0; axis < SERPENT_ADAPTER_RANK; ++axis) {
        words >> sizes[axis];
      }
    }
  }
  const bool complete = static_cast<bool>(words);
  if (kind == "output" && !(words >> tensor.growth)) {
    tensor.growth = 1;
    words.clear();
  }
  std::string more;
  if (!complete || tensor.growth < 1 || (kind != "input" && kind != "output") || (words >> more)) {
    fail(SERPENT_ENGINE_TENSORRT, "the stand-in cannot load the plan: it does not understand its line: " + line);
  }
  return tensor;
}

}  // namespace

namespace calls {

serpent_engine_status version(void*, serpent_adapter_version* version, serpent_engine_error* error) {
  return run("version", error, [&] {
    const std::lock_guard lock(controls().mutex);
    const std::string& text = controls().version;
    *version = {};
    version->is_rtx = text.starts_with("rtx") ? 1 : 0;
    (void)std::sscanf(text.c_str() + 4, "%d.%d.%d.%d", &version->major, &version->minor, &version->patch,
                      &version->build);
  });
}

serpent_engine_status create_runtime(void*, int32_t number, serpent_adapter_runtime** runtime,
                                     serpent_engine_error* error) {
  return run("create_runtime", error, [&] {
    if (number != 0) {
      fail(SERPENT_ENGINE_UNSUPPORTED, "there is no CUDA device " + std::to_string(number) + ": CUDA sees 1");
    }
    *runtime = new serpent_adapter_runtime;
    controls().note("create_runtime");
  });
}

void destroy_runtime(serpent_adapter_runtime* runtime) {
  controls().note("destroy_runtime");
  delete runtime;
}

serpent_engine_status describe_device(serpent_adapter_runtime*, serpent_adapter_device* found,
                                      serpent_engine_error* error) {
  return run("describe_device", error, [&] { *found = {8, 9, "stand-in GPU"}; });
}

serpent_engine_status load_plugin(serpent_adapter_runtime*, const char* path, const serpent_adapter_plugin* plugin,
                                  serpent_engine_error* error) {
  return run("load_plugin", error, [&] {
    const std::string title = std::string(plugin->name_space) + "::" + plugin->name + " version " + plugin->version;
    if (title != "serpent::SelectiveScan2D version 1") {
      fail(SERPENT_ENGINE_UNSUPPORTED, std::string("the plugin library ") + path + " does not have " + title);
    }
    controls().note(std::string("load_plugin ") + path);
  });
}

serpent_engine_status deserialize(serpent_adapter_runtime*, const void* plan, uint64_t bytes, int32_t native_code,
                                  serpent_adapter_engine** engine, serpent_engine_error* error) {
  return run("deserialize", error, [&] {
    std::istringstream lines(std::string(static_cast<const char*>(plan), bytes));
    std::string line;
    if (!std::getline(lines, line) || line != "serpent-standin 1") {
      fail(SERPENT_ENGINE_TENSORRT, "the stand-in cannot load the plan: it is no stand-in plan");
    }
    auto found = std::make_unique<serpent_adapter_engine>();
    while (std::getline(lines, line)) {
      found->tensors.push_back(read_tensor(line));
    }
    *engine = found.release();
    controls().note(native_code != 0 ? "create_engine with native code" : "create_engine");
  });
}

void destroy_engine(serpent_adapter_engine* engine) {
  controls().note("destroy_engine");
  delete engine;
}

serpent_engine_status count_tensors(serpent_adapter_engine* engine, int32_t* count, serpent_engine_error* error) {
  return run("count_tensors", error, [&] { *count = static_cast<int32_t>(engine->tensors.size()); });
}

serpent_engine_status describe_tensor(serpent_adapter_engine* engine, int32_t index, serpent_adapter_tensor* tensor,
                                      serpent_engine_error* error) {
  return run("describe_tensor", error, [&] {
    const auto& found = engine->tensors.at(static_cast<std::size_t>(index));
    *tensor = {found.name.c_str(), found.type.c_str(), found.is_input ? 1 : 0, SERPENT_ADAPTER_RANK, {}, {}};
    std::memcpy(tensor->min, found.least, sizeof(tensor->min));
    std::memcpy(tensor->max, found.most, sizeof(tensor->max));
  });
}

serpent_engine_status create_context(serpent_adapter_engine* engine, serpent_adapter_context** context,
                                     serpent_engine_error* error) {
  return run("create_context", error, [&] {
    *context = new serpent_adapter_context{.engine = engine};
    controls().note("create_context");
  });
}

void destroy_context(serpent_adapter_context* context) {
  controls().note(context->unfinished > 0 ? "destroy_context while it runs" : "destroy_context");
  delete context;
}

serpent_engine_status set_shape(serpent_adapter_context* context, const char* name, const int64_t* sizes,
                                serpent_engine_error* error) {
  return run("set_shape", error, [&] {
    if (context->unfinished > 0) {
      controls().note("set_shape while it runs");
    }
    for (const auto& tensor : context->engine->tensors) {
      for (int axis = 0; axis < SERPENT_ADAPTER_RANK && tensor.name == name; ++axis) {
        if (sizes[axis] < tensor.least[axis] || sizes[axis] > tensor.most[axis]) {
          fail(SERPENT_ENGINE_TENSORRT, "the stand-in refuses size " + std::to_string(sizes[axis]));
        }
      }
    }
    std::copy_n(sizes, SERPENT_ADAPTER_RANK, context->sizes.begin());
  });
}

int64_t growth(const serpent_adapter_context& context, const std::string& name) {
  for (const auto& tensor : context.engine->tensors) {
    if (tensor.name == name) {
      return tensor.growth;
    }
  }
  fail(SERPENT_ENGINE_TENSORRT, "the stand-in knows no tensor " + name);
}

serpent_engine_status get_shape(serpent_adapter_context* context, const char* name, int64_t* sizes,
                                serpent_engine_error* error) {
  return run("get_shape", error, [&] {
    std::copy_n(context->sizes.begin(), SERPENT_ADAPTER_RANK, sizes);
    sizes[2] *= growth(*context, name);
  });
}

serpent_engine_status set_address(serpent_adapter_context* context, const char* tensor, void* address,
                                  serpent_engine_error* error) {
  return run("set_address", error, [&] {
    if (reinterpret_cast<uintptr_t>(address) % 256 != 0) {
      fail(SERPENT_ENGINE_TENSORRT, "the stand-in refuses an address that is not aligned to 256 bytes");
    }
    (std::string(tensor) == "image" ? context->image : context->restored) = address;
  });
}

serpent_engine_status enqueue(serpent_adapter_context* context, void* stream, serpent_engine_error* error) {
  return run("enqueue", error, [&] {
    const std::string& type = context->engine->tensors.at(0).type;
    const std::size_t bytes = standin::elements(context->sizes) * standin::element_bytes(type);
    const auto network = [context, type, sizes = context->sizes](const void* image, void* restored) {
      Controls& shared = controls();
      if (context->running.exchange(true)) {
        ++shared.collisions;
      }
      const int now = ++shared.running;
      int most = shared.most;
      while (now > most && !shared.most.compare_exchange_weak(most, now)) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(shared.delay_ms));
      standin::run_network(type, image, restored, sizes);
      --shared.running;
      context->running = false;
      --context->unfinished;
    };
    ++context->unfinished;
    gpu::launch(stream, context->image, context->restored, bytes, network);
  });
}

serpent_engine_status allocate(serpent_adapter_runtime*, uint64_t bytes, void** address, serpent_engine_error* error) {
  return run("allocate", error, [&] { *address = gpu::allocate(bytes); });
}

void release(serpent_adapter_runtime*, void* address) { gpu::release(address); }

serpent_engine_status locate(serpent_adapter_runtime*, const void* address, serpent_adapter_place* place,
                             serpent_engine_error* error) {
  return run("locate", error, [&] { *place = gpu::locate(address); });
}

serpent_engine_status copy(serpent_adapter_runtime*, const serpent_adapter_copy* copy, void* stream,
                           serpent_engine_error* error) {
  return run("copy", error, [&] { gpu::copy(*copy, stream); });
}

serpent_engine_status create_event(serpent_adapter_runtime*, serpent_adapter_event** event,
                                   serpent_engine_error* error) {
  return run("create_event", error, [&] {
    *event = gpu::create_event();
    controls().note("create_event");
  });
}

void destroy_event(serpent_adapter_runtime*, serpent_adapter_event* event) {
  controls().note("destroy_event");
  gpu::destroy_event(event);
}

serpent_engine_status record(serpent_adapter_runtime*, serpent_adapter_event* event, void* stream,
                             serpent_engine_error* error) {
  return run("record", error, [&] { gpu::record(*event, stream); });
}

serpent_engine_status wait(serpent_adapter_runtime*, serpent_adapter_event* event, void* stream,
                           serpent_engine_error* error) {
  return run("wait", error, [&] { gpu::wait(*event, stream); });
}

serpent_engine_status finish_event(serpent_adapter_runtime*, serpent_adapter_event* event,
                                   serpent_engine_error* error) {
  return run("finish_event", error, [&] { gpu::finish_event(*event); });
}

serpent_engine_status finish_stream(serpent_adapter_runtime*, void* stream, serpent_engine_error* error) {
  return run("finish_stream", error, [&] { gpu::finish_stream(stream); });
}

constexpr serpent_adapter kAdapter = {
    .revision = SERPENT_ADAPTER_REVISION,
    .version = version,
    .create_runtime = create_runtime,
    .destroy_runtime = destroy_runtime,
    .describe_device = describe_device,
    .load_plugin = load_plugin,
    .deserialize = deserialize,
    .destroy_engine = destroy_engine,
    .count_tensors = count_tensors,
    .describe_tensor = describe_tensor,
    .create_context = create_context,
    .destroy_context = destroy_context,
    .set_shape = set_shape,
    .get_shape = get_shape,
    .set_address = set_address,
    .enqueue = enqueue,
    .allocate = allocate,
    .release = release,
    .locate = locate,
    .copy = copy,
    .create_event = create_event,
    .destroy_event = destroy_event,
    .record = record,
    .wait = wait,
    .finish_event = finish_event,
    .finish_stream = finish_stream,
};

}  // namespace calls

extern "C" SERPENT_API const serpent_adapter* serpent_engine_adapter(void) { return &calls::kAdapter; }
