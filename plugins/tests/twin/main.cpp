// Runs the CUDA kernels on CPU threads (src/cuda/twin) on one problem and holds what they compute against the f64
// oracle. tests/test_cuda_twin.py owns the list of problems.
//
//   cuda_twin variants                                  name, N, R and channels of a tile of each forward variant
//   cuda_twin misuse NAME                               runs a faulty kernel of misuse.cpp
//   cuda_twin forward|backward|oracle KEY=VALUE ...
//     shape=B,H,W,D,N,R    dtype=f32|f16|bf16   data=usual|slow-decay
//     variant=NAME         the forward variant; without it what the table chooses
//     chunk=TOKENS         length of a chunk of the sequence; without it what the table says
//     parts=COUNT          of a chunk in the forward pass, at most
//     warps=COUNT          that the backward pass aims at: few make a block walk several channel tiles
//     offset=ELEMENTS      where each array and the workspace start, past an aligned address
//     runs=COUNT           times to run, each with another order of blocks; all must agree bit by bit
//     spoil=ARRAY:INDEX:nan|inf   one element of x, x_dbl or grad_y
//     dump=FOLDER          (oracle) where to write inputs and results, raw f64
//
// Exit status: 0 all right, 1 a wrong result, 2 a failure with its message.
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "compare.h"
#include "cuda/twin/grid.h"
#include "failure.h"
#include "kernels.h"
#include "misuse.h"
#include "oracle.h"
#include "problem.h"

namespace twin_test {
namespace {

struct Command {
  std::string pass;
  Options options;
  Tuning tuning;
  size_t offset = 0;
  int runs = 2;
  std::string spoil;
  std::string dump;
};

[[noreturn]] void refuse(const std::string& message) {
  serpent::fail(SERPENT_STATUS_INVALID_ARGUMENT, message + "; the head of plugins/tests/twin/main.cpp lists what is");
}

void set(Command& command, const std::string& key, const std::string& value) {
  serpent_scan_shape& shape = command.options.shape;
  if (key == "shape") {
    std::istringstream sizes(value);
    char comma;
    sizes >> shape.batch >> comma >> shape.height >> comma >> shape.width >> comma >> shape.channels >> comma >>
        shape.d_state >> comma >> shape.dt_rank;
    if (sizes.fail()) {
      refuse("shape=" + value + " is not six sizes");
    }
  } else if (key == "dtype" && (value == "f32" || value == "f16" || value == "bf16")) {
    shape.dtype = value == "f32" ? SERPENT_DTYPE_F32 : value == "f16" ? SERPENT_DTYPE_F16 : SERPENT_DTYPE_BF16;
  } else if (key == "data" && (value == "usual" || value == "slow-decay")) {
    command.options.slow_decay = value == "slow-decay";
  } else if (key == "variant") {
    command.tuning.variant = value;
  } else if (key == "chunk") {
    command.tuning.chunk = std::stoll(value);
  } else if (key == "parts") {
    command.tuning.parts = std::stoll(value);
  } else if (key == "warps") {
    command.tuning.warps = std::stoll(value);
  } else if (key == "offset") {
    command.offset = std::stoull(value);
  } else if (key == "runs") {
    command.runs = std::stoi(value);
  } else if (key == "spoil") {
    command.spoil = value;
  } else if (key == "dump") {
    command.dump = value;
  } else {
    refuse(key + "=" + value + " is not known");
  }
}

Command parse(int count, char** words) {
  Command command;
  command.pass = count > 1 ? words[1] : "";
  if (command.pass != "forward" && command.pass != "backward" && command.pass != "oracle") {
    refuse("'" + command.pass + "' is not a pass");
  }
  for (int i = 2; i < count; ++i) {
    const std::string word = words[i];
    const size_t equals = std::min(word.find('='), word.size());
    set(command, word.substr(0, equals), word.substr(std::min(equals + 1, word.size())));
  }
  return command;
}

void spoil(const std::string& what, Inputs<double>& in) {
  std::istringstream words(what);
  std::string name;
  std::string index;
  std::string value;
  std::getline(words, name, ':');
  std::getline(words, index, ':');
  std::getline(words, value);
  auto* array = name == "x" ? &in.x : name == "x_dbl" ? &in.x_dbl : name == "grad_y" ? &in.grad_y : nullptr;
  if (array == nullptr || (value != "nan" && value != "inf")) {
    refuse("spoil=" + what + " is not known");
  }
  const bool nan = value == "nan";
  array->at(std::stoull(index)) =
      nan ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
}

// The arrays as the C interface takes them.
struct Arrays {
  Array x, x_dbl, dt_weight, dt_bias, A, D_skip, y;
  Array grad_y, grad_x, grad_x_dbl, grad_dt_weight, grad_dt_bias, grad_A, grad_D_skip;

