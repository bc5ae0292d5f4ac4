/* Runs Serpent plans with TensorRT or TensorRT-RTX: a plain C interface with an opaque handle.
 *
 * A plan (serpent-h-512-fp32.plan) is opened together with its manifest, the .json file of the same stem beside it. The
 * TensorRT library is loaded when a plan is opened and must be the one the plan was built with; this library links
 * neither TensorRT nor CUDA. serpent/engine.hpp wraps all of this for C++.
 *
 * Pictures are dense arrays of B pictures of H rows of W pixels, in the form that the plan was exported for
 * (serpent_engine_io). A picture of any H and W up to the profile's largest is padded as the network needs it (at the
 * bottom and on the right: reflected, then the outermost reflected row or column repeated) and cropped again, on the
 * device.
 *
 * Every function is safe to call from any thread, throws nothing, ends no process by itself, and reports failure as a
 * status and a message. What a plan does inside TensorRT is another matter. The plan's digest is compared with its
 * manifest's before TensorRT sees a byte, which keeps damaged files out; native code in it is refused unless
 * allow_native_code is set; its tensors and the size of its result are compared with what the manifest says. A plan and
 * a manifest that were made to deceive pass all that: TensorRT trusts what it loads, and can crash, or run what it
 * finds. Python's runtime tries a plan in a process of its own first; this library does not. Open plans of people you
 * trust only.
 *
 * For the library's own tests the environment variable SERPENT_ENGINE_ADAPTER names an adapter library that stands in
 * for TensorRT and CUDA; it is read by serpent_engine_open.
 */
#ifndef SERPENT_ENGINE_H
#define SERPENT_ENGINE_H

#include <stdint.h>

#include "serpent/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a declaration of this header changes meaning. */
#define SERPENT_ENGINE_ABI_VERSION 2

/* The first six are those of serpent_status in serpent/scan.h. */
typedef enum serpent_engine_status {
  SERPENT_ENGINE_OK = 0,
  SERPENT_ENGINE_INVALID_ARGUMENT = 1, /* a value of the caller's; a picture outside the profile */
  SERPENT_ENGINE_UNSUPPORTED = 2,      /* this machine or installation cannot run the plan */
  SERPENT_ENGINE_OUT_OF_MEMORY = 3,
  SERPENT_ENGINE_INTERNAL = 4,
  SERPENT_ENGINE_CUDA = 5,       /* the CUDA driver reports an error */
  SERPENT_ENGINE_MODEL_FILE = 6, /* plan or manifest missing, damaged, or not of one export */
  SERPENT_ENGINE_TENSORRT = 7,   /* TensorRT refuses; the message holds its reason */
  SERPENT_ENGINE_BUSY = 8        /* all contexts are in use, and the options say not to wait */
} serpent_engine_status;

/* Filled on failure; pass NULL where the message is not wanted. */
typedef struct serpent_engine_error {
  char message[1024];
} serpent_engine_error;

typedef enum serpent_engine_when_busy {
  SERPENT_ENGINE_WAIT = 0, /* a run waits for a free context */
  SERPENT_ENGINE_FAIL = 1  /* it fails with SERPENT_ENGINE_BUSY */
} serpent_engine_when_busy;

typedef struct serpent_engine_options {
  /* TensorRT's library file; NULL: libtensorrt_rtx.so.1 or libnvinfer.so.<major>, as the system's loader finds it. */
  const char* tensorrt_library;
  /* libserpent_trt.so; NULL: the one beside this library. A plugin of the same name that another library has
   * registered in this process is refused: its code need not be what the plan was built with. */
  const char* plugin_library;
  int32_t device;    /* CUDA's number of the GPU, >= 0 */
  int32_t contexts;  /* runs that may be under way at once, >= 1; each needs the network's memory */
  int32_t when_busy; /* serpent_engine_when_busy */
  /* 1 takes plans that carry native code, such as an embedded plugin library: it runs in this process. What counts is
   * what the plan holds (a shared library of x86-64 or aarch64), or that its manifest says so. */
  int32_t allow_native_code;
} serpent_engine_options;

