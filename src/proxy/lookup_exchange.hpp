// A lookup that can't be answered on the spot: it waits for Redis, belongs to another core, or its
// turn has not come. The object travels to the core that owns the key and back; only the core that
// has it touches it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/mailbox.hpp>

#include "base/carried_text.hpp"
#include "http/connection.hpp"
#include "proxy/origin.hpp"

namespace gyre::proxy {

class HttpFront;

// The two ways to ask: JSON as the reference service answers it, or the bytes.
enum class Api : uint8_t { lookup, entity };

// What is answered. Views are the caller's.
struct LookupAnswer {
  uint16_t status = 200;  // 200, 400, 404, 429 (entity only) or 503
  bool has_key = true;
  std::string_view key;
  std::string_view value;
  std::string_view reason;  // of an error, one line; /lookup has no place for it
  Answer::Source source = Answer::Source::fetched;
};

LookupAnswer to_http(const Answer& answer, std::string_view key);
// In order: from start() if the connection may answer now, or from respond(). The body is made in
// `scratch`, whose memory is kept.
void write_lookup_answer(http::Connection& to, const http::AnswerStyle& style, Api api,
                         const LookupAnswer& answer, std::string& scratch);

class LookupExchange final : public http::Exchange, public Message, public Waiter {
 public:
  LookupExchange(http::Connection& connection, HttpFront& front, Api api, std::string_view key);
  ~LookupExchange() override;

  // It is known already, and only waits for its turn.
  void settle(const LookupAnswer& answer);

  void begin() override;
  void respond(http::Connection& to) override;

  std::string_view key() const override { return key_.view(); }
  void answered(const Answer& answer) noexcept override;

 private:
  void work(Origin& origin);
  void go_back();

  HttpFront& front_;  // of the connection's core
  Api api_;
  unsigned owner_;
  bool settled_ = false;
  bool counted_ = false;
  CarriedText key_;
  LookupAnswer answer_;  // its views are of the members
  std::string value_;
  std::string reason_;
};

}  // namespace gyre::proxy
