#include "engine.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "failure.h"
#include "native_code.h"

namespace serpent::engine {
namespace {

constexpr const char* kInput = "image";
constexpr const char* kOutput = "restored";
constexpr int kChannels = 3;
constexpr const char* kPluginLibrary = "libserpent_trt.so";

std::string text(const std::array<int64_t, SERPENT_ADAPTER_RANK>& sizes) {
  std::string listed;
  for (const int64_t size : sizes) {
    listed += (listed.empty() ? "" : ", ") + std::to_string(size);
  }
  return "(" + listed + ")";
}

std::array<int64_t, SERPENT_ADAPTER_RANK> axes(const Shape& shape, const Border& border) {
  return border.axes<int64_t>(shape.batch, kChannels, shape.height, shape.width);
}

std::string text(const serpent_engine_range& range) {
  return range.min == range.max
             ? std::to_string(range.min)
             : std::to_string(range.min) + ":" + std::to_string(range.opt) + ":" + std::to_string(range.max);
}

std::string io_text(int32_t io) {
  const auto found = std::find_if(kBorders.begin(), kBorders.end(), [&](const Border& one) { return one.io == io; });
  return std::to_string(io) + (found != kBorders.end() ? " (" + std::string(found->name) + ")" : "");
}

}  // namespace

Engine::Engine(const std::filesystem::path& plan, const serpent_engine_options& options)
    : plan_(plan),
      manifest_(load_manifest(plan)),
      backend_(),
      device_(options.device),
      runtime_(nullptr, nullptr),
      engine_(nullptr, nullptr) {
  const std::vector<char> bytes = read_plan(plan, manifest_);
  // A manifest may be silent about it, and TensorRT-RTX runs such code without asking.
  const bool native_code = manifest_.plugin.embedded || carries_native_code({bytes.data(), bytes.size()});
  if (native_code && options.allow_native_code != 1) {
    fail(SERPENT_ENGINE_UNSUPPORTED, plan.string() +
                                         " carries native code that would run in this process; if you trust where it "
                                         "comes from, set allow_native_code");
  }
  backend_ = load_backend(options.tensorrt_library != nullptr ? options.tensorrt_library : "", plan, manifest_);
  const serpent_adapter& calls = *backend_.calls;
  serpent_adapter_runtime* runtime = nullptr;
  call(calls.create_runtime, backend_.library, device_, &runtime);
  runtime_ = {runtime, calls.destroy_runtime};
  check_device();

  if (!native_code) {  // else the plan brings its plugin: the registry must not have it twice
    load_plugin(options);
  }
  serpent_adapter_engine* engine = nullptr;
  call(calls.deserialize, runtime, bytes.data(), static_cast<uint64_t>(bytes.size()), native_code ? 1 : 0, &engine);
  engine_ = {engine, calls.destroy_engine};
  check_tensors();
  pool_.emplace(calls, runtime, engine, options.contexts, static_cast<serpent_engine_when_busy>(options.when_busy));
}

void Engine::load_plugin(const serpent_engine_options& options) {
  const Plugin& wanted = manifest_.plugin;
  const std::string library = options.plugin_library != nullptr ? std::string(options.plugin_library)
                                                                : (own_folder() / kPluginLibrary).string();
  const serpent_adapter_plugin identity = {wanted.name.c_str(), wanted.version.c_str(), wanted.name_space.c_str()};
  call(backend_.calls->load_plugin, runtime_.get(), library.c_str(), &identity);
}

void Engine::check_device() const {
  serpent_adapter_device device = {};
  call(backend_.calls->describe_device, runtime_.get(), &device);
  const std::string own = "sm" + std::to_string(device.major) + std::to_string(device.minor);
  const std::vector<std::string>& targets = manifest_.targets;
  if (std::find(targets.begin(), targets.end(), own) == targets.end()) {
    std::string listed;
    for (const std::string& target : targets) {
      listed += (listed.empty() ? "" : ", ") + target;
    }
    fail(SERPENT_ENGINE_UNSUPPORTED, plan_.string() + " was built for " + listed + "; CUDA device " +
                                         std::to_string(device_) + " is " + device.name + " (" + own +
                                         "); export it again with --targets " + own + ", or choose another device");
  }
}

void Engine::check_tensors() const {
  const serpent_adapter& calls = *backend_.calls;
  int32_t count = 0;
  call(calls.count_tensors, engine_.get(), &count);
  bool expected = count == 2;
  std::string listed;
  std::optional<serpent_adapter_tensor> input;
  for (int32_t index = 0; index < count; ++index) {
    serpent_adapter_tensor tensor = {};
    call(calls.describe_tensor, engine_.get(), index, &tensor);
    listed += (listed.empty() ? "" : ", ") + std::string(tensor.name) + " " + tensor.type;
    const std::string_view name = tensor.is_input != 0 ? kInput : kOutput;
    expected =
        expected && tensor.name == name && tensor.type == manifest_.border->type && tensor.rank == SERPENT_ADAPTER_RANK;
    if (tensor.is_input != 0) {
      input = tensor;
    }
  }
  if (!expected || !input) {
    const Border& border = *manifest_.border;
    fail(SERPENT_ENGINE_MODEL_FILE, plan_.string() + " has the tensors " + listed + "; its manifest says " +
                                        std::string(border.name) + ": " + kInput + " and " + kOutput + ", both " +
                                        std::string(border.type) + " " + border.layout + "; run serpent-export again");
  }
  // Buffers are sized by the manifest and written by the plan: both must speak of the same sizes.
  const auto wanted = manifest_.border->axes<serpent_engine_range>(manifest_.batch, {kChannels, kChannels, kChannels},
                                                                   manifest_.height, manifest_.width);
  for (int axis = 0; axis < SERPENT_ADAPTER_RANK; ++axis) {
    if (input->min[axis] != wanted[axis].min || input->max[axis] != wanted[axis].max) {
      fail(SERPENT_ENGINE_MODEL_FILE, plan_.string() + " accepts " + std::to_string(input->min[axis]) + " to " +
                                          std::to_string(input->max[axis]) + " on axis " + std::to_string(axis) +
                                          " of " + kInput + ", its manifest says " + text(wanted[axis]) +
                                          "; run serpent-export again");
    }
  }
}

serpent_engine_info Engine::info() const {
  return {
      .batch = manifest_.batch,
      .height = manifest_.height,
      .width = manifest_.width,
      .multiple = manifest_.multiple,
      .variant = manifest_.variant.c_str(),
      .task = manifest_.task.c_str(),
      .precision = manifest_.precision.c_str(),
      .weights = manifest_.weights.c_str(),
      .flavour = manifest_.flavour.c_str(),
      .version = backend_.version.c_str(),
      .device = device_,
      .io = manifest_.border->io,
  };
}

void Engine::check_memory(const char* name, const serpent_engine_pictures& pictures) const {
  serpent_adapter_place place = {};
  call(backend_.calls->locate, runtime_.get(), static_cast<const void*>(pictures.data), &place);
  const bool on_device = pictures.memory == SERPENT_ENGINE_DEVICE;
  if (on_device != (place.memory == SERPENT_ENGINE_DEVICE)) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT, std::string(name) + " is said to be in " + (on_device ? "device" : "host") +
                                              " memory, and its pointer is of " + (on_device ? "host" : "device") +
                                              " memory");
  }
  if (on_device && place.device != device_) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT, std::string(name) + " is on CUDA device " + std::to_string(place.device) +
                                              ", the engine on device " + std::to_string(device_));
  }
}

