// Publish and subscribe through the proxy. A client that subscribes has a connection to Redis of its
// own for that, made when first needed, beside the one that transactions have. It speaks RESP3
// whatever its client speaks, as only there a message can't be mistaken for a reply; what comes is
// written again in the client's protocol and sent on at once, between two answers.
//
// What holds:
//   - SUBSCRIBE and its like end when Redis has carried them out (ClientCommand::fenced), and
//     nothing behind them is begun before: what is published after that is received
//   - a client of RESP2 that is subscribed to something may only do what Redis lets it do then
//   - who does not read is cut off, by resp::ConnectionLimits::push_bytes_max
//   - if the connection to Redis is lost, so is that of a client that is subscribed: messages may
//     have been missed, and it has to subscribe again, as if it were connected to Redis itself
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "resp/client.hpp"
#include "resp/connection.hpp"

namespace gyre::proxy {

class RespConnection;
class RespFront;

class Subscriber final : public resp::ClientListener {
 public:
  Subscriber(const resp::ClientOptions& options, RespConnection& connection, RespFront& front);
  ~Subscriber() override;

  // To channels, patterns or shard channels.
  bool is_subscribed() const { return subscriptions_ + shard_subscriptions_ > 0; }
  // Nothing is sent on from here on.
  void mute() { connection_ = nullptr; }

  void pushed(const resp::Reply& push) noexcept override;
  void lost() noexcept override;

  resp::Client client;

 private:
  void note(const resp::Reply& push);
  void count(int64_t& of, int64_t now);

  RespConnection* connection_;  // null: muted
  RespFront& front_;
  int64_t subscriptions_ = 0;  // to channels and patterns, as Redis counts them
  int64_t shard_subscriptions_ = 0;
};

// Whether a client of RESP2 may send it while it is subscribed.
bool may_while_subscribed(std::string_view command);

// SUBSCRIBE, UNSUBSCRIBE and their like.
class SubscribeExchange final : public resp::Exchange, public resp::ClientCommand {
 public:
  SubscribeExchange(RespConnection& connection, RespFront& front, resp::Command command);
  void begin() override;
  void respond(resp::ReplyWriter& to) override;

 private:
  void ended();

  RespConnection& client_;
  RespFront& front_;
  std::string encoded_;
  std::string error_;
};

// RESET of a client that has connections to Redis of its own.
class ResetExchange final : public resp::Exchange {
 public:
  ResetExchange(RespConnection& connection, RespFront& front);
  void begin() override;
  void respond(resp::ReplyWriter& to) override;

 private:
  RespConnection& client_;
  RespFront& front_;
};

}  // namespace gyre::proxy
