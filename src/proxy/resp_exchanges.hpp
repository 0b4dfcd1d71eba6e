// Commands of Redis clients that can't be answered on the spot. As LookupExchange they travel to the
// owners of their keys and back; only the core that has one touches it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/mailbox.hpp>

#include "base/carried_text.hpp"
#include "proxy/cluster_commands.hpp"
#include "proxy/forward.hpp"
#include "proxy/origin.hpp"
#include "proxy/resp_front.hpp"
#include "resp/client.hpp"
#include "resp/connection.hpp"

namespace gyre::proxy {

// What is said of a value: GET itself, or something that follows from it.
struct ReadForm {
  enum class Kind : uint8_t { get, strlen, getrange };
  Kind kind = Kind::get;
  int64_t start = 0;  // of getrange, as Redis counts: from the end if negative
  int64_t end = 0;
};

void write_answer(resp::ReplyWriter& to, const ReadForm& form, const Answer& answer);

// The value of one key, from whichever core owns it. Part of an exchange.
class RemoteRead final : public Message, public Waiter {
 public:
  using Done = void (*)(RemoteRead& self) noexcept;
  RemoteRead(RespFront& front, std::string_view key) : front_(front), key_(key) {}

  // `done` is called on this core, perhaps at once.
  void begin(void* owner, Done done);
  void* owner() const { return owner_; }
  // Its views are of this object.
  const Answer& answer() const { return answer_; }

  std::string_view key() const override { return key_.view(); }
  void answered(const Answer& answer) noexcept override;

 private:
  void look(Origin& origin);

  RespFront& front_;
  CarriedText key_;
  unsigned core_ = 0;  // that owns it
  void* owner_ = nullptr;
  Done done_ = nullptr;
  Answer answer_;
  std::string value_;
  std::string reason_;
  std::string error_;
};

class ReadExchange final : public resp::Exchange {
 public:
  ReadExchange(resp::Connection& connection, RespFront& front, std::string_view key,
               const ReadForm& form);
  void begin() override;
  void respond(resp::ReplyWriter& to) override;

 private:
  uint64_t key_hash_;
  ReadForm form_;
  RemoteRead read_;
};

class ManyReadsExchange final : public resp::Exchange {
 public:
  ManyReadsExchange(resp::Connection& connection, RespFront& front, resp::Command command);
  void begin() override;
  void respond(resp::ReplyWriter& to) override;

 private:
  std::vector<uint64_t> key_hashes_;
  std::vector<std::unique_ptr<RemoteRead>> reads_;
  size_t missing_ = 0;
};

// A command that is passed on as it is; to a cluster, perhaps in parts.
class PassExchange final : public resp::Exchange, public Message, public Forward {
 public:
  PassExchange(RespConnection& connection, RespFront& front, resp::Command command,
               CommandKind kind);
  ~PassExchange() override;
  void begin() override;
  // Where it was held up: nothing of its connection is under way to where things were.
  void begin_shared();
  void respond(resp::ReplyWriter& to) override;
  // Its client has gone, and it may wait for ever. Only while it is the connection's `blocking`.
  void give_up();

 private:
  class Part;

  void begin_in_session();
  bool bind_session();
  void begin_parts();
  void part_ended();
  resp::Client& client_at(const resp::NodeAddress* node) override;
  bool may_go_on() const override;
  void replied() override;
  void finish();
  void note_session(bool succeeded);
  bool begins_session() const;
  void break_session();
  void stop_reading();
  void invalidate();
  void visit(unsigned core);
  void travel_from(unsigned core);

  RespConnection& client_;
  CommandKind kind_;
  bool in_session_;
  bool sending_multi_ = false;  // which was put off, ahead of the command
  std::string name_;            // in lower case
  std::string put_off_;         // the command, meanwhile
  Placement placement_;         // in a cluster
  std::optional<uint16_t> slot_;
  std::vector<SlotPart> slot_parts_;
  std::vector<std::unique_ptr<Part>> parts_;
  size_t parts_missing_ = 0;
  std::vector<std::string> given_;  // to a write: what may be keys
  std::vector<uint64_t> given_hashes_;
  bool everything_ = false;  // is invalidated
};

}  // namespace gyre::proxy
