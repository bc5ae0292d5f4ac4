// Which kernels the network's scans run on GPUs of several sizes: src/cuda/variants.cpp chooses them on the host. A
// change of that choice is to be seen here, and is no mistake by itself.
#include <cstdio>
#include <string>
#include <vector>

#include "cuda/variants.h"

namespace {

struct Row {
  int multiprocessors;  // 46 RTX 4070, 84 RTX A6000, 132 H100
  char variant;         // of the network: B, L, H embed patches of 4, 2 and 1 pixels
  int64_t batch;
  std::vector<std::string> chosen;  // at scale 0 to 3: the variant and its chunks
};

constexpr int64_t kSide = 512;  // pixels, of the picture
constexpr int64_t kChannels[] = {64, 128, 256, 512};
constexpr int64_t kStates[] = {6, 11, 22, 43};
constexpr int64_t kRanks[] = {2, 4, 8, 16};

const std::vector<Row> kTable = {
    {46, 'B', 1, {"n6 64", "n11-narrow 16", "n22-narrow 4", "n43-single 1"}},
    {46, 'B', 8, {"n6 23", "n11 11", "n22-single 1", "n43 1"}},
    {46, 'L', 1, {"n6 171", "n11 64", "n22 16", "n43-single 1"}},
    {46, 'L', 8, {"n6 32", "n11 11", "n22 2", "n43 1"}},
    {46, 'H', 1, {"n6 183", "n11 90", "n22 23", "n43 5"}},
    {46, 'H', 8, {"n6 128", "n11 32", "n22 8", "n43 2"}},
    {84, 'B', 1, {"n6 64", "n11-narrow 16", "n22-narrow 4", "n43-narrow 1"}},
    {84, 'B', 8, {"n6 40", "n11 16", "n22-single 1", "n43 1"}},
    {84, 'L', 1, {"n6 256", "n11-narrow 64", "n22-narrow 16", "n43-narrow 4"}},
    {84, 'L', 8, {"n6 42", "n11 21", "n22 5", "n43 1"}},
    {84, 'H', 1, {"n6 328", "n11 158", "n22 40", "n43 10"}},
    {84, 'H', 8, {"n6 128", "n11 32", "n22 8", "n43 2"}},
    {132, 'B', 1, {"n6 64", "n11-narrow 16", "n22-narrow 4", "n43-narrow 1"}},
    {132, 'B', 8, {"n6 64", "n11 16", "n22 4", "n43 1"}},
    {132, 'L', 1, {"n6 256", "n11-narrow 64", "n22-narrow 16", "n43-narrow 4"}},
    {132, 'L', 8, {"n6 64", "n11 32", "n22 8", "n43 1"}},
    {132, 'H', 1, {"n6 512", "n11 256", "n22 64", "n43 16"}},
    {132, 'H', 8, {"n6 128", "n11 33", "n22 8", "n43 2"}},
};

std::string chosen(const Row& row, int scale) {
  const int64_t side = kSide / (row.variant == 'B' ? 4 : row.variant == 'L' ? 2 : 1) >> scale;
  const serpent_scan_shape shape = {row.batch,         side, side, kChannels[scale], kStates[scale], kRanks[scale],
                                    SERPENT_DTYPE_BF16};
  const serpent::cuda::ScanPlan plan = serpent::cuda::plan_scan(shape, {}, row.multiprocessors);
  const int64_t chunks = (side * side + plan.chunk_tokens - 1) / plan.chunk_tokens;
  return std::string(plan.variant->name) + " " + std::to_string(chunks);
}

}  // namespace

int main() {
  int failures = 0;
  for (const Row& row : kTable) {
    for (int scale = 0; scale < 4; ++scale) {
      const std::string found = chosen(row, scale);
      const std::string& expected = row.chosen[static_cast<std::size_t>(scale)];
      if (found != expected) {
        std::fprintf(stderr, "%d multiprocessors, %c, batch %d, scale %d: \"%s\" is chosen, not \"%s\"\n",
                     row.multiprocessors, row.variant, static_cast<int>(row.batch), scale, found.c_str(),
                     expected.c_str());
        ++failures;
      }
    }
  }
  if (failures == 0) {
    std::printf("all checks passed\n");
  }
  return failures == 0 ? 0 : 1;
}
