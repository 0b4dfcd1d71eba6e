// Which requests a thread makes, and their bytes. Everything that is the same for all requests is
// made before the run; a request itself is a few copies into the socket's output, without an
// allocation.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/socket.hpp>

#include "load/ledger.hpp"
#include "load/options.hpp"

namespace gyre::load {

struct Request {
  Operation operation = Operation::get;
  uint64_t key = 0;
  uint64_t value_bytes = 0;  // of a PUT
  uint64_t barrier = 0;      // of a GET, see Ledger
  Ledger::Sent sent{};       // of a write; numbered by the ledger when it starts, if there is one
  bool filling = false;
  bool measured = false;
  Nanos intended = 0;
  Nanos send_lag = 0;    // so far: until a connection was chosen
  Nanos queue_wait = 0;  // no connection was free
};

class Workload {
 public:
  // `newest` is the newest key of the `latest` order, shared by all threads.
  Workload(const Options& options, unsigned part, std::atomic<uint64_t>& newest);

  // Chooses operation, key and size.
  void choose(Request& request);
  void choose_fill(Request& request, uint64_t key);
  // Appends the request's bytes to what the socket sends to that target.
  void write(const Request& request, size_t target, Socket& socket);

  // prefix and digits; valid until the next call.
  std::string_view key_text(uint64_t key);

 private:
  struct Head {
    std::string before;  // up to the key's digits
    std::string middle;  // of a range: between its two keys
    std::string after;
  };
  void choose_value(Request& request);
  static std::vector<Head> redis_heads(const Options& options);

  const Options& options_;
  sim::Prng random_;
  KeyChooser keys_;
  std::atomic<uint64_t>& newest_;
  uint64_t sequence_;  // so that values differ, where there is no ledger to number them
  uint64_t weight_sum_;
  std::vector<std::vector<Head>> heads_;        // by target, by operation
  std::string_view before_value_ = "\r\n\r\n";  // behind its size
  std::string_view after_value_;
  std::string key_;
  std::string value_;
};

}  // namespace gyre::load
