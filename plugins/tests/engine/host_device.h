// A GPU in host memory, for the stand-in: memory with bounds, streams with a thread each, events.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace standin {

class Memory {
 public:
  void* allocate(std::size_t bytes);
  void release(void* address);
  // Whether all of the bytes lie in one allocation.
  bool holds(const void* address, std::size_t bytes);
  std::size_t count();

 private:
  std::mutex mutex_;
  std::map<uintptr_t, std::size_t> sizes_;
};

// A point in a stream's work; copies share it.
class Mark {
 public:
  void reach();
  void wait();

 private:
  std::mutex mutex_;
  std::condition_variable reached_;
  bool is_reached_ = false;
};

class Stream {
 public:
  Stream();
  ~Stream();
  void push(std::function<void()> task);
  void finish();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool busy_ = false;
  bool ending_ = false;
  std::thread thread_;
};

class Device {
 public:
  Memory memory;

  Stream& stream(void* handle);

 private:
  std::mutex mutex_;
  std::map<void*, std::unique_ptr<Stream>> streams_;
};

Device& device();

}  // namespace standin
