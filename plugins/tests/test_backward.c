/* The backward pass as a C program sees it: gradients small enough to do by hand, and refusals. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "serpent/scan.h"

static int near(double value, double expected) { return fabs(value - expected) < 1e-12; }

static serpent_scan_shape shape_of(int64_t height, int64_t width) {
  serpent_scan_shape shape = {1, 1, 1, 1, 1, 1, SERPENT_DTYPE_F64};
  shape.height = height;
  shape.width = width;
  return shape;
}

/* One pixel, all four directions: y = sum_k C_k dt B_k x + D_k x, dt = softplus(2 dt_r - 2) = ln 2 at dt_r = 1, where
 * d dt / d raw = 1/2. With gy = 10 the factor of everything is 10. */
static void test_one_pixel(void) {
  const double x[1] = {3.0};
  const double x_dbl[12] = {1.0, 0.5, 1.0, 1.0, 0.5, 2.0, 1.0, 0.5, 3.0, 1.0, 0.5, 4.0}; /* dt_r, B, C */
  const double dt_weight[4] = {2.0, 2.0, 2.0, 2.0};
  const double dt_bias[4] = {-2.0, -2.0, -2.0, -2.0};
  const double A[4] = {-1.0, -1.0, -1.0, -1.0};
  const double D_skip[4] = {0.25, 0.25, 0.25, 0.25};
  const double grad_y[1] = {10.0};
  double grad_x[1];
  double grad_x_dbl[12];
  double grad_dt_weight[4];
  double grad_dt_bias[4];
  double grad_A[4];
  double grad_D_skip[4];
  const serpent_scan_tensors tensors = {x, x_dbl, dt_weight, dt_bias, A, D_skip, NULL};
  const serpent_scan_gradients gradients = {grad_y,       grad_x, grad_x_dbl, grad_dt_weight,
                                            grad_dt_bias, grad_A, grad_D_skip};
  const serpent_scan_shape shape = shape_of(1, 1);
  int k;
  CHECK(serpent_scan_backward_cpu(&shape, &tensors, &gradients, 1, NULL) == SERPENT_STATUS_OK);
  CHECK(near(grad_x[0], 10.0 * (kLn2 * 0.5 * (1.0 + 2.0 + 3.0 + 4.0) + 4 * 0.25)));
  for (k = 0; k < 4; ++k) {
    const double C = k + 1.0;
    const double grad_raw = 10.0 * C * 0.5 * 3.0 / 2; /* gy C B x / 2 */
    CHECK(near(grad_x_dbl[3 * k], grad_raw * 2.0));
    CHECK(near(grad_x_dbl[3 * k + 1], 10.0 * C * kLn2 * 3.0));
    CHECK(near(grad_x_dbl[3 * k + 2], 10.0 * kLn2 * 0.5 * 3.0));
    CHECK(near(grad_dt_weight[k], grad_raw)); /* dt_r = 1 */
    CHECK(near(grad_dt_bias[k], grad_raw));
    CHECK(grad_A[k] == 0.0); /* no state before the only pixel */
    CHECK(near(grad_D_skip[k], 10.0 * 3.0));
  }
}

/* Two pixels x = (1, 4), dt = ln 2, A = -1, B = C = 1, D = 0, and dL/dy = (0, 1): only y of the second counts.
 * Along (k = 0, 1): h0 = ln2, h1 = h0/2 + 4 ln2. Back (k = 2, 3): h1 = 4 ln2, the second pixel is the first token. */
static void test_two_pixels(int64_t height, int64_t width, int32_t threads) {
  const double x[2] = {1.0, 4.0};
  double x_dbl[24];
  const double zeros[4] = {0.0, 0.0, 0.0, 0.0};
  const double A[4] = {-1.0, -1.0, -1.0, -1.0};
  const double grad_y[2] = {0.0, 1.0};
  double grad_x[2];
  double grad_x_dbl[24];
  double weights[4][4];
  const serpent_scan_tensors tensors = {x, x_dbl, zeros, zeros, A, zeros, NULL};
  const serpent_scan_gradients gradients = {grad_y, grad_x, grad_x_dbl, weights[0], weights[1], weights[2], weights[3]};
  const serpent_scan_shape shape = shape_of(height, width);
  int i;
  for (i = 0; i < 24; ++i) {
    x_dbl[i] = 1.0;
  }
  CHECK(serpent_scan_backward_cpu(&shape, &tensors, &gradients, threads, NULL) == SERPENT_STATUS_OK);
  CHECK(near(grad_x[0], 2 * kLn2 / 2));
  CHECK(near(grad_x[1], 4 * kLn2));
  for (i = 0; i < 4; ++i) {
    const int along = i < 2;
    /* dL/dA = dt exp(dt A) h0, dL/dD = x of the second pixel */
    CHECK(near(weights[2][i], along ? kLn2 * 0.5 * kLn2 : 0.0));
    CHECK(near(weights[3][i], 4.0));
    /* dL/d dt: of the second pixel x B + A exp(dt A) h0, of the first exp(dt A) x B; halved by d dt / d raw */
    CHECK(near(weights[1][i], along ? (4.0 - 0.5 * kLn2 + 0.5) / 2 : 4.0 / 2));
    /* pixel 0 and pixel 1, each with (dt_r, B, C) for every direction; dt_weight = 0, so none reaches dt_r */
    CHECK(grad_x_dbl[3 * i] == 0.0 && grad_x_dbl[12 + 3 * i] == 0.0);
    CHECK(near(grad_x_dbl[3 * i + 1], along ? kLn2 * 0.5 : 0.0));
    CHECK(near(grad_x_dbl[12 + 3 * i + 1], 4.0 * kLn2));
    CHECK(grad_x_dbl[3 * i + 2] == 0.0);
    CHECK(near(grad_x_dbl[12 + 3 * i + 2], along ? 4.5 * kLn2 : 4.0 * kLn2));
  }
}

