/* The one interface through which the engine library reaches TensorRT and CUDA.
 *
 * TensorRT's classes are tables of virtual functions whose layout changes between major versions, so each major has a
 * small library of its own that implements this interface with that major's headers. Tests implement it over host
 * memory. A C interface: the libraries may come from different compilers.
 *
 * Every call that can fail returns a status and, on failure, writes a message; none throws. Objects are destroyed by
 * the engine library before what they were made from: contexts, engine, runtime.
 */
#ifndef SERPENT_ENGINE_ADAPTER_H
#define SERPENT_ENGINE_ADAPTER_H

#include <stdint.h>

#include "serpent/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a declaration of this header changes; libraries of different revisions do not mix. */
#define SERPENT_ADAPTER_REVISION 3

/* Exported by every adapter library, as `const serpent_adapter* serpent_engine_adapter(void)`. */
#define SERPENT_ADAPTER_ENTRY "serpent_engine_adapter"

#define SERPENT_ADAPTER_RANK 4

typedef struct serpent_adapter_runtime serpent_adapter_runtime; /* one GPU, one TensorRT runtime */
typedef struct serpent_adapter_engine serpent_adapter_engine;   /* a deserialised plan */
typedef struct serpent_adapter_context serpent_adapter_context; /* runs one picture at a time */
typedef struct serpent_adapter_event serpent_adapter_event;     /* a point in a stream's work */

typedef struct serpent_adapter_version {
  int32_t is_rtx;
  int32_t major;
  int32_t minor;
  int32_t patch;
  int32_t build;
} serpent_adapter_version;

typedef struct serpent_adapter_device {
  int32_t major; /* compute capability */
  int32_t minor;
  char name[128];
} serpent_adapter_device;

typedef struct serpent_adapter_plugin {
  const char* name;
  const char* version;
  const char* name_space;
} serpent_adapter_plugin;

typedef struct serpent_adapter_tensor {
  const char* name; /* lives as long as the engine */
  const char* type; /* "FLOAT", "HALF", ..., a literal; not one of these where the layout is not dense */
  int32_t is_input;
  int32_t rank; /* the sizes below are filled for an input of rank 4 alone */
  int64_t min[SERPENT_ADAPTER_RANK];
  int64_t max[SERPENT_ADAPTER_RANK];
} serpent_adapter_tensor;

/* Where a pointer points. */
typedef struct serpent_adapter_place {
  int32_t memory; /* serpent_engine_memory; memory that CUDA does not know is host memory */
  int32_t device; /* of device memory */
} serpent_adapter_place;

typedef enum serpent_adapter_direction {
  SERPENT_ADAPTER_TO_DEVICE = 0,
  SERPENT_ADAPTER_TO_HOST = 1,
  SERPENT_ADAPTER_ON_DEVICE = 2
} serpent_adapter_direction;

/* `rows` pieces of `width` bytes, `*_pitch` bytes apart. */
typedef struct serpent_adapter_copy {
  void* target;
  const void* source;
  uint64_t target_pitch;
  uint64_t source_pitch;
  uint64_t width;
  uint64_t rows;
  int32_t direction; /* serpent_adapter_direction */
} serpent_adapter_copy;

typedef struct serpent_adapter {
  int32_t revision;

  /* `library` is the dlopen handle of TensorRT's library, here and below. */
  serpent_engine_status (*version)(void* library, serpent_adapter_version* version, serpent_engine_error* error);
  serpent_engine_status (*create_runtime)(void* library, int32_t device, serpent_adapter_runtime** runtime,
                                          serpent_engine_error* error);
  void (*destroy_runtime)(serpent_adapter_runtime* runtime);
  serpent_engine_status (*describe_device)(serpent_adapter_runtime* runtime, serpent_adapter_device* device,
                                           serpent_engine_error* error);

  /* Makes sure that the registry has the plugin, from the library at `path` where it does not have it yet. */
  serpent_engine_status (*load_plugin)(serpent_adapter_runtime* runtime, const char* path,
                                       const serpent_adapter_plugin* plugin, serpent_engine_error* error);
  /* `native_code` is 1 where the plan may bring a plugin library of its own. */
  serpent_engine_status (*deserialize)(serpent_adapter_runtime* runtime, const void* plan, uint64_t bytes,
                                       int32_t native_code, serpent_adapter_engine** engine,
                                       serpent_engine_error* error);
  void (*destroy_engine)(serpent_adapter_engine* engine);
  serpent_engine_status (*count_tensors)(serpent_adapter_engine* engine, int32_t* count, serpent_engine_error* error);
  serpent_engine_status (*describe_tensor)(serpent_adapter_engine* engine, int32_t index,
                                           serpent_adapter_tensor* tensor, serpent_engine_error* error);

  serpent_engine_status (*create_context)(serpent_adapter_engine* engine, serpent_adapter_context** context,
                                          serpent_engine_error* error);
  void (*destroy_context)(serpent_adapter_context* context);
  serpent_engine_status (*set_shape)(serpent_adapter_context* context, const char* tensor, const int64_t* sizes,
                                     serpent_engine_error* error); /* SERPENT_ADAPTER_RANK sizes */
  /* The sizes of a tensor under the shape that was set. Another rank than SERPENT_ADAPTER_RANK is a failure. */
  serpent_engine_status (*get_shape)(serpent_adapter_context* context, const char* tensor, int64_t* sizes,
                                     serpent_engine_error* error);
  serpent_engine_status (*set_address)(serpent_adapter_context* context, const char* tensor, void* address,
                                       serpent_engine_error* error);
  serpent_engine_status (*enqueue)(serpent_adapter_context* context, void* stream, serpent_engine_error* error);

  /* Device memory, aligned to 256 bytes. */
  serpent_engine_status (*allocate)(serpent_adapter_runtime* runtime, uint64_t bytes, void** address,
                                    serpent_engine_error* error);
  void (*release)(serpent_adapter_runtime* runtime, void* address);
  serpent_engine_status (*locate)(serpent_adapter_runtime* runtime, const void* address, serpent_adapter_place* place,
                                  serpent_engine_error* error);
  serpent_engine_status (*copy)(serpent_adapter_runtime* runtime, const serpent_adapter_copy* copy, void* stream,
                                serpent_engine_error* error);

  serpent_engine_status (*create_event)(serpent_adapter_runtime* runtime, serpent_adapter_event** event,
                                        serpent_engine_error* error);
  void (*destroy_event)(serpent_adapter_runtime* runtime, serpent_adapter_event* event);
  /* The event stands for all work that `stream` has by now. */
  serpent_engine_status (*record)(serpent_adapter_runtime* runtime, serpent_adapter_event* event, void* stream,
                                  serpent_engine_error* error);
  /* What `stream` gets from now on runs after the event; a new event is in the past. */
  serpent_engine_status (*wait)(serpent_adapter_runtime* runtime, serpent_adapter_event* event, void* stream,
                                serpent_engine_error* error);
  /* The calling thread waits for the event, or for all work of the stream. */
  serpent_engine_status (*finish_event)(serpent_adapter_runtime* runtime, serpent_adapter_event* event,
                                        serpent_engine_error* error);
  serpent_engine_status (*finish_stream)(serpent_adapter_runtime* runtime, void* stream, serpent_engine_error* error);
} serpent_adapter;

#ifdef __cplusplus
}
#endif

#endif /* SERPENT_ENGINE_ADAPTER_H */
