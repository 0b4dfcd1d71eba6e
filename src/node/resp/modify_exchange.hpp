// A command that reads and writes one key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "node/resp/carried_words.hpp"
#include "node/resp/invocation.hpp"
#include "node/resp/modify_task.hpp"

namespace gyre {

class ModifyExchange;

// What a command does with its key, and what its words mean for that.
struct ModifySpec {
  // Writes the answer to self.reply(), and says what becomes of the key, as ModifyTask::apply.
  using Apply = StoreModify::Act (*)(ModifyExchange& self, const StoreRead& current, bool present);

  Apply apply = nullptr;
  size_t value_bytes = 0;   // what is made at most, as far as is known
  bool wants_value = true;  // else a large one isn't read
  int64_t number = 0;
  long double fraction = 0;
  uint64_t expire_at_ms = 0;
  uint32_t flags = 0;
};

class ModifyExchange final : public resp::Exchange, public ModifyTask {
 public:
  ModifyExchange(Invocation& in, std::string_view stored_key, uint64_t key_hash,
                 const ModifySpec& spec);

  const CarriedWords& words() const { return words_; }
  const ModifySpec& spec() const { return spec_; }
  resp::ReplyWriter reply() {
    answer_.clear();
    return {answer_, protocol()};
  }
  using ModifyTask::keep;
  using ModifyTask::remove;
  using ModifyTask::set;
  using ModifyTask::set_made;

  void begin() override { start(); }
  void respond(resp::ReplyWriter& to) override;

 private:
  Act apply(const StoreRead& current, bool present) override {
    return spec_.apply(*this, current, present);
  }
  void completed() override { connection().finished(*this); }

  CarriedWords words_;
  ModifySpec spec_;
  uint64_t key_hash_;
  std::string answer_;
};

// The key is word 1.
resp::Exchange* modify_key(Invocation& in, const ModifySpec& spec);

// A cluster has no one place where a key could be read and written in one step: answers that, and
// true.
bool refused_in_cluster(Invocation& in);

}  // namespace gyre
