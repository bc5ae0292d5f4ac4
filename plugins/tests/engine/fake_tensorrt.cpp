// A TensorRT of one plan, compiled with the headers of one major version, so that the adapter for that version runs
// from its first line to its last without a GPU. The plan and what it computes are the stand-in's (standin.h).
//
// TensorRT's objects hand every call to an implementation with a table of functions. Writing all of its classes out
// would be longer than what it tests, so the tables here are arrays: the slots that the adapter uses are filled by the
// names of the functions, the others end the process.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "network.h"

#if !defined(__x86_64__)
#error "the tables are those of x86-64"
#endif

namespace {

using nvinfer1::Dims;

constexpr std::string_view kFirstLine = "serpent-standin 1\n";
nvinfer1::ILogger* logger = nullptr;

void complain(const char* what) { logger->log(nvinfer1::ILogger::Severity::kERROR, what); }

[[noreturn]] void unexpected() { std::abort(); }

// A table of functions, and the object that begins with its address.
class Table {
 public:
  Table() {
    for (void*& slot : slots_) {
      slot = reinterpret_cast<void*>(unexpected);
    }
  }

  // A pointer to a virtual member function holds its offset in the table, plus 1 (Itanium C++ ABI).
  template <class Member, class Function>
  Table& set(Member member, Function function) {
    ptrdiff_t offset = 0;
    std::memcpy(&offset, &member, sizeof(offset));
    slots_[static_cast<std::size_t>(offset - 1) / sizeof(void*)] = reinterpret_cast<void*>(function);
    return *this;
  }

  template <class Interface>
  Interface* as() {
    return reinterpret_cast<Interface*>(&table_);
  }

 private:
  void* slots_[128];
  void* const* table_ = slots_;
};

Dims dims(int64_t batch, int64_t height, int64_t width) { return nvinfer1::Dims4(batch, 3, height, width); }

bool is_image(const char* name) { return std::string_view(name) == "image"; }

class Context final : public nvinfer1::IExecutionContext {
 public:
  Context() {
    using Calls = nvinfer1::apiv::VExecutionContext;
    static Table table;
    table.set(&Calls::setInputShape, set_shape).set(&Calls::setTensorAddress, set_address);
    table.set(&Calls::getTensorShape, get_shape).set(&Calls::enqueueV3, enqueue);
    mImpl = table.as<Calls>();
    last = this;
  }

  // The tests run one context at a time: the calls, which get the table alone, mean the one made last.
  static inline Context* last = nullptr;

 private:
  static bool set_shape(void*, const char* name, const Dims& sizes) {
    const bool fits = is_image(name) && sizes.nbDims == 4 && sizes.d[2] >= 16 && sizes.d[2] <= 64;
    if (!fits) {
      complain("the fake refuses a shape");
    }
    last->shape_ = sizes;
    return fits;
  }

  static Dims get_shape(void*, const char* name) {
    return std::string_view(name) == "restored" ? last->shape_ : Dims{-1, {}};
  }

  static bool set_address(void*, const char* name, void* address) {
    (is_image(name) ? last->image_ : last->restored_) = static_cast<float*>(address);
    return reinterpret_cast<uintptr_t>(address) % 256 == 0;
  }

  static bool enqueue(void*, cudaStream_t) {
    const int64_t* sizes = last->shape_.d;
    standin::compute(last->image_, last->restored_, {sizes[0], sizes[1], sizes[2], sizes[3]});
    return true;
  }

  Dims shape_ = {};
  float* image_ = nullptr;
  float* restored_ = nullptr;
};

class Engine final : public nvinfer1::ICudaEngine {
 public:
  Engine() {
    using Calls = nvinfer1::apiv::VCudaEngine;
    static Table table;
    table.set(&Calls::getNbIOTensors, +[](void*) -> int32_t { return 2; });
    table.set(&Calls::getIOTensorName, +[](void*, int32_t index) { return index == 0 ? "image" : "restored"; });
    table.set(&Calls::getTensorShape, +[](void*, const char*) { return dims(-1, -1, -1); });
    table.set(&Calls::getTensorDataType, +[](void*, const char*) { return nvinfer1::DataType::kFLOAT; });
    table.set(&Calls::getTensorFormat, +[](void*, const char*) { return nvinfer1::TensorFormat::kLINEAR; });
    table.set(
        &Calls::getTensorIOMode, +[](void*, const char* name) {
          return is_image(name) ? nvinfer1::TensorIOMode::kINPUT : nvinfer1::TensorIOMode::kOUTPUT;
        });
    table.set(
        &Calls::getProfileShape, +[](void*, const char*, int32_t, nvinfer1::OptProfileSelector which) {
          return which == nvinfer1::OptProfileSelector::kMIN ? dims(1, 16, 16) : dims(2, 64, 48);
        });
    table.set(
        &Calls::createExecutionContext,
        +[](void*, nvinfer1::ExecutionContextAllocationStrategy) -> nvinfer1::IExecutionContext* {
          return new Context;
        });
    mImpl = table.as<Calls>();
  }
};

class Runtime final : public nvinfer1::IRuntime {
 public:
  Runtime() {
    using Calls = nvinfer1::apiv::VRuntime;
    using Deserialize = nvinfer1::ICudaEngine* (Calls::*)(const void*, std::size_t) noexcept;
    static Table table;
    table.set(&Calls::setEngineHostCodeAllowed, +[](void*, bool) {});
    table.set(
        static_cast<Deserialize>(&Calls::deserializeCudaEngine),
        +[](void*, const void* plan, std::size_t bytes) -> nvinfer1::ICudaEngine* {
          if (std::string_view(static_cast<const char*>(plan), bytes).starts_with(kFirstLine)) {
            return new Engine;
          }
          complain("the fake knows no such plan");
          return nullptr;
        });
    mImpl = table.as<Calls>();
  }
};

// Holds the creators of the libraries that it was told to load (fake_plugin.cpp), each once.
nvinfer1::IPluginRegistry* make_registry() {
  using Calls = nvinfer1::IPluginRegistry;
  using Creator = nvinfer1::IPluginCreatorInterface;
  static std::vector<Creator*> creators;
  static Table table;
  table.set(
      &Calls::getAllCreators, +[](void*, int32_t* count) -> Creator* const* {
        *count = static_cast<int32_t>(creators.size());
        return creators.data();
      });
  table.set(
      &Calls::loadLibrary, +[](void*, const char* path) -> void* {
        void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
          complain("the fake cannot load this");
          return nullptr;
        }
        int32_t count = 0;
        Creator* const* found = reinterpret_cast<Creator* const* (*)(int32_t&)>(dlsym(library, "getCreators"))(count);
        creators.insert(creators.end(), found, found + count);
        return library;
      });
  return table.as<Calls>();
}

}  // namespace

extern "C" {

int32_t getInferLibVersion() noexcept { return NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100; }
int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR; }
int32_t getInferLibMinorVersion() noexcept { return NV_TENSORRT_MINOR; }
int32_t getInferLibPatchVersion() noexcept { return 0; }
int32_t getInferLibBuildVersion() noexcept { return 5; }

void* createInferRuntime_INTERNAL(void* log, int32_t) noexcept {
  logger = static_cast<nvinfer1::ILogger*>(log);
  return static_cast<nvinfer1::IRuntime*>(new Runtime);
}

nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
  static nvinfer1::IPluginRegistry* const registry = make_registry();
  return registry;
}

}  // extern "C"