  Arrays(const Inputs<double>& in, serpent_dtype dtype, size_t offset)
      : x(dtype, in.x.size(), offset),
        x_dbl(dtype, in.x_dbl.size(), offset),
        dt_weight(SERPENT_DTYPE_F32, in.dt_weight.size(), offset),
        dt_bias(SERPENT_DTYPE_F32, in.dt_bias.size(), offset),
        A(SERPENT_DTYPE_F32, in.A.size(), offset),
        D_skip(SERPENT_DTYPE_F32, in.D_skip.size(), offset),
        y(dtype, in.x.size(), offset),
        grad_y(dtype, in.x.size(), offset),
        grad_x(dtype, in.x.size(), offset),
        grad_x_dbl(dtype, in.x_dbl.size(), offset),
        grad_dt_weight(SERPENT_DTYPE_F32, in.dt_weight.size(), offset),
        grad_dt_bias(SERPENT_DTYPE_F32, in.dt_bias.size(), offset),
        grad_A(SERPENT_DTYPE_F32, in.A.size(), offset),
        grad_D_skip(SERPENT_DTYPE_F32, in.D_skip.size(), offset) {
    x.assign(in.x);
    x_dbl.assign(in.x_dbl);
    dt_weight.assign(in.dt_weight);
    dt_bias.assign(in.dt_bias);
    A.assign(in.A);
    D_skip.assign(in.D_skip);
    grad_y.assign(in.grad_y);
  }

  serpent_scan_tensors tensors() const {
    return {x.data(), x_dbl.data(), dt_weight.data(), dt_bias.data(), A.data(), D_skip.data(), y.data()};
  }

  serpent_scan_gradients gradients() const {
    return {grad_y.data(),       grad_x.data(), grad_x_dbl.data(), grad_dt_weight.data(),
            grad_dt_bias.data(), grad_A.data(), grad_D_skip.data()};
  }