void Engine::check_pictures(const serpent_engine_pictures& image, const serpent_engine_pictures& restored) const {
  for (const auto& [name, pictures] : {std::pair{kInput, &image}, std::pair{kOutput, &restored}}) {
    const std::string subject(name);
    if (pictures->data == nullptr) {
      fail(SERPENT_ENGINE_INVALID_ARGUMENT, subject + ".data is NULL");
    }
    if (pictures->io != manifest_.border->io) {
      fail(SERPENT_ENGINE_INVALID_ARGUMENT, subject + ".io is " + io_text(pictures->io) + "; expected " +
                                                io_text(manifest_.border->io) + ", which " + plan_.string() +
                                                " was exported for (--io)");
    }
    if (pictures->memory != SERPENT_ENGINE_HOST && pictures->memory != SERPENT_ENGINE_DEVICE) {
      fail(SERPENT_ENGINE_INVALID_ARGUMENT,
           subject + ".memory is " + std::to_string(pictures->memory) + "; expected 0 (host) or 1 (device)");
    }
  }
  const Border& border = *manifest_.border;
  const Shape shape = shape_of(image);
  if (shape != shape_of(restored)) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT, "image has shape " + text(axes(shape, border)) + " and restored " +
                                              text(axes(shape_of(restored), border)) + "; expected equal shapes");
  }
  const auto fits = [](int64_t size, const serpent_engine_range& range) { return 1 <= size && size <= range.max; };
  if (!fits(shape.batch, manifest_.batch) || !fits(shape.height, manifest_.height) ||
      !fits(shape.width, manifest_.width)) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT,
         "image has shape " + text(axes(shape, border)) + ", outside the profile of " + plan_.string() + ": batch " +
             text(manifest_.batch) + ", height " + text(manifest_.height) + ", width " + text(manifest_.width) +
             " (min:opt:max); cut larger pictures into tiles, or export with a larger --res");
  }
  const auto* source = static_cast<const char*>(image.data);
  const auto* target = static_cast<const char*>(restored.data);
  if (std::less<>()(source, target + shape.bytes(border)) && std::less<>()(target, source + shape.bytes(border))) {
    fail(SERPENT_ENGINE_INVALID_ARGUMENT, "image and restored overlap");
  }
  check_memory(kInput, image);
  check_memory(kOutput, restored);
}

