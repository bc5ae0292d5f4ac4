/* The four-direction selective scan as a plain C interface: raw pointers, sizes, a status.
 *
 * Formula, per direction k in {0 row-major, 1 column-major, 2 and 3 their reverses} and channel d:
 *   dt  = softplus(dt_weight[k,d] . dt_r + dt_bias[k,d])
 *   h_n = exp(dt * A[k,d,n]) * h_n + dt * B_n * x          (n = 0 .. N-1, h = 0 before the first pixel)
 *   y_k = sum_n C_n * h_n + D_skip[k,d] * x
 * and y = sum over k, each y_k at its own pixel (arXiv 2403.17902, built on VMamba, arXiv 2401.10166).
 * softplus(v) = max(v, 0) + log1p(exp(-|v|)), without a threshold.
 *
 * All arrays are dense and row-major, on 64-bit offsets:
 *   x, y       (B, H, W, D)            storage type T = dtype
 *   x_dbl      (B, H, W, 4 * (R + 2N)) storage type T, per direction [dt_r R, B N, C N]
 *   dt_weight  (4, D, R)               f32, or f64 when T is f64
 *   dt_bias    (4, D)                  f32, or f64 when T is f64
 *   A          (4, D, N)               f32, or f64 when T is f64; negative
 *   D_skip     (4, D)                  f32, or f64 when T is f64
 * State, dt, exp and sums are f32 for f32, f16 and bf16 storage, f64 for f64.
 *
 * Every function is re-entrant, keeps no global state, and never aborts or throws. For tests and benchmarks two
 * environment variables are read at each call: SERPENT_ISA (portable, avx2, avx512) forces the instruction set of
 * the CPU functions, SERPENT_CUDA_VARIANT the kernel variant of the CUDA ones (src/cuda/variants.h lists them).
 */
#ifndef SERPENT_SCAN_H
#define SERPENT_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "serpent/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a declaration of this header changes meaning; the Python loader insists on equality. */
#define SERPENT_ABI_VERSION 2

/* Revision of the workspace-size function. It is baked into TensorRT plans, which outlive kernels. */
#define SERPENT_SCAN_SCHEMA 1

typedef enum serpent_status {
  SERPENT_STATUS_OK = 0,
  SERPENT_STATUS_INVALID_ARGUMENT = 1,
  SERPENT_STATUS_UNSUPPORTED = 2,
  SERPENT_STATUS_OUT_OF_MEMORY = 3,
  SERPENT_STATUS_INTERNAL = 4,
  SERPENT_STATUS_CUDA = 5
} serpent_status;

typedef enum serpent_dtype {
  SERPENT_DTYPE_F32 = 0,
  SERPENT_DTYPE_F64 = 1,
  SERPENT_DTYPE_F16 = 2,
  SERPENT_DTYPE_BF16 = 3
} serpent_dtype;

/* Sizes of one scan. `dtype` is the storage type T of x, x_dbl and y. */
typedef struct serpent_scan_shape {
  int64_t batch;    /* B >= 0 */
  int64_t height;   /* H >= 1, pixels */
  int64_t width;    /* W >= 1, pixels */
  int64_t channels; /* D >= 1 */
  int64_t d_state;  /* N in 1 .. 256 */
  int64_t dt_rank;  /* R in 1 .. 256 */
  int32_t dtype;    /* serpent_dtype */
} serpent_scan_shape;

typedef struct serpent_scan_tensors {
  const void* x;
  const void* x_dbl;
  const void* dt_weight;
  const void* dt_bias;
  const void* A;
  const void* D_skip;
  void* y;
} serpent_scan_tensors;

/* Where a backward pass reads dL/dy and writes dL/d(input), each laid out like the tensor of its name and in that
 * tensor's type. All are overwritten, none is added to; none may be NULL or overlap another array. */
typedef struct serpent_scan_gradients {
  const void* grad_y;
  void* grad_x;
  void* grad_x_dbl;
  void* grad_dt_weight;
  void* grad_dt_bias;
  void* grad_A;
  void* grad_D_skip;
} serpent_scan_gradients;

/* Filled on failure; pass NULL where the message is not wanted. */
typedef struct serpent_error {
  char message[256];
} serpent_error;

/* SERPENT_ABI_VERSION of the library that was loaded. */
SERPENT_API int32_t serpent_abi_version(void);

/* SERPENT_SCAN_SCHEMA of the library that was loaded. */
SERPENT_API int32_t serpent_scan_schema(void);

/* 1 when the library carries the CUDA kernels, else 0. Asks no device. */
SERPENT_API int32_t serpent_has_cuda(void);

/* Bytes of device workspace that serpent_scan_cuda needs for `shape`: never less for a larger shape.
 * Computed on the host from the sizes alone; needs no GPU and asks no device. */
SERPENT_API serpent_status serpent_scan_workspace_size(const serpent_scan_shape* shape, uint64_t* bytes,
                                                       serpent_error* error);

/* Runs on the calling thread and up to num_threads - 1 more (num_threads >= 1). The result does not
 * depend on num_threads. Host pointers; y must not overlap an input. */
SERPENT_API serpent_status serpent_scan_cpu(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                                            int32_t num_threads, serpent_error* error);

/* Gradients of a scan from its inputs and dL/dy; tensors->y is not read and may be NULL. States are recomputed from
 * chunk states, never stored for all pixels. As above, the result does not depend on num_threads. */
SERPENT_API serpent_status serpent_scan_backward_cpu(const serpent_scan_shape* shape,
                                                     const serpent_scan_tensors* tensors,
                                                     const serpent_scan_gradients* gradients, int32_t num_threads,
                                                     serpent_error* error);

/* Enqueues on the caller's CUDA `stream` (a cudaStream_t, of the current device) without allocating or
 * synchronising; may be captured into a CUDA graph, best after one run outside of it: CUDA loads a kernel at its first
 * launch. Deterministic: equal inputs give equal bits on one device. Device pointers, aligned to their element; f32,
 * f16 or bf16; N and R up to 64; `workspace` has at least serpent_scan_workspace_size bytes, aligned to 4.
 * SERPENT_STATUS_UNSUPPORTED where the library was built without CUDA kernels, SERPENT_STATUS_CUDA where the CUDA
 * runtime refuses a launch. */
SERPENT_API serpent_status serpent_scan_cuda(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                                             void* workspace, uint64_t workspace_bytes, void* stream,
                                             serpent_error* error);

/* Bytes of device workspace that serpent_scan_backward_cuda needs for `shape`; host-only arithmetic. */
SERPENT_API serpent_status serpent_scan_backward_workspace_size(const serpent_scan_shape* shape, uint64_t* bytes,
                                                                serpent_error* error);

/* serpent_scan_backward_cpu on device pointers, with the rules of serpent_scan_cuda. */
SERPENT_API serpent_status serpent_scan_backward_cuda(const serpent_scan_shape* shape,
                                                      const serpent_scan_tensors* tensors,
                                                      const serpent_scan_gradients* gradients, void* workspace,
                                                      uint64_t workspace_bytes, void* stream, serpent_error* error);

#ifdef __cplusplus
}
#endif

#endif /* SERPENT_SCAN_H */
