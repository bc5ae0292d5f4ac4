// The stand-in's GPU over CUDA: the code of the adapters over TensorRT, on the first device. What the network computes
// is computed on the CPU, between two copies, in the stream's order.
#include <dlfcn.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "../../src/engine/tensorrt/cuda_calls.h"
#include "standin_gpu.h"

// cuda.h renames functions to their current revision; so must the name that is looked up.
#define SERPENT_NAME_OF(function) #function
#define SERPENT_FIND(function) \
  reinterpret_cast<decltype(&::function)>(dlsym(driver_library(), SERPENT_NAME_OF(function)))

namespace standin::gpu {
namespace {

namespace calls = serpent::engine;

std::atomic<std::size_t> allocated = 0;

const calls::CudaDriver& cuda() {
  static const auto* const the_driver = new calls::CudaDriver(0);  // streams may still use it while the process ends
  return *the_driver;
}

void* driver_library() { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); }

// Host memory that copies reach without the CPU. Blocks are used again and never freed.
class Staging {
 public:
  void* take(std::size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = idle_.find(bytes); found != idle_.end()) {
        void* block = found->second;
        idle_.erase(found);
        return block;
      }
    }
    static const auto allocate_host = SERPENT_FIND(cuMemHostAlloc);
    const calls::CudaDriver::Scope current(cuda());
    void* block = nullptr;
    cuda().check(allocate_host(&block, bytes, 0), "cuMemHostAlloc");
    return block;
  }

  void give_back(void* block, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    idle_.emplace(bytes, block);
  }

 private:
  std::mutex mutex_;
  std::multimap<std::size_t, void*> idle_;
};

Staging& staging() {
  static Staging* const the_staging = new Staging;
  return *the_staging;
}

// The driver calls `task` in the stream's order, from a thread of its own.
void enqueue_on_host(void* stream, std::function<void()> task) {
  static const auto launch_host = SERPENT_FIND(cuLaunchHostFunc);
  auto kept = std::make_unique<std::function<void()>>(std::move(task));
  const auto run = [](void* given) {
    const std::unique_ptr<std::function<void()>> owned(static_cast<std::function<void()>*>(given));
    (*owned)();
  };
  const calls::CudaDriver::Scope current(cuda());
  cuda().check(launch_host(static_cast<CUstream>(stream), run, kept.get()), "cuLaunchHostFunc");
  (void)kept.release();
}

void copy_bytes(void* target, const void* source, std::size_t bytes, serpent_adapter_direction direction,
                void* stream) {
  calls::copy(cuda(), {target, source, bytes, bytes, bytes, 1, direction}, stream);
}

}  // namespace

void* allocate(std::size_t bytes) {
  static const auto fill = SERPENT_FIND(cuMemsetD8);
  void* address = calls::allocate(cuda(), bytes);
  ++allocated;
  const calls::CudaDriver::Scope current(cuda());
  cuda().check(fill(reinterpret_cast<CUdeviceptr>(address), 0xFF, bytes), "cuMemsetD8");
  calls::finish_stream(cuda(), nullptr);
  return address;
}

void release(void* address) {
  calls::release(cuda(), address);
  --allocated;
}

std::size_t allocations() { return allocated; }

serpent_adapter_place locate(const void* address) { return calls::locate(cuda(), address); }

void copy(const serpent_adapter_copy& piece, void* stream) { calls::copy(cuda(), piece, stream); }

serpent_adapter_event* create_event() { return calls::create_event(cuda()); }

void destroy_event(serpent_adapter_event* event) { calls::destroy_event(cuda(), event); }

void record(serpent_adapter_event& event, void* stream) { calls::record(cuda(), event, stream); }

void wait(serpent_adapter_event& event, void* stream) { calls::wait(cuda(), event, stream); }

void finish_event(serpent_adapter_event& event) { calls::finish_event(cuda(), event); }

void finish_stream(void* stream) { calls::finish_stream(cuda(), stream); }

void launch(void* stream, const void* image, void* restored, std::size_t bytes,
            std::function<void(const void*, void*)> body) {
  char* const block = static_cast<char*>(staging().take(2 * bytes));
  copy_bytes(block, image, bytes, SERPENT_ADAPTER_TO_HOST, stream);
  enqueue_on_host(stream, [body = std::move(body), block, bytes] { body(block, block + bytes); });
  copy_bytes(restored, block + bytes, bytes, SERPENT_ADAPTER_TO_DEVICE, stream);
  enqueue_on_host(stream, [block, bytes] { staging().give_back(block, 2 * bytes); });
}

void* stream(int number) {
  static std::mutex mutex;
  static auto* const made = new std::map<int, CUstream>;
  static const auto create = SERPENT_FIND(cuStreamCreate);
  const std::lock_guard lock(mutex);
  CUstream& found = (*made)[number];
  if (found == nullptr) {
    const calls::CudaDriver::Scope current(cuda());
    cuda().check(create(&found, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }
  return found;
}

}  // namespace standin::gpu
