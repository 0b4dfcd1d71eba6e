// Reading and writing one key in one step, for a command: in the key's shard, on its newest state, when
// the log is about to take what is made of it (store/shard_modify.cpp); in a cluster by the key's first
// replica (replication/replicated_modify.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "node/entity_exchange.hpp"
#include "node/resp/modification.hpp"
#include "node/resp/store_task.hpp"
#include "store/shard.hpp"

namespace gyre {

struct ModifyAnswer;

class ModifyTask : public StoreTask, public StoreModify {
 public:
  ~ModifyTask() override;

  // Ends with completed(), perhaps before it returns.
  void start();
  // "CODE reason", once it has failed.
  const std::string& failure_text() const { return failure_text_; }

 protected:
  // `stored_key` is copied.
  ModifyTask(RespServer& server, std::string_view stored_key, uint64_t key_hash,
             const ModifySpec& spec, resp::Protocol protocol);

  // Before start(): of the command, its name and key first. They stay where they are.
  void take_words(Modification::Words words) { modification_.take_words(words); }
  // If it has not failed: what is answered, and whether the key was changed.
  std::string_view answer() const { return is_replicated_ ? answer_ : modification_.answer(); }
  bool changed() const { return is_replicated_ ? changed_ : modification_.changed(); }

 private:
  void work(Core& owner) override;
  Task<void> work_with_patience(Core& owner);
  void submit(Core& owner);
  void ended(Core& owner, Errc result);
  void start_replicated();
  void take_replicated(const ModifyAnswer& answer);

  CarriedText key_;
  Modification modification_;
  bool is_replicated_ = false;
  bool changed_ = false;
  std::string answer_;
  uint64_t transit_bytes_ = 0;
  std::string failure_text_;
};

}  // namespace gyre
