// What the chaos tests share.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "../contract/node_process.hpp"
#include "load.hpp"

namespace gyre::chaos {

// Little memory, so that flushes and compactions keep happening.
inline std::vector<std::string> small_node_flags() {
  return {"--cores", "2", "--memory", "56M", "--max-connections", "64", "--max-value", "3M"};
}

// GYRE_TEST_SEED, to run a failed test with its seed again; the moments still depend on timing.
inline uint64_t chaos_seed(uint64_t otherwise) {
  const char* text = std::getenv("GYRE_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

inline void check_no(const std::vector<std::string>& problems) {
  for (const std::string& problem : problems) FAIL_CHECK(problem);
}

// Waits for a condition; long enough for any machine, but not for ever.
template <class Condition>
bool eventually(Condition&& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Until the clients have got `count` more answers to writes.
inline bool writes_acknowledged(const Load& load, uint64_t count) {
  const uint64_t target = load.counts().acknowledged + count;
  return eventually([&] { return load.counts().acknowledged >= target; });
}

// Nothing is broken inside, whatever the clients saw.
inline void check_healthy(const test::NodeProcess& node) {
  const std::string errors = node.error_output();
  if (errors.find("level=error") != std::string::npos) FAIL_CHECK(errors);
}

inline uint64_t log_bytes(const std::string& data) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(data)) {
    if (entry.path().extension() == ".log") bytes += entry.file_size();
  }
  return bytes;
}

}  // namespace gyre::chaos
