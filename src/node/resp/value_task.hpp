// Reading one key for a command: from this node's store, or from the replicas of its slot.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "node/entity_exchange.hpp"
#include "node/resp/store_task.hpp"
#include "resp/connection.hpp"
#include "store/scan.hpp"
#include "store/shard.hpp"

namespace gyre {

struct ReadAnswer;

class ValueTask : public StoreTask {
 public:
  enum class State : uint8_t { absent, found, failed };

  ~ValueTask() override;

  // Ends with completed(), perhaps before it returns.
  void start();

  State state() const { return state_; }
  // Too long to be held: stream() sends it.
  bool is_large() const { return large_ != nullptr; }
  // The value, null, or an error.
  void write(resp::ReplyWriter& to) const;
  // Of a large value. False: the connection must be cut.
  Task<bool> stream(resp::Connection& to, resp::Protocol protocol);

 protected:
  // `stored_key` is copied. Without `wants_value` only state() is told.
  ValueTask(RespServer& server, std::string_view stored_key, bool wants_value);

 private:
  void work(Core& owner) override;
  Task<void> work_slowly(Core& owner);
  void take(StoreRead&& read);
  void take_replicated(const ReadAnswer& answer);
  Task<Result<std::string_view>> next_piece();
  static Task<Result<bool>> fetch_piece(ValueTask* self);
  Task<bool> reserve_for_stream(bool pipelined);

  CarriedText key_;
  bool wants_value_;
  State state_ = State::absent;
  std::string failure_;
  uint64_t size_bytes_ = 0;
  char inline_[inline_bytes_max];
  std::string body_;
  std::string_view value_;
  std::unique_ptr<LargeValueStream> large_;  // made, used and destroyed on the owner's core
  std::string piece_;
  uint64_t transit_bytes_ = 0;
  bool pipelined_ = false;  // they count in the core's pipelined memory too
};

}  // namespace gyre
