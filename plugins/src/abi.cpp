// The exported C functions: check, call, translate failures. No arithmetic here.
#include "cpu/scan_backward_cpu.h"
#include "cpu/scan_cpu.h"
#include "cuda/scan_cuda.h"
#include "failure.h"
#include "serpent/scan.h"
#include "shape.h"
#include "workspace.h"

using serpent::fail;
using serpent::guarded;

namespace {

void check_threads(int32_t num_threads) {
  if (num_threads < 1) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "num_threads is " + std::to_string(num_threads) + "; expected >= 1");
  }
}

void check_workspace_size(const void* workspace, uint64_t bytes, uint64_t needed) {
  if (workspace == nullptr) {
    bytes = 0;
  }
  if (bytes < needed) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT,
         "workspace has " + std::to_string(bytes) + " bytes; this shape needs " + std::to_string(needed));
  }
}

void write_size(uint64_t size, uint64_t* bytes) {
  if (bytes == nullptr) {
    fail(SERPENT_STATUS_INVALID_ARGUMENT, "bytes is NULL");
  }
  *bytes = size;
}

}  // namespace

extern "C" {

int32_t serpent_abi_version(void) { return SERPENT_ABI_VERSION; }

int32_t serpent_scan_schema(void) { return SERPENT_SCAN_SCHEMA; }

int32_t serpent_has_cuda(void) { return serpent::has_cuda() ? 1 : 0; }

serpent_status serpent_scan_workspace_size(const serpent_scan_shape* shape, uint64_t* bytes, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_cuda_shape(shape);
    write_size(serpent::workspace_bytes(*shape), bytes);
  });
}

serpent_status serpent_scan_cpu(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                                int32_t num_threads, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_shape(shape);
    serpent::check_tensors(*shape, tensors);
    check_threads(num_threads);
    if (shape->batch > 0) {
      serpent::scan_cpu(*shape, *tensors, num_threads);
    }
  });
}

serpent_status serpent_scan_backward_cpu(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                                         const serpent_scan_gradients* gradients, int32_t num_threads,
                                         serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_shape(shape);
    serpent::check_gradients(*shape, tensors, gradients);
    check_threads(num_threads);
    serpent::scan_backward_cpu(*shape, *tensors, *gradients, num_threads);
  });
}

serpent_status serpent_scan_cuda(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors, void* workspace,
                                 uint64_t workspace_bytes, void* stream, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_cuda_shape(shape);
    serpent::check_tensors(*shape, tensors);
    if (shape->batch > 0) {
      serpent::check_cuda_alignment(*shape, *tensors, workspace);
    }
    check_workspace_size(workspace, workspace_bytes, serpent::workspace_bytes(*shape));
    if (shape->batch > 0) {
      serpent::scan_cuda(*shape, *tensors, serpent::choose_scan(*shape), workspace, stream);
    }
  });
}

serpent_status serpent_scan_backward_workspace_size(const serpent_scan_shape* shape, uint64_t* bytes,
                                                    serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_cuda_shape(shape);
    write_size(serpent::backward_workspace_bytes(*shape), bytes);
  });
}

serpent_status serpent_scan_backward_cuda(const serpent_scan_shape* shape, const serpent_scan_tensors* tensors,
                                          const serpent_scan_gradients* gradients, void* workspace,
                                          uint64_t workspace_bytes, void* stream, serpent_error* error) {
  return guarded(error, [&] {
    serpent::check_cuda_shape(shape);
    serpent::check_gradients(*shape, tensors, gradients);
    serpent::check_cuda_alignment(*shape, *tensors, *gradients, workspace);
    check_workspace_size(workspace, workspace_bytes, serpent::backward_workspace_bytes(*shape));
    serpent::scan_backward_cuda(*shape, *tensors, *gradients, workspace, stream);
  });
}

}  // extern "C"
