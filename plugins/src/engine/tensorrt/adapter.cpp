// The adapter over TensorRT, compiled once per major version of its headers. Each function: enter the device, one call,
// translate the failure.
#include "../adapter.h"

#include <algorithm>

#include "../failure.h"
#include "cuda_calls.h"
#include "objects.h"

using serpent::engine::CudaDriver;
using serpent::engine::guarded;
using serpent::engine::on_device;
using serpent::engine::refuse;

namespace {

serpent_engine_status version(void* library, serpent_adapter_version* found, serpent_engine_error* error) {
  return guarded(error, [&] { *found = serpent::engine::version_of(library); });
}

serpent_engine_status create_runtime(void* library, int32_t device, serpent_adapter_runtime** runtime,
                                     serpent_engine_error* error) {
  return guarded(error, [&] { *runtime = new serpent_adapter_runtime(library, device); });
}

void destroy_runtime(serpent_adapter_runtime* runtime) {
  on_device(runtime->cuda, [&] { runtime->runtime.reset(); });
  delete runtime;
}

serpent_engine_status describe_device(serpent_adapter_runtime* runtime, serpent_adapter_device* device,
                                      serpent_engine_error* error) {
  return guarded(error, [&] { *device = serpent::engine::describe_device(runtime->cuda); });
}

serpent_engine_status load_plugin(serpent_adapter_runtime* runtime, const char* path,
                                  const serpent_adapter_plugin* plugin, serpent_engine_error* error) {
  return guarded(error, [&] {
    const CudaDriver::Scope current(runtime->cuda);
    serpent::engine::load_plugin(*runtime->registry, runtime->log, path, *plugin);
  });
}

serpent_engine_status deserialize(serpent_adapter_runtime* runtime, const void* plan, uint64_t bytes,
                                  int32_t native_code, serpent_adapter_engine** engine, serpent_engine_error* error) {
  return guarded(error, [&] {
    const CudaDriver::Scope current(runtime->cuda);
    runtime->log.take();  // what earlier calls complained about and got over; so below
    runtime->runtime->setEngineHostCodeAllowed(native_code != 0);
    std::unique_ptr<nvinfer1::ICudaEngine> found(runtime->runtime->deserializeCudaEngine(plan, bytes));
    if (found == nullptr) {
      refuse(runtime->log, "TensorRT cannot load the plan");
    }
    *engine = new serpent_adapter_engine{*runtime, std::move(found)};
  });
}

void destroy_engine(serpent_adapter_engine* engine) {
  on_device(engine->owner.cuda, [&] { engine->engine.reset(); });
  delete engine;
}

serpent_engine_status count_tensors(serpent_adapter_engine* engine, int32_t* count, serpent_engine_error* error) {
  return guarded(error, [&] { *count = engine->engine->getNbIOTensors(); });
}

serpent_engine_status describe_tensor(serpent_adapter_engine* engine, int32_t index, serpent_adapter_tensor* tensor,
                                      serpent_engine_error* error) {
  return guarded(error, [&] { *tensor = serpent::engine::describe_tensor(*engine->engine, index); });
}

serpent_engine_status create_context(serpent_adapter_engine* engine, serpent_adapter_context** context,
                                     serpent_engine_error* error) {
  return guarded(error, [&] {
    const CudaDriver::Scope current(engine->owner.cuda);
    engine->owner.log.take();
    std::unique_ptr<nvinfer1::IExecutionContext> made(engine->engine->createExecutionContext());
    if (made == nullptr) {
      refuse(engine->owner.log, "TensorRT cannot make an execution context");
    }
    *context = new serpent_adapter_context{engine->owner, std::move(made)};
  });
}

void destroy_context(serpent_adapter_context* context) {
  on_device(context->owner.cuda, [&] { context->context.reset(); });
  delete context;
}

serpent_engine_status set_shape(serpent_adapter_context* context, const char* tensor, const int64_t* sizes,
                                serpent_engine_error* error) {
  return guarded(error, [&] {
    const CudaDriver::Scope current(context->owner.cuda);
    context->owner.log.take();
    const nvinfer1::Dims4 shape(sizes[0], sizes[1], sizes[2], sizes[3]);
    if (!context->context->setInputShape(tensor, shape)) {
      refuse(context->owner.log, std::string("TensorRT refuses the shape of ") + tensor);
    }
  });
}

serpent_engine_status get_shape(serpent_adapter_context* context, const char* tensor, int64_t* sizes,
                                serpent_engine_error* error) {
  return guarded(error, [&] {
    const nvinfer1::Dims shape = context->context->getTensorShape(tensor);
    if (shape.nbDims != SERPENT_ADAPTER_RANK) {
      refuse(context->owner.log, std::string("TensorRT says that ") + tensor + " has rank " +
                                     std::to_string(shape.nbDims) + ", not " + std::to_string(SERPENT_ADAPTER_RANK));
    }
    std::copy_n(shape.d, SERPENT_ADAPTER_RANK, sizes);
  });
}

serpent_engine_status set_address(serpent_adapter_context* context, const char* tensor, void* address,
                                  serpent_engine_error* error) {
  return guarded(error, [&] {
    if (!context->context->setTensorAddress(tensor, address)) {
      refuse(context->owner.log, std::string("TensorRT refuses the address of ") + tensor);
    }
  });
}

serpent_engine_status enqueue(serpent_adapter_context* context, void* stream, serpent_engine_error* error) {
  return guarded(error, [&] {
    const CudaDriver::Scope current(context->owner.cuda);
    context->owner.log.take();
    if (!context->context->enqueueV3(static_cast<cudaStream_t>(stream))) {
      refuse(context->owner.log, "TensorRT cannot run the plan");
    }
  });
}

serpent_engine_status allocate(serpent_adapter_runtime* runtime, uint64_t bytes, void** address,
                               serpent_engine_error* error) {
  return guarded(error, [&] { *address = serpent::engine::allocate(runtime->cuda, bytes); });
}

void release(serpent_adapter_runtime* runtime, void* address) { serpent::engine::release(runtime->cuda, address); }

serpent_engine_status locate(serpent_adapter_runtime* runtime, const void* address, serpent_adapter_place* place,
                             serpent_engine_error* error) {
  return guarded(error, [&] { *place = serpent::engine::locate(runtime->cuda, address); });
}

serpent_engine_status copy(serpent_adapter_runtime* runtime, const serpent_adapter_copy* piece, void* stream,
                           serpent_engine_error* error) {
  return guarded(error, [&] { serpent::engine::copy(runtime->cuda, *piece, stream); });
}

serpent_engine_status create_event(serpent_adapter_runtime* runtime, serpent_adapter_event** event,
                                   serpent_engine_error* error) {
  return guarded(error, [&] { *event = serpent::engine::create_event(runtime->cuda); });
}

void destroy_event(serpent_adapter_runtime* runtime, serpent_adapter_event* event) {
  serpent::engine::destroy_event(runtime->cuda, event);
}

serpent_engine_status record(serpent_adapter_runtime* runtime, serpent_adapter_event* event, void* stream,
                             serpent_engine_error* error) {
  return guarded(error, [&] { serpent::engine::record(runtime->cuda, *event, stream); });
}

serpent_engine_status wait(serpent_adapter_runtime* runtime, serpent_adapter_event* event, void* stream,
                           serpent_engine_error* error) {
  return guarded(error, [&] { serpent::engine::wait(runtime->cuda, *event, stream); });
}

serpent_engine_status finish_event(serpent_adapter_runtime* runtime, serpent_adapter_event* event,
                                   serpent_engine_error* error) {
  return guarded(error, [&] { serpent::engine::finish_event(runtime->cuda, *event); });
}

serpent_engine_status finish_stream(serpent_adapter_runtime* runtime, void* stream, serpent_engine_error* error) {
  return guarded(error, [&] { serpent::engine::finish_stream(runtime->cuda, stream); });
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

}  // namespace

extern "C" SERPENT_API const serpent_adapter* serpent_engine_adapter(void) { return &kAdapter; }
