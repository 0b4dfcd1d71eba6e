// What a request means: checks it, asks the store, writes the answer's bytes. Runs on the workers;
// knows nothing of connections.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http/request.hpp"
#include "http/response.hpp"
#include "http/target.hpp"
#include "record_store.hpp"

namespace gyre::threadpool {

class Coordinator;

inline constexpr std::string_view internal_path = "/internal/record";

// How an answer is framed: fixed when the request's head was read.
struct AnswerStyle {
  bool head_only = false;       // HEAD: no body
  bool close = false;           // last answer of the connection
  bool say_keep_alive = false;  // HTTP/1.0 client that asked for it
  bool http_1_0 = false;
};

// A whole request, copied out of the bytes it came in. Objects are used again.
struct Request {
  enum class Route : uint8_t {
    entity,
    entities,
    internal,  // of a peer, about the record that is stored here
    status,
    livez,
    readyz,
    metrics,
    unknown,
    malformed
  };

  void assign(const http::RequestHead& head);

  Route route = Route::unknown;
  http::Method method = http::Method::other;
  bool has_if_match = false;
  bool has_if_none_match = false;
  AnswerStyle style;
  std::string query;
  std::string if_none_match;
  std::string body;
  uint64_t charged_bytes = 0;  // of the transit memory, for the body
  http::ParseError refusal;    // the answer is known already
  uint32_t retry_after_s = 0;  // of the refusal
};

// A range that is being answered.
struct RangeStream {
  std::unique_ptr<RangeCursor> cursor;
  bool chunked = true;
  bool close = false;  // the connection ends with it
  bool ended = false;

  // Appends records until `out` has grown by `bytes`, or all of them. False: the store failed, and
  // the answer must be cut.
  bool fill(std::string& out, size_t bytes);
};

struct Answer {
  void clear();

  std::string bytes;
  std::string_view tail;  // goes out behind the bytes; of `found`
  Found found;
  std::string kept;                     // what was found at a peer
  std::unique_ptr<RangeStream> stream;  // goes on behind that
  bool close = false;
  bool cut = false;  // can't be completed
};

struct Counters {
  std::atomic<uint64_t> requests = 0;
  std::atomic<uint64_t> overflows = 0;
  std::atomic<uint64_t> connections = 0;
  std::atomic<uint64_t> output_bytes = 0;  // that their readers have not taken
  std::atomic<uint64_t> blocks_read = 0;   // of tables, that were not in the cache
};

// Bodies and unread answers of all connections together.
class TransitMemory {
 public:
  explicit TransitMemory(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}
  bool try_charge(uint64_t bytes) {
    if (used_ + bytes > capacity_bytes_) return false;
    used_ += bytes;
    return true;
  }
  void charge(uint64_t bytes) { used_ += bytes; }
  void release(uint64_t bytes) { used_ -= bytes; }
  uint64_t used() const { return used_; }
  // No further answers are made for whom does not read them.
  bool is_short() const { return used_ > capacity_bytes_ / 4 * 3; }

 private:
  const uint64_t capacity_bytes_;
  std::atomic<uint64_t> used_ = 0;
};

class Executor {
 public:
  // Without a coordinator the node is alone.
  Executor(RecordStore& store, Counters& counters, TransitMemory& transit, Coordinator* coordinator)
      : store_(store), counters_(counters), transit_(transit), coordinator_(coordinator) {}

  void execute(Request& request, Answer& answer);
  // The next part of a range, into the answer's bytes.
  void go_on(Answer& answer);
  // What is wrong with a request according to its head alone; status 0: nothing.
  http::ParseError check(const Request& request) const;
  // An answer whose body is one line.
  static void refuse(const AnswerStyle& style, uint16_t status, std::string_view reason,
                     Answer& answer, std::string_view allow = {}, uint32_t retry_after_s = 0);

  void drain() { draining_ = true; }
  bool draining() const { return draining_; }

 private:
  void count_blocks_read();
  void read(const Request& request, const http::Parameters& parameters, Answer& answer);
  void write(Request& request, const http::Parameters& parameters, Answer& answer);
  void serve_peer(const Request& request, Answer& answer);
  void observe(const Request& request, Answer& answer);
  std::string metrics() const;

  RecordStore& store_;
  Counters& counters_;
  TransitMemory& transit_;
  Coordinator* const coordinator_;
  std::atomic<bool> draining_ = false;
};

}  // namespace gyre::threadpool
