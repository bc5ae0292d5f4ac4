// The exported C functions: check, call, translate failures. No arithmetic here.
#include "cpu/scan_cpu.h"
#include "cuda/scan_cuda.h"
#include "failure.h"
#include "serpent/scan.h"
#include "shape.h"
#include "workspace.h"

using serpent::fail;
using serpent::guarded;

extern "C" {

int32_t serpent_abi_version(void) { return SERPENT_ABI_VERSION; }

int32_t serpent_scan_schema(void) { return SERPENT_SCAN_SCHEMA; }

int32_t serpent_has_cuda(void) { return serpent::has_cuda() ? 1 : 0; }

serpent_status serpent_scan_workspace_size(const serpent_scan_shape* shape, uint64_t* bytes, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_shape(shape);
    if (bytes == nullptr) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT, "bytes is NULL");
    }
    *bytes = serpent::workspace_bytes(*shape);
  });
}

serpent_status serpent_scan_cpu(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                                int32_t num_threads, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_shape(shape);
    serpent::check_tensors(*shape, tensors);
    if (num_threads < 1) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT, "num_threads is " + std::to_string(num_threads) + "; expected >= 1");
    }
    if (shape->batch > 0) {
      serpent::scan_cpu(*shape, *tensors, num_threads);
    }
  });
}

serpent_status serpent_scan_cuda(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors, void* workspace,
                                 uint64_t workspace_bytes, void* stream, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_shape(shape);
    serpent::check_tensors(*shape, tensors);
    if (shape->dtype == SERPENT_DTYPE_F64) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT, "dtype is f64; the CUDA scan takes f32, f16 and bf16");
    }
    const uint64_t needed = serpent::workspace_bytes(*shape);
    if (workspace_bytes < needed || (workspace == nullptr && needed > 0)) {
      fail(SERPENT_STATUS_INVALID_ARGUMENT, "workspace has " +
                                                std::to_string(workspace == nullptr ? 0 : workspace_bytes) +
                                                " bytes; this shape needs " + std::to_string(needed));
    }
    serpent::scan_cuda(*shape, *tensors, workspace, stream);
  });
}

}  // extern "C"
