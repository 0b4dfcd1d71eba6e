// A command that reads and writes one key.
#pragma once

#include <cstdint>
#include <string_view>

#include "node/resp/carried_words.hpp"
#include "node/resp/invocation.hpp"
#include "node/resp/modify_task.hpp"

namespace gyre {

class ModifyExchange final : public resp::Exchange, public ModifyTask {
 public:
  ModifyExchange(Invocation& in, std::string_view stored_key, uint64_t key_hash,
                 const ModifySpec& spec);

  void begin() override { start(); }
  void respond(resp::ReplyWriter& to) override;

 private:
  void completed() override { connection().finished(*this); }

  CarriedWords words_;
  uint64_t key_hash_;
};

// The key is word 1.
resp::Exchange* modify_key(Invocation& in, const ModifySpec& spec);

}  // namespace gyre
