// What tests tell the stand-in, and what it tells them: the state behind standin.h.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

namespace standin {

struct Controls {
  std::mutex mutex;
  std::string failing;
  int skip = 0;
  std::string held_name;
  int held = 0;
  std::condition_variable held_changed;
  std::string version = "rtx 1.7.1.116";
  std::vector<std::string> log;
  std::atomic<int> delay_ms = 0;
  std::atomic<int> collisions = 0;
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;

  void note(const std::string& what) {
    const std::lock_guard lock(mutex);
    log.push_back(what);
  }

  // Fails where `name` is the call that is to fail.
  void fail_if_asked(const std::string& name);

  // Stays inside while `name` is held.
  void hold_if_asked(const std::string& name);
};

Controls& controls();

}  // namespace standin
