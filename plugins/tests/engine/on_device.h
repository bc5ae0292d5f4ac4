// Copies of a picture in the stand-in's device memory, `offset` floats off the alignment.
#pragma once

#include <vector>

#include "standin.h"

namespace test {

class OnDevice {
 public:
  explicit OnDevice(const std::vector<float>& values, std::size_t offset = 0)
      : memory_(standin::allocate((values.size() + offset) * sizeof(float))),
        data(static_cast<float*>(memory_) + offset),
        size_(values.size()) {
    standin::upload(data, values.data(), size_ * sizeof(float));
  }
  ~OnDevice() { standin::release(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  std::vector<float> read() const {
    std::vector<float> values(size_);
    standin::download(values.data(), data, size_ * sizeof(float));
    return values;
  }

 private:
  void* memory_;

 public:
  float* const data;

 private:
  std::size_t size_;
};

}  // namespace test
