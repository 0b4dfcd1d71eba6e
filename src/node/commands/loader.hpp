// Stores many records through a few connections, each with a pipeline of PUTs.
//
// Order: a key's hash chooses its connection, and a connection's requests are answered in order, so
// of two records with one key the later wins. That must hold through refusals too: when a record
// was refused for now, its connection sends nothing new until everything under way is answered;
// then it sends again what was refused, and what was stored behind it under the same key.
//
// (Only a server that still works on requests of a lost connection, after it has answered the new
// one, could mix them up.)
//
// A node that asks for patience (503 or 429) gets it, and a lost connection is made again: a record
// may be sent twice, which changes nothing. The load is given up when a connection keeps failing,
// or when the node has taken nothing for options.patience.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "http/client.hpp"

namespace gyre {

struct LoadItem {
  uint64_t line = 0;        // where it comes from
  uint64_t line_bytes = 0;  // what it counts as progress
  std::string key;
  std::string value;
};

struct LoaderOptions {
  http::Endpoint endpoint;
  Nanos timeout = seconds(10);
  unsigned connections = 16;
  Nanos patience = seconds(60);
  uint64_t memory_bytes_max = 64u << 20;  // of records read and not stored yet
};

class Loader {
 public:
  static constexpr size_t failures_kept_max = 10;

  explicit Loader(const LoaderOptions& options);
  ~Loader();

  // Starts the connections in `scope`; whoever adds runs there too. Giving up stops it.
  void start(Scope& scope);
  // False once the load was given up.
  Task<bool> add(LoadItem item);
  // A line that is no record.
  void reject(uint64_t line, uint64_t line_bytes, const std::string& why);
  // Nothing more will be added: the connections end when everything is stored.
  void finish();
  void give_up(std::string reason);

  uint64_t stored() const { return stored_; }
  uint64_t failed() const { return failed_; }
  uint64_t bytes_done() const { return bytes_done_; }
  bool waiting() const { return waiting_ > 0; }
  // The first ones, a line each.
  const std::vector<std::string>& failures() const { return failures_; }
  // Why it was given up, or empty. `lost` has what the connection said, if that was the reason.
  const std::string& given_up() const { return given_up_; }
  const std::optional<Error>& lost() const { return lost_; }

 private:
  struct Lane;

  Task<void> run(Lane* lane);
  Task<bool> prepare(Lane& lane);
  Task<bool> fill(Lane& lane);
  Task<bool> take_answer(Lane& lane);
  void judge(Lane& lane, uint16_t status, uint64_t retry_after_s, const std::string& text);
  Task<bool> reconnect_later(Lane& lane, Error error);
  void stored_one(LoadItem item);
  void failed_one(uint64_t line, uint64_t line_bytes, std::string why);
  uint64_t charge(const LoadItem& item) const;

  LoaderOptions options_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Semaphore memory_;
  Scope* scope_ = nullptr;
  uint64_t answers_ = 0;
  uint64_t stored_ = 0;
  uint64_t failed_ = 0;
  uint64_t bytes_done_ = 0;
  unsigned waiting_ = 0;
  Nanos refused_since_ = nanos_never;  // no record was taken since
  std::vector<std::string> failures_;
  std::string given_up_;
  std::optional<Error> lost_;
};

}  // namespace gyre
