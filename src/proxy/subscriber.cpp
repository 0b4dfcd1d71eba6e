#include "proxy/subscriber.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include <gyre/time.hpp>

#include "proxy/resp_exchanges.hpp"
#include "proxy/resp_front.hpp"
#include "proxy/test_faults.hpp"
#include "resp/number_text.hpp"

namespace gyre::proxy {

namespace {

constexpr Nanos subscribe_timeout = seconds(30);

// Messages and confirmations are flat: texts, numbers, and null.
void copy(resp::ReplyWriter& to, const resp::Reply& element) {
  if (element.is_null()) {
    to.null();
  } else if (const auto number = element.integer();
             element.type() == resp::ReplyType::integer && number) {
    to.integer(*number);
  } else {
    to.bulk(element.text());
  }
}

}  // namespace

bool may_while_subscribed(std::string_view command) {
  constexpr std::string_view allowed[] = {"subscribe",    "unsubscribe", "psubscribe",
                                          "punsubscribe", "ssubscribe",  "sunsubscribe",
                                          "ping",         "quit",        "reset"};
  return std::ranges::any_of(allowed,
                             [&](std::string_view name) { return resp::is_word(command, name); });
}

// --- Subscriber ---------------------------------------------------------------------------------

Subscriber::Subscriber(const resp::ClientOptions& options, RespConnection& connection,
                       RespFront& front)
    : client(options, *this), connection_(&connection), front_(front) {}

Subscriber::~Subscriber() {
  count(subscriptions_, 0);
  count(shard_subscriptions_, 0);
}

void Subscriber::count(int64_t& of, int64_t now) {
  const bool before = is_subscribed();
  of = now;
  if (before == is_subscribed()) return;
  if (before) {
    --front_.stats().subscribers;
  } else {
    ++front_.stats().subscribers;
  }
}

// Confirmations tell how many subscriptions there are.
void Subscriber::note(const resp::Reply& push) {
  if (push.size() != 3) return;
  const auto number = push[2].integer();
  if (push[2].type() != resp::ReplyType::integer || !number) return;
  const std::string_view kind = push[0].text();
  if (kind == "ssubscribe" || kind == "sunsubscribe") {
    count(shard_subscriptions_, *number);
  } else if (kind.ends_with("subscribe")) {
    count(subscriptions_, *number);
  }
}

void Subscriber::pushed(const resp::Reply& push) noexcept {
  note(push);
  if (connection_ == nullptr) return;
  std::optional<resp::ReplyWriter> to = connection_->push();
  if (!to) {
    mute();
    return;
  }
  ++front_.stats().pushes;
  to->push(push.size());
  for (const resp::Reply element : push) copy(*to, element);
}

void Subscriber::lost() noexcept {
  const bool missed = is_subscribed();
  count(subscriptions_, 0);
  count(shard_subscriptions_, 0);
  if (!missed || connection_ == nullptr || proxy_test_faults.keep_lost_subscriber) return;
  connection_->abort();
  mute();
}

// --- exchanges ----------------------------------------------------------------------------------

SubscribeExchange::SubscribeExchange(RespConnection& connection, RespFront& front,
                                     resp::Command command)
    : Exchange(connection), client_(connection), front_(front) {
  encoded_ = fmt::format("*{}\r\n", command.size());
  for (const std::string_view word : command) {
    fmt::format_to(std::back_inserter(encoded_), "${}\r\n", word.size());
    encoded_ += word;
    encoded_ += "\r\n";
  }
  resp::append_command(encoded_, {"HELLO"});
  bytes = encoded_;
  fenced = true;
  reply = [](resp::ClientCommand& self, uint32_t, const resp::Reply& said) noexcept {
    if (said.is_error()) static_cast<SubscribeExchange&>(self).error_.assign(said.text());
  };
  done = [](resp::ClientCommand& self) noexcept { static_cast<SubscribeExchange&>(self).ended(); };
  touches_everything();
  if (!proxy_test_faults.subscribe_ends_early) holds_what_follows();
}

void SubscribeExchange::begin() {
  deadline = Reactor::current().after(subscribe_timeout);
  if (!front_.subscriber_of(client_).client.start(*this)) ended();
}

void SubscribeExchange::ended() {
  if (outcome != Errc::ok) {
    error_ = outcome == Errc::closed && sent_at == 0
                 ? "ERR gyre proxy: Redis can't be reached"
                 : fmt::format("ERR gyre proxy: {}", why_not(outcome));
    // What it is subscribed to isn't known any more.
    if (sent_at != 0) client_.subscriber->client.drop("a subscription failed");
  }
  client_.finished(*this);
}

void SubscribeExchange::respond(resp::ReplyWriter& to) {
  if (!error_.empty()) to.error(error_);
}

ResetExchange::ResetExchange(RespConnection& connection, RespFront& front)
    : Exchange(connection), client_(connection), front_(front) {
  touches_everything();
  holds_what_follows();
}

void ResetExchange::begin() {
  front_.reset(client_);
  client_.finished(*this);
}

void ResetExchange::respond(resp::ReplyWriter& to) {
  to.simple("RESET");
}

}  // namespace gyre::proxy
