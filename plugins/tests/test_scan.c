/* The C interface as a C program sees it: versions, sizes, refusals, and scans small enough to do by hand. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "serpent/scan.h"

static serpent_scan_shape shape_of(int64_t height, int64_t width, serpent_dtype dtype) {
  serpent_scan_shape shape = {1, 1, 1, 1, 1, 1, SERPENT_DTYPE_F32};
  shape.height = height;
  shape.width = width;
  shape.dtype = (int32_t)dtype;
  return shape;
}

static void test_versions(void) {
  CHECK(serpent_abi_version() == SERPENT_ABI_VERSION);
  CHECK(serpent_scan_schema() == SERPENT_SCAN_SCHEMA);
  CHECK(serpent_has_cuda() == 0 || serpent_has_cuda() == 1);
}

static void test_workspace_size(void) {
  serpent_scan_shape shape = shape_of(64, 64, SERPENT_DTYPE_F16);
  uint64_t small = 0;
  uint64_t large = 0;
  CHECK(serpent_scan_workspace_size(&shape, &small, NULL) == SERPENT_STATUS_OK);
  CHECK(small > 0);
  shape.width = 65;
  CHECK(serpent_scan_workspace_size(&shape, &large, NULL) == SERPENT_STATUS_OK);
  CHECK(large >= small);
  shape.width = INT64_MAX;
  CHECK(serpent_scan_workspace_size(&shape, &large, NULL) == SERPENT_STATUS_INVALID_ARGUMENT);
}

/* One pixel: all four directions start and end there, so h = dt B x and y = sum_k C_k dt B x + D_k x. */
static void test_one_pixel(void) {
  const float x[1] = {3.0F};
  const float x_dbl[12] = {1.0F, 0.5F, 1.0F, 1.0F, 0.5F, 2.0F, 1.0F, 0.5F, 3.0F, 1.0F, 0.5F, 4.0F};
  const float dt_weight[4] = {2.0F, 2.0F, 2.0F, 2.0F};
  const float dt_bias[4] = {-2.0F, -2.0F, -2.0F, -2.0F}; /* 2 * 1 - 2 = 0, so dt = ln 2 */
  const float A[4] = {-1.0F, -1.0F, -1.0F, -1.0F};
  const float D_skip[4] = {0.25F, 0.25F, 0.25F, 0.25F};
  float y[1] = {0.0F};
  const serpent_scan_tensors tensors = {x, x_dbl, dt_weight, dt_bias, A, D_skip, y};
  const serpent_scan_shape shape = shape_of(1, 1, SERPENT_DTYPE_F32);
  serpent_error error;
  CHECK(serpent_scan_cpu(&shape, &tensors, 1, &error) == SERPENT_STATUS_OK);
  CHECK(fabs((double)y[0] - (15.0 * kLn2 + 3.0)) < 1e-5);
}

/* Two pixels x = (1, 4), dt = ln 2, A = -1, so that the state halves at each step; B = C = 1, no skip.
 * Along: ln2 (1, 1/2 + 4). Back: ln2 (4/2 + 1, 4). Rows and columns visit them alike: twice the sum. */
static void test_two_pixels(int64_t height, int64_t width, int32_t threads) {
  const double x[2] = {1.0, 4.0};
  double x_dbl[24];
  const double zeros[4] = {0.0, 0.0, 0.0, 0.0};
  const double A[4] = {-1.0, -1.0, -1.0, -1.0};
  double y[2] = {0.0, 0.0};
  const serpent_scan_tensors tensors = {x, x_dbl, zeros, zeros, A, zeros, y};
  const serpent_scan_shape shape = shape_of(height, width, SERPENT_DTYPE_F64);
  int i;
  for (i = 0; i < 24; ++i) {
    x_dbl[i] = 1.0;
  }
  CHECK(serpent_scan_cpu(&shape, &tensors, threads, NULL) == SERPENT_STATUS_OK);
  CHECK(fabs(y[0] - 8.0 * kLn2) < 1e-12);
  CHECK(fabs(y[1] - 17.0 * kLn2) < 1e-12);
}

