// Requests for one key that can't be answered on the spot: reads that need the disk or another
// core, and all writes.
//
// The object travels: it is made on the connection's core, sent to the core that owns the key's
// shard, worked on there, and sent back. Only the core that has it touches it.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/mailbox.hpp>
#include <gyre/version.hpp>

#include "base/carried_text.hpp"
#include "http/connection.hpp"
#include "node/core.hpp"
#include "store/scan.hpp"
#include "store/shard.hpp"

namespace gyre {

struct ReadAnswer;

// Small keys and values that cross cores travel inside the exchange.
inline constexpr size_t inline_bytes_max = 512;

class EntityExchange : public http::Exchange, public Message {
 public:
  EntityExchange(http::Connection& connection, Core& core, uint32_t shard, unsigned owner)
      : Exchange(connection), core_(core), shard_(shard), owner_(owner) {}

 protected:
  // Runs work() on the owner's core, at once if that is this one.
  void go_to_owner();
  // Called where work() ended: back to the connection's core, and finished.
  void go_back();
  virtual void work(Core& owner) = 0;

  Core& core_;  // of the connection
  uint32_t shard_;
  unsigned owner_;
};

class ReadExchange final : public EntityExchange {
 public:
  ReadExchange(http::Connection& connection, Core& core, uint32_t shard, unsigned owner,
               std::string_view key, std::string_view if_none_match);
  ~ReadExchange() override;

  void begin() override;
  void respond(http::Connection& to) override;
  Task<bool> stream(http::Connection& to) override;

  void at_front() override;
  // Instead of this node's store: `ack` of the first `from` nodes of the key's slot.
  void ask_replicas(uint32_t ack, uint32_t from) {
    ack_ = ack;
    from_ = from;
  }

  // For the core, which counts how many are under way.
  void go(ReadTurn turn);
  static constexpr std::string_view too_many_unread =
      "too many answers are waiting for their clients; try again";
  void refuse();  // instead: 503
  ReadExchange* next_waiting = nullptr;
  ReadExchange* previous_waiting = nullptr;

 private:
  void work(Core& owner) override;
  Task<void> work_slowly(Core& owner);
  void take(StoreRead&& read);
  void take_replicated(const ReadAnswer& answer);
  http::ResponseHead head() const;
  Task<Result<std::string_view>> next_piece();
  static Task<Result<bool>> fetch_piece(ReadExchange* self);

  CarriedText key_;
  CarriedText if_none_match_;
  void end_read();

  enum class Slot : uint8_t { none, awaited, awaited_later, held };

  Slot slot_ = Slot::none;
  ReadTurn turn_ = ReadTurn::next;  // whose slot it holds
  uint16_t status_ = 404;
  std::string failure_;
  Version version_;
  uint64_t size_bytes_ = 0;
  char inline_[inline_bytes_max];
  std::string body_;
  std::string_view value_;
  std::unique_ptr<LargeValueStream> large_;  // made, used and destroyed on the owner's core
  std::string piece_;
  uint64_t transit_bytes_ = 0;
  bool pipelined_ = false;  // they count in the core's pipelined memory too
  uint32_t ack_ = 0;        // 0: only this node's store is asked
  uint32_t from_ = 0;
};

class WriteExchange final : public EntityExchange, public StoreWrite {
 public:
  WriteExchange(http::Connection& connection, Core& core, uint32_t shard, unsigned owner, Kind kind,
                std::string_view key, uint64_t expire_at_ms, bool chunked, uint64_t content_length);
  ~WriteExchange() override;

  bool take_body(std::string_view piece, bool whole) override;
  Task<bool> make_room(size_t size_bytes) override;
  void detach_body() override;
  void begin() override;
  void respond(http::Connection& to) override;
  // Instead of this node's store: the first `from` nodes of the key's slot, `ack` of which suffice.
  void send_to_replicas(uint32_t ack, uint32_t from) {
    ack_ = ack;
    from_ = from;
  }

 private:
  static constexpr size_t view_bytes_max = 16u << 10;
  static constexpr size_t early_bytes_max = 4u << 10;

  void use_early();
  void begin_replicated();

  void work(Core& owner) override;
  Task<void> work_with_patience(Core& owner);
  void submit(Core& owner);
  void ended(Errc status);
  uint64_t transit_wanted(size_t piece_bytes) const;

  CarriedText key_;
  bool chunked_;
  uint64_t content_length_;
  std::string_view view_;  // the body, still in the receive buffer
  std::string early_;      // its first bytes, before memory for all of it was reserved
  char inline_[inline_bytes_max];
  uint64_t transit_bytes_ = 0;
  uint16_t status_ = 201;
  std::string failure_;
  uint32_t ack_ = 0;  // 0: only this node's store
  uint32_t from_ = 0;
};

}  // namespace gyre
