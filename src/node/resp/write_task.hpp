// Writing one key for a command: to this node's store, or to the replicas of its slot. Writes that
// were begun in some order on one connection take effect in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "node/entity_exchange.hpp"
#include "node/resp/store_task.hpp"
#include "store/shard.hpp"

namespace gyre {

struct WriteAnswer;

class WriteTask : public StoreTask {
 public:
  ~WriteTask() override;

  // Kind and expiry; before start().
  void be_value(std::string_view value, uint64_t expire_at_ms = 0);  // a view, see detach()
  void be_tombstone();
  // Views given so far end: the value is copied.
  void detach();
  // Ends with completed(), perhaps before it returns. The views end with it.
  void start();

  bool succeeded() const { return failure_.empty(); }
  // "CODE reason", once it has failed.
  const std::string& failure() const { return failure_; }

 protected:
  // `stored_key` is copied.
  WriteTask(RespServer& server, std::string_view stored_key, uint64_t key_hash);

  void work(Core& owner) override;
  void submit(Core& owner);
  void ended(Core& owner, Errc result);

  CarriedText key_;

 private:
  struct Write : StoreWrite {
    WriteTask* task = nullptr;
  };
  Task<void> work_with_patience(Core& owner);
  void start_replicated();
  void take_replicated(const WriteAnswer& answer);
  bool reserve_transit(uint64_t bytes);

  Write write_;
  std::string_view view_;  // the value, where it came
  char inline_[inline_bytes_max];
  uint64_t transit_bytes_ = 0;
  std::string failure_;
};

// What a client is told of a write that the shard has not taken: "CODE reason".
std::string write_failure(Core& owner, uint32_t shard, Errc result);

}  // namespace gyre
