// Controls of the stand-in adapter, for tests.
//
// A stand-in plan is text:
//   serpent-standin 1
//   input image FLOAT 1 3 8 8 2 3 64 64      (least B 3 H W, then largest)
//   output restored FLOAT                    (and a number: its height is that many times the image's)
// HALF instead of FLOAT is half precision; UINT8 is 8 bits in sizes of the order B H W 3.
// Running it computes, on the padded picture x (B, 3, H, W) in f32,
//   y[b,c,i,j] = x[b,c,i,j] / 2 + x[b,c,H-1-i,j] / 4 + x[b,c,i,W-1-j] / 4 + x[B-1-b,c,i,j] / 8
// from left to right, so that every padded row, column and picture shows in the result.
//
// Over host memory, streams are threads that work through a queue, and every copy's bounds are checked; the same over a
// GPU's memory is another library. Device memory starts out as NaN.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#define STANDIN_API __attribute__((visibility("default")))

namespace standin {

// The call of that name in adapter.h fails, once, after `skip` more that succeed; "" clears it.
STANDIN_API void fail_call(const std::string& name, int skip = 0);

// Calls of that name in adapter.h stay inside until they are released, or 10 s have passed.
STANDIN_API void hold_calls(const std::string& name);
// Waits until `count` calls are held at once; false after 10 s.
STANDIN_API bool wait_until_held(int count);
STANDIN_API void release_calls();

// What `version` answers, such as "trt 10.16.0.72"; until it is called, "rtx 1.7.1.116".
STANDIN_API void set_version(const std::string& version);

// How long each run of the network takes at least.
STANDIN_API void set_delay_ms(int milliseconds);

// Calls that make or end something, in order, since the last call: "create_context", "destroy_context", ...
STANDIN_API std::vector<std::string> take_log();

// Runs that met another run in the same context; a correct library causes none.
STANDIN_API int collisions();

// The most runs that were under way at once.
STANDIN_API int most_at_once();

// Device memory for a test, and what is allocated in all.
STANDIN_API void* allocate(std::size_t bytes);
STANDIN_API void release(void* address);
STANDIN_API std::size_t allocations();

STANDIN_API void upload(void* target, const void* source, std::size_t bytes);    // from host memory, at once
STANDIN_API void download(void* target, const void* source, std::size_t bytes);  // to host memory, at once

// Streams to choose from; each number is one.
STANDIN_API void* stream(int number);

// Waits for all that `stream` has.
STANDIN_API void finish(void* stream);

}  // namespace standin