static void expect_refusal(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors, int32_t threads,
                           const char* named) {
  serpent_error error = {{0}};
  CHECK(serpent_scan_cpu(shape, tensors, threads, &error) == SERPENT_STATUS_INVALID_ARGUMENT);
  if (strstr(error.message, named) == NULL) {
    (void)fprintf(stderr, "the message \"%s\" does not name %s\n", error.message, named);
    ++failures;
  }
  CHECK(serpent_scan_cpu(shape, tensors, threads, NULL) == SERPENT_STATUS_INVALID_ARGUMENT);
}

static void test_refusals(void) {
  const float values[16] = {0.0F};
  float y[1] = {0.0F};
  const serpent_scan_tensors tensors = {values, values, values, values, values, values, y};
  const serpent_scan_shape good = shape_of(1, 1, SERPENT_DTYPE_F32);
  serpent_scan_shape shape = good;
  serpent_scan_tensors holed = tensors;

  expect_refusal(NULL, &tensors, 1, "shape");
  expect_refusal(&good, NULL, 1, "tensors");
  expect_refusal(&good, &tensors, 0, "num_threads");
  holed.D_skip = NULL;
  expect_refusal(&good, &holed, 1, "D_skip");
  shape.dtype = 9;
  expect_refusal(&shape, &tensors, 1, "dtype");
  shape = good;
  shape.batch = -1;
  expect_refusal(&shape, &tensors, 1, "batch");
  shape = good;
  shape.height = 0;
  expect_refusal(&shape, &tensors, 1, "height");
  shape = good;
  shape.d_state = 257;
  expect_refusal(&shape, &tensors, 1, "d_state");
  shape = good;
  shape.dt_rank = 0;
  expect_refusal(&shape, &tensors, 1, "dt_rank");
}

static void test_cuda_is_refused_without_kernels(void) {
  const float values[16] = {0.0F};
  float y[1] = {0.0F};
  serpent_scan_tensors tensors = {values, values, values, values, values, values, y};
  const serpent_scan_shape shape = shape_of(1, 1, SERPENT_DTYPE_F32);
  _Alignas(4) char workspace[512] = {0}; /* never touched: only its claimed size matters here */
  uint64_t bytes = 0;
  serpent_error error = {{0}};
  if (serpent_has_cuda()) {
    return;
  }
  CHECK(serpent_scan_workspace_size(&shape, &bytes, &error) == SERPENT_STATUS_OK);
  CHECK(serpent_scan_cuda(&shape, &tensors, workspace, bytes, NULL, &error) == SERPENT_STATUS_UNSUPPORTED);
  CHECK(strstr(error.message, "CUDA") != NULL);
  CHECK(serpent_scan_cuda(&shape, &tensors, workspace + 2, bytes, NULL, &error) == SERPENT_STATUS_INVALID_ARGUMENT);
  CHECK(strcmp(error.message, "workspace is not aligned to its elements of 4 bytes") == 0);
  tensors.A = (const char*)values + 2;
  CHECK(serpent_scan_cuda(&shape, &tensors, workspace, bytes, NULL, &error) == SERPENT_STATUS_INVALID_ARGUMENT);
  CHECK(strcmp(error.message, "A is not aligned to its elements of 4 bytes") == 0);
}

int main(void) {
  test_versions();
  test_workspace_size();
  test_one_pixel();
  test_two_pixels(1, 2, 1);
  test_two_pixels(2, 1, 1);
  test_two_pixels(1, 2, 3);
  test_refusals();
  test_cuda_is_refused_without_kernels();
  if (failures == 0) {
    (void)printf("all checks passed\n");
  }
  return failures == 0 ? 0 : 1;
}
