// Reading and writing one key in one step, for a command: in the key's shard, on its newest state, when
// the log is about to take what is made of it (store/shard_modify.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "node/entity_exchange.hpp"
#include "node/resp/store_task.hpp"
#include "store/shard.hpp"

namespace gyre {

class ModifyTask : public StoreTask, public StoreModify {
 public:
  // Ends with completed(), perhaps before it returns.
  void start() { go(); }
  // "CODE reason", once it has failed.
  const std::string& failure_text() const { return failure_text_; }

 protected:
  // `stored_key` is copied. `value_bytes`: what is made at most, as far as is known.
  ModifyTask(RespServer& server, std::string_view stored_key, uint64_t key_hash,
             size_t value_bytes);

  // On the key's core, perhaps more than once: says what is to be written with one of the functions
  // below, or answers Act::leave.
  virtual Act apply(const StoreRead& current, bool present) = 0;

  // A value that lives as long as this does.
  Act set(std::string_view value, uint64_t expire_at_ms);
  Act set_made(std::string&& value, uint64_t expire_at_ms);
  Act set_made(ValueBuffer&& value, uint64_t expire_at_ms);
  // The present value with another expiry.
  Act keep(const StoreRead& current, uint64_t expire_at_ms);
  Act remove();

 private:
  void work(Core& owner) override;
  Task<void> work_with_patience(Core& owner);
  void submit(Core& owner);
  void ended(Core& owner, Errc result);

  CarriedText key_;
  size_t value_bytes_;
  std::string made_;
  std::string failure_text_;
};

}  // namespace gyre