/* What a plan takes and gives, as --io of serpent-export says; nothing is converted outside the plan. */
typedef enum serpent_engine_io {
  SERPENT_ENGINE_F32_NCHW = 0, /* (B, 3, H, W) float, planes R, G, B, values in [0, 1]; the result is unclipped */
  SERPENT_ENGINE_F16_NCHW = 1, /* the same in IEEE half precision */
  SERPENT_ENGINE_U8_NHWC = 2   /* (B, H, W, 3) bytes, R, G, B of each pixel, 0 to 255; the result is rounded, clamped */
} serpent_engine_io;

/* Sizes in use: the least, the one tuned for, the largest. */
typedef struct serpent_engine_range {
  int64_t min;
  int64_t opt;
  int64_t max;
} serpent_engine_range;

/* What an open plan is. The strings live as long as the handle. */
typedef struct serpent_engine_info {
  serpent_engine_range batch;  /* pictures of one run */
  serpent_engine_range height; /* pixels; smaller pictures are padded */
  serpent_engine_range width;
  int64_t multiple;      /* sides are padded to multiples of this many pixels */
  const char* variant;   /* "B", "L", "H" or "custom" */
  const char* task;      /* what the weights were trained for */
  const char* precision; /* "fp32", "fp16" or "bf16", inside the network */
  const char* weights;   /* digest of the weights, or "untrained" */
  const char* flavour;   /* "rtx" or "trt" */
  const char* version;   /* of the TensorRT in use */
  int32_t device;        /* CUDA's number of the GPU */
  int32_t io;            /* serpent_engine_io: what a run is given and gives */
} serpent_engine_info;

typedef enum serpent_engine_memory {
  SERPENT_ENGINE_HOST = 0,  /* any host memory */
  SERPENT_ENGINE_DEVICE = 1 /* CUDA memory of the engine's device */
} serpent_engine_memory;

/* B pictures somewhere in memory, dense. */
typedef struct serpent_engine_pictures {
  void* data;
  int64_t batch;
  int64_t height;
  int64_t width;
  int32_t io;     /* serpent_engine_io; the plan's is the only one taken */
  int32_t memory; /* serpent_engine_memory */
} serpent_engine_pictures;

typedef struct serpent_engine serpent_engine;

/* SERPENT_ENGINE_ABI_VERSION of the library that was loaded. */
SERPENT_API int32_t serpent_engine_abi_version(void);

/* TensorRT and plugin library as found, device 0, 2 contexts, waiting, no native code from plans. */
SERPENT_API void serpent_engine_default_options(serpent_engine_options* options);

/* Opens `plan` with its manifest; `options` may be NULL. The plan's digest is checked before TensorRT reads a byte of
 * it. *engine is NULL on failure. */
SERPENT_API serpent_engine_status serpent_engine_open(const char* plan, const serpent_engine_options* options,
                                                      serpent_engine** engine, serpent_engine_error* error);

/* Waits for the runs under way, on the device too, and releases everything; runs still waiting for a context fail.
 * NULL is ignored. No call with the handle may begin at the same time or afterwards. */
SERPENT_API void serpent_engine_close(serpent_engine* engine);

SERPENT_API serpent_engine_status serpent_engine_describe(const serpent_engine* engine, serpent_engine_info* info,
                                                          serpent_engine_error* error);

/* Restores `image` into `restored`, of the same B, H and W; the arrays must not overlap. 1 <= B, H, W <= the profile's
 * largest.
 *
 * Work is enqueued on the caller's CUDA `stream` (a cudaStream_t of the engine's device; NULL is the default stream).
 * Where both arrays are in device memory the call returns once the work is enqueued, after the last run of its context
 * where that had another size; a run whose sizes need no padding and whose arrays are aligned to 256 bytes copies
 * nothing. Otherwise it returns when `restored` is written. */
SERPENT_API serpent_engine_status serpent_engine_run(serpent_engine* engine, const serpent_engine_pictures* image,
                                                     const serpent_engine_pictures* restored, void* stream,
                                                     serpent_engine_error* error);

#ifdef __cplusplus
}
#endif

#endif /* SERPENT_ENGINE_H */