void Engine::run(const serpent_engine_pictures& image, const serpent_engine_pictures& restored, void* stream) {
  check_pictures(image, restored);
  const serpent_adapter& calls = *backend_.calls;
  Pool::Lease slot = pool_->borrow();
  const bool on_device = image.memory == SERPENT_ENGINE_DEVICE && restored.memory == SERPENT_ENGINE_DEVICE;
  try {
    // The last run in this slot may be under way on another stream.
    call(calls.wait, runtime_.get(), slot->done, stream);
    enqueue(*slot, image, restored, stream);
    call(calls.record, runtime_.get(), slot->done, stream);
    if (!on_device) {
      call(calls.finish_stream, runtime_.get(), stream);
    }
  } catch (...) {
    // What was enqueued before the failure still uses the caller's memory and the slot's.
    (void)calls.finish_stream(runtime_.get(), stream, nullptr);
    slot.discard();
    throw;
  }
}

void Engine::set_shape(Slot& slot, const Shape& shape) const {
  const serpent_adapter& calls = *backend_.calls;
  // A new shape changes what the slot's last run may still be reading.
  call(calls.finish_event, runtime_.get(), slot.done);
  slot.shape = {};  // unknown, should the rest fail
  const auto sizes = axes(shape, *manifest_.border);
  call(calls.set_shape, slot.context, kInput, sizes.data());
  // The plan decides what is written, and the caller's memory or ours is only as large as the image.
  std::remove_const_t<decltype(sizes)> found = {};
  call(calls.get_shape, slot.context, kOutput, found.data());
  if (sizes != found) {
    fail(SERPENT_ENGINE_MODEL_FILE, plan_.string() + " makes " + kOutput + " of shape " + text(found) + " from " +
                                        kInput + " of shape " + text(sizes) +
                                        "; expected equal shapes; run serpent-export again");
  }
  slot.shape = shape;
}

void Engine::enqueue(Slot& slot, const serpent_engine_pictures& image, const serpent_engine_pictures& restored,
                     void* stream) {
  const serpent_adapter& calls = *backend_.calls;
  const Shape large = padded(shape_of(image), info());
  const auto usable = [&](const serpent_engine_pictures& pictures) {
    constexpr uintptr_t kAlignment = 256;  // what TensorRT asks of tensors
    return pictures.memory == SERPENT_ENGINE_DEVICE && shape_of(pictures) == large &&
           reinterpret_cast<uintptr_t>(pictures.data) % kAlignment == 0;
  };
  const auto own = [&](Slot::Buffer& buffer) {
    slot.reserve(buffer, large.bytes(*manifest_.border));
    return buffer.data;
  };
  char* source = usable(image) ? static_cast<char*>(image.data) : own(slot.image);
  char* target = usable(restored) ? static_cast<char*>(restored.data) : own(slot.restored);
  const Transfer transfer(calls, runtime_.get(), *manifest_.border, stream);
  if (source != image.data) {
    transfer.load(image, source, large);
  }
  if (slot.shape != large) {
    set_shape(slot, large);
  }
  call(calls.set_address, slot.context, kInput, static_cast<void*>(source));
  call(calls.set_address, slot.context, kOutput, static_cast<void*>(target));
  call(calls.enqueue, slot.context, stream);
  if (target != restored.data) {
    transfer.store(target, large, restored);
  }
}

}  // namespace serpent::engine