  std::vector<Array*> outputs(bool forward) {
    return forward ? std::vector{&y}
                   : std::vector{&grad_x, &grad_x_dbl, &grad_dt_weight, &grad_dt_bias, &grad_A, &grad_D_skip};
  }
};

using Bytes = std::vector<unsigned char>;

// One run on arrays and a workspace full of NaN; the bytes of all outputs.
Bytes run_once(const Command& command, Arrays& arrays, uint64_t seed) {
  const bool forward = command.pass == "forward";
  serpent::cuda::twin::set_seed(seed);
  for (Array* output : arrays.outputs(forward)) {
    output->fill_with_nan();
  }
  const serpent_scan_shape& shape = command.options.shape;
  if (forward) {
    run_forward(shape, arrays.tensors(), command.tuning, command.offset);
  } else {
    serpent_scan_tensors tensors = arrays.tensors();
    tensors.y = nullptr;  // a backward pass may not read it
    run_backward(shape, tensors, arrays.gradients(), command.tuning, command.offset);
  }
  Bytes bytes;
  for (const Array* output : arrays.outputs(forward)) {
    const auto* data = static_cast<const unsigned char*>(output->data());
    bytes.insert(bytes.end(), data, data + output->bytes());
  }
  return bytes;
}

bool compare_all(const Command& command, const Arrays& arrays, const Inputs<double>& in) {
  const serpent_scan_shape& shape = command.options.shape;
  const auto dtype = static_cast<serpent_dtype>(shape.dtype);
  const auto D = static_cast<size_t>(shape.channels);
  const auto N = static_cast<size_t>(shape.d_state);
  const auto R = static_cast<size_t>(shape.dt_rank);
  const Results<double> truth = oracle(shape, in);
  const Results<float> single = oracle(shape, converted<float>(in));
  const auto check = [&](const char* name, const Array& array, serpent_dtype stored,
                         const std::vector<double>& expected, const std::vector<float>& plain, size_t channels,
                         size_t inner, int64_t longest_sum) {
    const std::vector<double> result = array.values();
    const std::vector<double> widened(plain.begin(), plain.end());
    return compare({name, stored, result, expected, widened, channels, inner,
                    std::numeric_limits<float>::epsilon() * std::sqrt(static_cast<double>(longest_sum))});
  };
  if (command.pass == "forward") {
    return check("y", arrays.y, dtype, truth.y, {}, D, 1, 0);
  }
  // A weight's gradient adds up all pixels; its channels are the four directions.
  const int64_t pixels = shape.batch * shape.height * shape.width;
  constexpr serpent_dtype kF32 = SERPENT_DTYPE_F32;
  bool good = check("x", arrays.grad_x, dtype, truth.x, single.x, D, 1, shape.d_state);
  good &= check("x_dbl", arrays.grad_x_dbl, dtype, truth.x_dbl, single.x_dbl, 4 * (R + 2 * N), 1, shape.channels);
  good &= check("dt_weight", arrays.grad_dt_weight, kF32, truth.dt_weight, single.dt_weight, 4, D * R, pixels);
  good &= check("dt_bias", arrays.grad_dt_bias, kF32, truth.dt_bias, single.dt_bias, 4, D, pixels);
  good &= check("A", arrays.grad_A, kF32, truth.A, single.A, 4, D * N, pixels);
  good &= check("D_skip", arrays.grad_D_skip, kF32, truth.D_skip, single.D_skip, 4, D, pixels);
  return good;
}

void dump(const std::string& folder, const Inputs<double>& in, const Results<double>& out) {
  const auto write = [&](const char* name, const std::vector<double>& values) {
    std::ofstream file(folder + "/" + name + ".f64", std::ios::binary);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(double)));
    if (!file.flush()) {
      refuse("dump=" + folder + " cannot be written to");
    }
  };
  write("x", in.x);
  write("x_dbl", in.x_dbl);
  write("dt_weight", in.dt_weight);
  write("dt_bias", in.dt_bias);
  write("A", in.A);
  write("D_skip", in.D_skip);
  write("grad_y", in.grad_y);
  write("y", out.y);
  write("grad_x", out.x);
  write("grad_x_dbl", out.x_dbl);
  write("grad_dt_weight", out.dt_weight);
  write("grad_dt_bias", out.dt_bias);
  write("grad_A", out.A);
  write("grad_D_skip", out.D_skip);
}

int run(const Command& command) {
  Inputs<double> in = make_inputs(command.options);
  if (!command.spoil.empty()) {
    spoil(command.spoil, in);
  }
  if (command.pass == "oracle") {
    dump(command.dump, in, oracle(command.options.shape, in));
    return 0;
  }
  Arrays arrays(in, static_cast<serpent_dtype>(command.options.shape.dtype), command.offset);
  const Bytes first = run_once(command, arrays, 0);
  bool good = true;
  for (int i = 1; i < command.runs; ++i) {
    if (run_once(command, arrays, static_cast<uint64_t>(i)) != first) {
      std::printf("run %d differs from run 0: the result depends on the order of blocks\n", i);
      good = false;
    }
  }
  return compare_all(command, arrays, in) && good ? 0 : 1;
}

}  // namespace
}  // namespace twin_test

int main(int count, char** words) {
  try {
    if (count == 2 && std::strcmp(words[1], "variants") == 0) {
      for (const std::string& line : twin_test::variant_lines()) {
        std::printf("%s\n", line.c_str());
      }
      return 0;
    }
    if (count == 3 && std::strcmp(words[1], "misuse") == 0) {
      twin_test::run_misuse(words[2]);
      std::printf("nothing was noticed\n");
      return 0;
    }
    return twin_test::run(twin_test::parse(count, words));
  } catch (const serpent::Failure& failure) {
    std::printf("failure %d: %s\n", failure.status, failure.message.c_str());
  } catch (const std::exception& error) {
    std::printf("failure: %s\n", error.what());
  }
  return 2;
}
