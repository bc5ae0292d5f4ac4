// All that a kernel may ask of the machine, in one thin header: kernels and launches are written against it and nothing
// else, and compile twice. nvcc compiles them for the GPU (device_cuda.h); g++ compiles the same files, with
// SERPENT_HOST_TWIN defined, for CPU threads (twin/device_host.h), where tests run them without a GPU.
//
//   SERPENT_KERNEL(threads, min_blocks) void f(...)   a kernel: blocks of at most `threads` threads, at least
//                                                     `min_blocks` resident on a multiprocessor
//   SERPENT_DEVICE, SERPENT_HOST_DEVICE               a function that kernels, or both sides, call
//   SERPENT_UNROLL, SERPENT_UNROLL_BY(n)              before a loop
//   Index3 block_index(), grid_size()
//   unsigned thread_index(), block_size()             blocks are one-dimensional, a multiple of 32 threads
//   unsigned char* shared_memory()                    the launch's dynamic shared memory, aligned to 16 bytes
//   SERPENT_BLOCK_SYNC(name), SERPENT_WARP_SYNC(name) barriers that order memory; every thread of the block, or lane of
//                                                     the warp, reaches the same one. `name` is an identifier, unique
//                                                     over all kernels: -DSERPENT_OMIT_SYNC=name removes that one
//   V shuffle_xor(V value, int mask)                  the value of lane ^ mask; all 32 lanes take part. It orders no
//                                                     memory
//   float exp2_fast(x), reciprocal_fast(x), fma(a, b, c)
//   float to_float(T value)                           exact; for a value in shared memory
//   float load(const T* p)                            T is float, Half or BFloat16, in global memory that no thread
//                                                     writes while the kernel runs
//   void store(float value, T* p)                     to global memory, rounded to nearest even
//   copy_async<kBytes>(void* shared, const void* global)
//                                                     4, 8 or 16 bytes, both pointers aligned to that; belongs to the
//                                                     thread's open group
//   copy_async_commit()                               closes the group, which may be empty
//   copy_async_wait<kPending>()                       all but the youngest kPending groups have arrived, for this
//                                                     thread: others see them after a barrier
// On the host side:
//   launch(kernel, grid, threads, shared_bytes, stream, arguments...)
//                                                     enqueues; grid.x up to 2^31 - 1, grid.y and grid.z up to 65535.
//                                                     Throws Failure (SERPENT_STATUS_CUDA) where CUDA refuses
//   fill_zero(pointer, bytes, stream)                 enqueues; throws as launch does
//   int device_multiprocessors()                      of the current device; may be asked during stream capture
#pragma once

#if defined(__CUDACC__)
#include "device_cuda.h"
#elif defined(SERPENT_HOST_TWIN)
#include "twin/device_host.h"
#else
#error "compile with nvcc, or for the host with SERPENT_HOST_TWIN defined"
#endif
