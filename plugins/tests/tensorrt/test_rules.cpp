// What types, layouts and shapes a build may have, and the workspace that follows.
#include <algorithm>

#include "support.h"

namespace plugin_test {
namespace {

using nvinfer1::DataType;
using nvinfer1::TensorFormat;

constexpr DataType kTypesOfX[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};

bool is_type_of_x(DataType type) { return std::ranges::find(kTypesOfX, type) != std::end(kTypesOfX); }

void test_output_types() {
  const Plugin plugin = create();
  const auto& build = build_side(*plugin);
  DataType out{};
  for (const DataType x : kTypesOfX) {
    const DataType in[] = {x, x, DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT};
    CHECK(build.getOutputDataTypes(&out, 1, in, 6) == 0);
    CHECK(out == x);
  }
  CHECK(take_messages().empty());
  const DataType f32 = DataType::kFLOAT;
  const DataType ints[] = {DataType::kINT32, DataType::kINT32, f32, f32, f32, f32};
  CHECK(build.getOutputDataTypes(&out, 1, ints, 6) != 0);
  CHECK_SAID("getOutputDataTypes: input x has type INT32; expected one of FLOAT, HALF, BF16");
  const DataType mixed[] = {DataType::kHALF, f32, f32, f32, f32, f32};
  CHECK(build.getOutputDataTypes(&out, 1, mixed, 6) != 0);
  CHECK_SAID("getOutputDataTypes: input x_dbl has type FLOAT; expected HALF");
  const DataType weights[] = {f32, f32, f32, f32, DataType::kBF16, f32};
  CHECK(build.getOutputDataTypes(&out, 1, weights, 6) != 0);
  CHECK_SAID("getOutputDataTypes: input A has type BF16; expected FLOAT");
  const DataType unknown[] = {static_cast<DataType>(50), f32, f32, f32, f32, f32};
  CHECK(build.getOutputDataTypes(&out, 1, unknown, 6) != 0);
  CHECK_SAID("getOutputDataTypes: input x has type number 50; expected one of FLOAT, HALF, BF16");
  CHECK(build.getOutputDataTypes(&out, 1, mixed, 5) != 0);
  CHECK_SAID("getOutputDataTypes: 5 inputs and 1 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1");
  CHECK(build.getOutputDataTypes(&out, 2, mixed, 6) != 0);
  CHECK_SAID("getOutputDataTypes: 6 inputs and 2 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1");
  CHECK(build.getOutputDataTypes(nullptr, 1, mixed, 6) != 0);
  CHECK_SAID("getOutputDataTypes: outputTypes is NULL");
  CHECK(build.getOutputDataTypes(&out, 1, nullptr, 6) != 0);
  CHECK_SAID("getOutputDataTypes: inputTypes is NULL");
}

void test_output_shapes() {
  const Plugin plugin = create();
  auto& build = build_side(*plugin);
  CHECK(build.getNbOutputs() == 1);
  // Only their addresses count: the output's sizes are those of x, whatever they are.
  const std::array<char, 32> marks{};
  const auto expression = [&](size_t i) { return reinterpret_cast<const nvinfer1::IDimensionExpr*>(&marks[i]); };
  alignas(16) char nothing[64]{};
  auto& builder = reinterpret_cast<nvinfer1::IExprBuilder&>(nothing);
  const int32_t ranks[] = {4, 4, 3, 2, 3, 2};
  std::array<nvinfer1::DimsExprs, 6> in{};
  for (size_t i = 0; i < in.size(); ++i) {
    in[i].nbDims = ranks[i];
    std::ranges::generate_n(in[i].d, 4, [&, axis = size_t{0}]() mutable { return expression(4 * i + axis++); });
  }
  nvinfer1::DimsExprs out{};
  CHECK(build.getOutputShapes(in.data(), 6, nullptr, 0, &out, 1, builder) == 0);
  CHECK(out.nbDims == 4);
  CHECK(std::equal(out.d, out.d + 4, in[0].d));
  CHECK(build.getOutputShapes(in.data(), 6, in.data(), 1, &out, 1, builder) != 0);
  CHECK_SAID("getOutputShapes: 1 shape inputs; expected none");
  CHECK(build.getOutputShapes(nullptr, 6, nullptr, 0, &out, 1, builder) != 0);
  CHECK_SAID("getOutputShapes: inputs is NULL");
  CHECK(build.getOutputShapes(in.data(), 6, nullptr, 0, nullptr, 1, builder) != 0);
  CHECK_SAID("getOutputShapes: outputs is NULL");
  CHECK(build.getOutputShapes(in.data(), 7, nullptr, 0, &out, 1, builder) != 0);
  CHECK_SAID("getOutputShapes: 7 inputs and 1 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1");
  in[4].nbDims = 2;
  CHECK(build.getOutputShapes(in.data(), 6, nullptr, 0, &out, 1, builder) != 0);
  CHECK_SAID("getOutputShapes: input A has rank 2; expected 3");
}

// For every type of x: each tensor in every type and layout there is.
void test_formats() {
  const Plugin plugin = create();
  auto& build = build_side(*plugin);
  int accepted = 0;
  for (const DataType x : kTypesOfX) {
    for (int position = 0; position < 7; ++position) {
      for (int type = 0; type <= 12; ++type) {
        for (int format = 0; format <= 13; ++format) {
          auto tensors = Tensors(kShape, x).dynamic();
          nvinfer1::PluginTensorDesc& asked = tensors[static_cast<size_t>(position)].desc;
          asked.type = static_cast<DataType>(type);
          asked.format = static_cast<TensorFormat>(format);
          const bool features = position == 1 || position == 6;
          const bool fits = position == 0 ? is_type_of_x(asked.type) : asked.type == (features ? x : DataType::kFLOAT);
          const bool answer = build.supportsFormatCombination(position, tensors.data(), 6, 1);
          CHECK(answer == (fits && asked.format == TensorFormat::kLINEAR));
          accepted += answer ? 1 : 0;
        }
      }
    }
  }
  CHECK(accepted == 3 * (3 + 6));
  CHECK(take_messages().empty());
  const auto tensors = Tensors(kShape).dynamic();
  for (const int position : {-1, 7}) {
    CHECK(!build.supportsFormatCombination(position, tensors.data(), 6, 1));
    CHECK_SAID("supportsFormatCombination: position " + std::to_string(position) + " is none of the 7 tensors");
  }
  CHECK(!build.supportsFormatCombination(0, nullptr, 6, 1));
  CHECK_SAID("supportsFormatCombination: inOut is NULL");
  CHECK(!build.supportsFormatCombination(0, tensors.data(), 6, 0));
  CHECK_SAID(
      "supportsFormatCombination: 6 inputs and 0 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1");
}

void test_workspace() {
  const Plugin plugin = create();
  auto& build = build_side(*plugin);
  size_t before = 0;
  for (const int64_t side : {1, 16, 17, 512, 2000}) {
    serpent_scan_shape shape = kShape;
    shape.height = shape.width = side;
    for (const DataType x : kTypesOfX) {
      shape.dtype = x == DataType::kFLOAT  ? SERPENT_DTYPE_F32
                    : x == DataType::kHALF ? SERPENT_DTYPE_F16
                                           : SERPENT_DTYPE_BF16;
      const auto tensors = Tensors(shape, x).dynamic();
      CHECK(build.configurePlugin(tensors.data(), 6, tensors.data() + 6, 1) == 0);
      const size_t bytes = build.getWorkspaceSize(tensors.data(), 6, tensors.data() + 6, 1);
      // Two f32 pictures at least, and never less for a larger shape.
      CHECK(bytes >= static_cast<size_t>(2 * 4 * shape.batch * side * side * shape.channels));
      CHECK(bytes >= before);
      before = bytes;
    }
  }
  CHECK(take_messages().empty());
}

void test_refused_shapes() {
  const Plugin plugin = create();
  auto& build = build_side(*plugin);
  const auto refused = [&](size_t tensor, size_t axis, int64_t size) {
    auto tensors = Tensors(kShape).dynamic();
    tensors[tensor].max.d[axis] = size;
    CHECK(build.configurePlugin(tensors.data(), 6, tensors.data() + 6, 1) != 0);
  };
  refused(0, 3, 17);
  CHECK_SAID("configurePlugin: input dt_weight has shape (4, 16, 2); expected (4, 17, 2)");
  refused(1, 3, 57);
  CHECK_SAID("configurePlugin: input x_dbl has shape (2, 5, 9, 57); expected (2, 5, 9, 56)");
  refused(2, 0, 3);
  CHECK_SAID("configurePlugin: input dt_weight has shape (3, 16, 2); expected (4, 16, 2)");
  refused(3, 1, 15);
  CHECK_SAID("configurePlugin: input dt_bias has shape (4, 15); expected (4, 16)");
  refused(4, 1, 1);
  CHECK_SAID("configurePlugin: input A has shape (4, 1, 6); expected (4, 16, 6)");
  refused(5, 0, 5);
  CHECK_SAID("configurePlugin: input D_skip has shape (5, 16); expected (4, 16)");
  refused(6, 1, 6);
  CHECK_SAID("configurePlugin: output y has shape (2, 6, 9, 16); expected (2, 5, 9, 16)");
  refused(4, 2, 65);
  CHECK_SAID("configurePlugin: d_state is 65; expected >= 1 and <= 64");
  refused(2, 2, int64_t{1} << 62);
  CHECK_SAID("configurePlugin: dt_rank is 4611686018427387904; expected >= 1 and <= 64");
  refused(0, 1, 0);
  CHECK_SAID("configurePlugin: height is 0; expected >= 1");
  refused(0, 0, -1);
  CHECK_SAID("configurePlugin: batch is -1; expected >= 0");

  auto tensors = Tensors(kShape).dynamic();
  tensors[3].max.nbDims = 9;
  CHECK(build.configurePlugin(tensors.data(), 6, tensors.data() + 6, 1) != 0);
  CHECK_SAID("configurePlugin: input dt_bias has rank 9; expected 2");
  CHECK(build.configurePlugin(nullptr, 6, tensors.data() + 6, 1) != 0);
  CHECK_SAID("configurePlugin: the tensors' descriptions are NULL");
  CHECK(build.configurePlugin(tensors.data(), 6, nullptr, 1) != 0);
  CHECK_SAID("configurePlugin: the tensors' descriptions are NULL");
  CHECK(build.configurePlugin(tensors.data(), 5, tensors.data() + 6, 1) != 0);
  CHECK_SAID("configurePlugin: 5 inputs and 1 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1");
  // A size that no GPU has, where none can be told: 0 would pass for "needs no workspace".
  CHECK(build.getWorkspaceSize(tensors.data(), 6, tensors.data() + 6, 1) == size_t{1} << 62);
  CHECK_SAID("getWorkspaceSize: input dt_bias has rank 9; expected 2");
  CHECK(build.getWorkspaceSize(nullptr, 6, tensors.data() + 6, 1) == size_t{1} << 62);
  CHECK_SAID("getWorkspaceSize: the tensors' descriptions are NULL");
}

}  // namespace

void test_rules() {
  test_output_types();
  test_output_shapes();
  test_formats();
  test_workspace();
  test_refused_shapes();
}

}  // namespace plugin_test
