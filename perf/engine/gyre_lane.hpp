// How our engine is asked: coroutine lanes on every core, and Calls that carry one operation to the
// core that owns its key and back, as a node's exchanges do. A call that its own core owns and that
// memory can answer is plain code from end to end.
//
//   lane:  start(call) ─ own key ──────────> serve ─ at once ──> ended
//                      └ other core's ─ mailbox ─> serve ─ or after a wait ─ mailbox ─> ended
//
// What a read found is checked where it lies if the key is the lane's own core's; from another core
// its bytes travel, as they would to a client, and are checked at home.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gyre/mailbox.hpp>
#include <gyre/reactor.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "engine/session.hpp"
#include "store/shard.hpp"

namespace gyre::engine {

// The part of the engine on one core.
struct CoreStore {
  CoreStore(unsigned number, uint64_t write_buffer_bytes)
      : core(number),
        memory(write_buffer_bytes - write_buffer_bytes / 4),
        flush_credit(write_buffer_bytes / 4),
        clock(1, static_cast<uint16_t>(number)) {}
  unsigned core;
  Semaphore memory;
  Semaphore flush_credit;
  HybridClock clock;
  std::unique_ptr<Shard> shard;
};

enum class Answer : uint8_t { right, wrong, failed };

class Lane;

// One operation on one core's shard. Used again and again by its lane.
class Call : public Message {
 public:
  Call(Lane& lane, CoreStore& store, size_t value_bytes)
      : value(value_bytes * scan_records, '\0'),
        lane_(lane),
        store_(store),
        value_bytes_(value_bytes) {}
  Call(const Call&) = delete;

  // On the lane's core. `key_number` and, for a PUT, the first value_bytes of `value` are filled.
  void start(Operation operation);
  // On the lane's core, after the lane was resumed.
  Answer answer() const { return answer_; }
  unsigned found() const { return found_; }
  uint64_t number(unsigned index) const { return numbers_[index]; }
  const std::string& problem() const { return problem_; }

  uint64_t key_number = 0;
  std::string value;      // of a PUT; what was read, if it came from another core
  uint64_t refusals = 0;  // all that it ever met

 private:
  struct Write : StoreWrite {
    explicit Write(Call& of) : call(of) {}
    Call& call;
  };
  bool at_home() const;
  void serve() noexcept;
  void serve_get();
  void serve_put();
  void submit(size_t charged_bytes);
  void take(uint64_t number, std::string_view bytes);
  void fail_with(const Error& error);
  void ended() noexcept;
  void landed() noexcept;
  static Task<void> get_slowly(Call* call);
  static Task<void> put_slowly(Call* call, Nanos pause);
  static Task<void> scan(Call* call);
  std::string_view key() const { return {key_, key_bytes}; }

  Lane& lane_;
  CoreStore& store_;
  size_t value_bytes_;
  char key_[key_bytes];
  Operation operation_ = Operation::get;
  Answer answer_ = Answer::right;
  unsigned found_ = 0;
  std::array<uint64_t, scan_records> numbers_{};
  std::optional<Write> write_;  // made and destroyed on the store's core
  std::string problem_;
};

// The home of one operation at a time.
class Lane {
 public:
  Lane(unsigned core, std::vector<std::unique_ptr<CoreStore>>& stores, const Settings& settings);

  // What was started has ended.
  struct Ended {
    Lane& lane;
    bool await_ready() const noexcept { return lane.pending_ == 0; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      lane.task_ = &handle.promise();
    }
    void await_resume() const noexcept {}
  };
  void start(Operation operation, uint64_t key_number, uint64_t sequence);
  [[nodiscard]] Ended ended() { return {*this}; }
  Answer check();
  uint64_t refusals() const;
  const std::string& problem() const { return problem_; }
  // Whether the key is this core's.
  bool is_own(uint64_t key_number) const;

 private:
  friend class Call;
  unsigned owner_of(uint64_t key_number) const;
  Answer check_scan();

  unsigned core_;
  const Settings& settings_;
  std::vector<std::unique_ptr<Call>> calls_;  // by core
  Operation operation_ = Operation::get;
  uint64_t key_number_ = 0;
  unsigned owner_ = 0;
  unsigned pending_ = 0;
  PromiseBase* task_ = nullptr;
  std::string problem_;
};

}  // namespace gyre::engine