static void test_empty_batch(void) {
  float weights[4][12];
  const serpent_scan_tensors tensors = {NULL, NULL, NULL, NULL, NULL, NULL, NULL};
  const serpent_scan_gradients gradients = {NULL, NULL, NULL, weights[0], weights[1], weights[2], weights[3]};
  const serpent_scan_shape shape = {0, 2, 2, 3, 1, 1, SERPENT_DTYPE_BF16};
  int i;
  (void)memset(weights, 0xff, sizeof weights);
  CHECK(serpent_scan_backward_cpu(&shape, &tensors, &gradients, 1, NULL) == SERPENT_STATUS_OK);
  for (i = 0; i < 4 * 12; ++i) {
    CHECK(weights[i / 12][i % 12] == 0.0F);
  }
}

static void expect_refusal(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                           const serpent_scan_gradients* gradients, int32_t threads, const char* message) {
  serpent_error error = {{0}};
  CHECK(serpent_scan_backward_cpu(shape, tensors, gradients, threads, &error) == SERPENT_STATUS_INVALID_ARGUMENT);
  if (strcmp(error.message, message) != 0) {
    (void)fprintf(stderr, "the message is \"%s\", not \"%s\"\n", error.message, message);
    ++failures;
  }
  CHECK(serpent_scan_backward_cpu(shape, tensors, gradients, threads, NULL) == SERPENT_STATUS_INVALID_ARGUMENT);
}

static void test_refusals(void) {
  const double in[16] = {0.0};
  double out[16];
  const serpent_scan_tensors tensors = {in, in, in, in, in, in, NULL};
  const serpent_scan_gradients gradients = {in, out, out, out, out, out, out};
  const serpent_scan_shape shape = shape_of(1, 1);
  serpent_scan_tensors holed = tensors;
  serpent_scan_gradients holed_gradients = gradients;

  expect_refusal(NULL, &tensors, &gradients, 1, "shape is NULL");
  expect_refusal(&shape, NULL, &gradients, 1, "tensors is NULL");
  expect_refusal(&shape, &tensors, NULL, 1, "gradients is NULL");
  expect_refusal(&shape, &tensors, &gradients, 0, "num_threads is 0; expected >= 1");
  holed.x_dbl = NULL;
  expect_refusal(&shape, &holed, &gradients, 1, "x_dbl is NULL");
  holed_gradients.grad_y = NULL;
  expect_refusal(&shape, &tensors, &holed_gradients, 1, "grad_y is NULL");
  holed_gradients = gradients;
  holed_gradients.grad_A = NULL;
  expect_refusal(&shape, &tensors, &holed_gradients, 1, "grad_A is NULL");
}

/* Without kernels, so that what is refused first is what stands between a caller and a fault on a GPU. */
static void test_cuda_is_refused_without_kernels(void) {
  static const char* const names[] = {"grad_y",       "grad_x", "grad_x_dbl",  "grad_dt_weight",
                                      "grad_dt_bias", "grad_A", "grad_D_skip", "workspace"};
  const float in[16] = {0.0F};
  float out[16];
  const void* pointers[7];
  const serpent_scan_tensors tensors = {in, in, in, in, in, in, (char*)out + 2}; /* y is not read */
  const serpent_scan_shape shape = {1, 1, 1, 1, 1, 1, SERPENT_DTYPE_F32};
  _Alignas(256) char workspace[4096] = {0}; /* never touched: only its claimed size matters here */
  uint64_t bytes = 0;
  int wrong;
  if (serpent_has_cuda()) {
    return;
  }
  CHECK(serpent_scan_backward_workspace_size(&shape, &bytes, NULL) == SERPENT_STATUS_OK);
  for (wrong = 0; wrong <= 8; ++wrong) { /* 7: the workspace, 8: none */
    serpent_scan_gradients gradients = {in, out, out, out, out, out, out};
    serpent_error error = {{0}};
    serpent_status status;
    char message[80] = "this native library was built without CUDA kernels";
    (void)memcpy(pointers, &gradients, sizeof pointers);
    if (wrong < 7) {
      pointers[wrong] = (const char*)pointers[wrong] + 2;
    }
    if (wrong < 8) {
      (void)snprintf(message, sizeof message, "%s is not aligned to its elements of 4 bytes", names[wrong]);
    }
    (void)memcpy(&gradients, pointers, sizeof pointers);
    status =
        serpent_scan_backward_cuda(&shape, &tensors, &gradients, workspace + (wrong == 7 ? 2 : 0), bytes, NULL, &error);
    CHECK(status == (wrong < 8 ? SERPENT_STATUS_INVALID_ARGUMENT : SERPENT_STATUS_UNSUPPORTED));
    if (strcmp(error.message, message) != 0) {
      (void)fprintf(stderr, "the message is \"%s\", not \"%s\"\n", error.message, message);
      ++failures;
    }
  }
}

int main(void) {
  test_one_pixel();
  test_two_pixels(1, 2, 1);
  test_two_pixels(2, 1, 1);
  test_two_pixels(1, 2, 3);
  test_empty_batch();
  test_refusals();
  test_cuda_is_refused_without_kernels();
  if (failures == 0) {
    (void)printf("all checks passed\n");
  }
  return failures == 0 ? 0 : 1;
}
