// Runs the finished plugin library as TensorRT would, without TensorRT, and holds what it computes against the f64
// oracle of the twin tests: all scales of the network variants H, L and B for a square image, in f32, f16 and bf16.
// Each scan runs once by itself and, where the device has graphs, twice more from a captured graph, which must give the
// same bits; nothing may be written outside y and the workspace.
//
//   plugin_harness LIBRARY [SIDE]     SIDE of the image in pixels, 512 without it; LIBRARY "" is this program itself
//
// Exit status: 0 all right, 1 a wrong result, 2 a failure with its message.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "compare.h"
#include "harness_plugin.h"
#include "oracle.h"
#include "problem.h"

namespace plugin_harness {
namespace {

using twin_test::Array;

struct Case {
  std::string name;
  serpent_scan_shape shape;
};

std::vector<Case> cases(int64_t side) {
  struct Scale {
    int64_t channels, d_state, dt_rank;
  };
  constexpr Scale kScales[] = {{64, 6, 2}, {128, 11, 4}, {256, 22, 8}, {512, 43, 16}};
  constexpr std::pair<const char*, int64_t> kPatches[] = {{"H", 1}, {"L", 2}, {"B", 4}};
  constexpr std::pair<const char*, serpent_dtype> kTypes[] = {
      {"f32", SERPENT_DTYPE_F32}, {"f16", SERPENT_DTYPE_F16}, {"bf16", SERPENT_DTYPE_BF16}};
  std::vector<Case> all;
  for (const auto& [variant, patch] : kPatches) {
    for (int64_t scale = 0; scale < 4; ++scale) {
      const auto& [D, N, R] = kScales[scale];
      const int64_t pixels = std::max<int64_t>(1, side / patch >> scale);
      for (const auto& [dtype_name, dtype] : kTypes) {
        all.push_back({variant + std::to_string(scale) + " " + dtype_name, {1, pixels, pixels, D, N, R, dtype}});
      }
    }
  }
  return all;
}

// y alone; the channels are independent.
std::vector<double> exact(const serpent_scan_shape& shape, const twin_test::Inputs<double>& in) {
  twin_test::Results<double> out;
  out.y.resize(in.x.size());
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    for (int64_t job = next++; job < shape.batch * shape.channels; job = next++) {
      for (int64_t k = 0; k < 4; ++k) {
        twin_test::Sequence<double>(shape, in, out, job / shape.channels, k, job % shape.channels).forward();
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return out.y;
}

bool expect(bool good, const std::string& name, const char* what) {
  if (!good) {
    std::printf("%s WRONG: %s\n", name.c_str(), what);
  }
  return good;
}

bool run(nvinfer1::IPluginCreatorV3One& creator, const Case& wanted) {
  const serpent_scan_shape& shape = wanted.shape;
  const auto dtype = static_cast<serpent_dtype>(shape.dtype);
  const twin_test::Inputs<double> in = twin_test::make_inputs({shape, false, 0});

  std::vector<std::unique_ptr<GuardedMemory>> memory;
  std::vector<const void*> inputs;
  std::vector<std::vector<char>> originals;
  const auto add = [&](serpent_dtype type, const std::vector<double>& values) {
    Array host(type, values.size(), 0);
    host.assign(values);
    memory.push_back(std::make_unique<GuardedMemory>(host.bytes()));
    copy_in(memory.back()->data(), host.data(), host.bytes());
    inputs.push_back(memory.back()->data());
    originals.push_back(memory.back()->contents());
  };
  add(dtype, in.x);
  add(dtype, in.x_dbl);
  add(SERPENT_DTYPE_F32, in.dt_weight);
  add(SERPENT_DTYPE_F32, in.dt_bias);
  add(SERPENT_DTYPE_F32, in.A);
  add(SERPENT_DTYPE_F32, in.D_skip);

  PluginRun plugin(creator, shape);
  Array result(dtype, in.x.size(), 0);
  GuardedMemory y(result.bytes());
  GuardedMemory workspace(plugin.workspace_bytes());
  const auto spoil = [&] {
    y.fill_with_nan();
    workspace.fill_with_nan();
  };
  spoil();
  const auto enqueue = [&] { plugin.enqueue(inputs, y.data(), workspace.data()); };
  enqueue();
  const std::vector<char> first = y.contents();
  std::copy(first.begin(), first.end(), static_cast<char*>(result.data()));
  const std::vector<double> truth = exact(shape, in);
  bool good =
      twin_test::compare({wanted.name, dtype, result.values(), truth, {}, static_cast<size_t>(shape.channels), 1, 0});
  if (has_graphs()) {
    run_captured(enqueue, spoil, 2);
    good &= expect(y.contents() == first, wanted.name, "a captured graph gives another result");
  }
  good &= expect(y.zones_are_untouched(), wanted.name, "something was written outside of y");
  good &= expect(workspace.zones_are_untouched(), wanted.name, "something was written outside of the workspace");
  for (size_t i = 0; i < memory.size(); ++i) {
    good &= expect(memory[i]->contents() == originals[i] && memory[i]->zones_are_untouched(), wanted.name,
                   "an input was written to");
  }
  return good;
}

int run_all(const char* library, int64_t side) {
  nvinfer1::IPluginCreatorV3One& creator = find_creator(library);
  int wrong = 0;
  const std::vector<Case> all = cases(side);
  for (const Case& wanted : all) {
    wrong += run(creator, wanted) ? 0 : 1;
    std::fflush(stdout);
  }
  std::printf("plugin harness: %zu scans, %d wrong, %s\n", all.size(), wrong,
              has_graphs() ? "each also from a captured graph" : "without graphs");
  return wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace plugin_harness

int main(int argc, char** argv) {
  try {
    const int64_t side = argc == 3 ? std::strtoll(argv[2], nullptr, 10) : 512;
    if (argc < 2 || argc > 3 || side < 1) {
      throw std::runtime_error("usage: plugin_harness LIBRARY [SIDE]");
    }
    return plugin_harness::run_all(argv[1], side);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plugin_harness: %s\n", error.what());
    return 2;
  }
}
