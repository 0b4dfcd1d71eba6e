#include "proxy/lookup_exchange.hpp"

#include <cstring>

#include "base/text_encoding.hpp"
#include "proxy/http_front.hpp"

namespace gyre::proxy {

namespace {

constexpr uint32_t retry_after_s = 1;
constexpr size_t body_kept_bytes_max = 64u << 10;

// How a cache tells what it did (RFC 9211).
std::string_view cache_status(Answer::Source source) {
  switch (source) {
    case Answer::Source::hit:
      return "gyre; hit";
    case Answer::Source::fetched:
      return "gyre; fwd=miss";
    case Answer::Source::stale:
      return "gyre; hit; detail=revalidating";
    case Answer::Source::on_error:
      return "gyre; hit; detail=origin-unavailable";
  }
  return "gyre";
}

// Text as it is, else in base64, which `name` says beside it.
void append_member(std::string& to, std::string_view name, std::string_view bytes,
                   std::string_view encoding_name, std::string& encodings) {
  to += '"';
  to += name;
  to += "\":";
  if (is_utf8(bytes)) {
    append_json_string(to, bytes);
    return;
  }
  to += '"';
  append_base64(to, bytes);
  to += '"';
  encodings += ",\"";
  encodings += encoding_name;
  encodings += "\":\"base64\"";
}

void write_json(std::string& body, const LookupAnswer& answer) {
  std::string encodings;
  body += '{';
  if (answer.has_key) {
    append_member(body, "key", answer.key, "key_encoding", encodings);
  } else {
    body += "\"key\":null";
  }
  body += ',';
  if (answer.status == 200) {
    append_member(body, "value", answer.value, "encoding", encodings);
  } else {
    body += "\"value\":null";
  }
  body += ",\"status\":";
  body += std::to_string(answer.status);
  body += encodings;
  body += "}";
}

}  // namespace

LookupAnswer to_http(const Answer& answer, std::string_view key) {
  LookupAnswer http;
  http.key = key;
  http.source = answer.source;
  switch (answer.status) {
    case Answer::Status::found:
      http.status = 200;
      http.value = answer.value;
      break;
    case Answer::Status::absent:
      http.status = 404;
      http.reason = "Redis has no value under this key";
      break;
    case Answer::Status::unavailable:
      http.status = 503;
      http.reason = answer.reason;
      break;
  }
  return http;
}

void write_lookup_answer(http::Connection& to, const http::AnswerStyle& style, Api api,
                         const LookupAnswer& answer, std::string& scratch) {
  std::string_view body = answer.value;
  http::ResponseHead head;
  head.status = answer.status;
  head.close = style.close;
  head.say_keep_alive = style.say_keep_alive;
  head.date_line = to.date_line();
  if (answer.status == 503 || answer.status == 429) head.retry_after_s = retry_after_s;
  if (answer.status == 200 || answer.status == 404) head.cache_status = cache_status(answer.source);
  if (api == Api::lookup) {
    scratch.clear();
    write_json(scratch, answer);
    body = scratch;
    head.content_type = http::ContentType::json;
  } else if (answer.status == 200) {
    head.content_type = http::ContentType::bytes;
  } else {
    scratch.assign(answer.reason);
    scratch += '\n';
    body = scratch;
    head.content_type = http::ContentType::text;
  }
  head.content_length = body.size();
  if (style.close) to.close_after_answer();
  Socket& out = to.socket();
  const bool together =
      http::response_head_bytes_max + body.size() <= Socket::reserve_bytes_max && !style.head_only;
  char* at = out.reserve(http::response_head_bytes_max + (together ? body.size() : 0));
  char* end = http::write_response_head(at, head);
  if (together) {
    std::memcpy(end, body.data(), body.size());
    end += body.size();
  }
  out.commit(static_cast<size_t>(end - at));
  if (!together && !style.head_only) out.append(body);
  if (scratch.capacity() > body_kept_bytes_max) std::string().swap(scratch);
}

LookupExchange::LookupExchange(http::Connection& connection, HttpFront& front, Api api,
                               std::string_view key)
    : Exchange(connection), front_(front), api_(api), owner_(front.owner_of(key)), key_(key) {
  answer_.key = key_.view();
}

LookupExchange::~LookupExchange() {
  if (counted_) front_.lookup_ended();
}

void LookupExchange::settle(const LookupAnswer& answer) {
  settled_ = true;
  value_.assign(answer.value);
  reason_.assign(answer.reason);
  answer_.status = answer.status;
  answer_.source = answer.source;
  answer_.has_key = answer.has_key;
  answer_.value = value_;
  answer_.reason = reason_;
}

void LookupExchange::begin() {
  if (settled_) {
    connection().finished(*this);
    return;
  }
  counted_ = true;
  front_.lookup_begun();
  if (owner_ == front_.index()) {
    front_.origin().ask(*this);  // who made this has looked into the cache
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& lookup = static_cast<LookupExchange&>(self);
    lookup.work(lookup.front_.origin_of(lookup.owner_));
  };
  Reactor::current().send(owner_, *this);
}

void LookupExchange::work(Origin& origin) {
  Answer answer;
  if (origin.try_answer(key(), answer)) {
    answered(answer);
  } else {
    origin.ask(*this);
  }
}

void LookupExchange::answered(const Answer& answer) noexcept {
  settle(to_http(answer, key()));
  go_back();
}

void LookupExchange::go_back() {
  if (owner_ == front_.index()) {
    connection().finished(*this);
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& lookup = static_cast<LookupExchange&>(self);
    lookup.connection().finished(lookup);
  };
  Reactor::current().send(front_.index(), *this);
}

void LookupExchange::respond(http::Connection& to) {
  front_.count_answer(answer_);
  write_lookup_answer(to, style, api_, answer_, front_.scratch());
}

}  // namespace gyre::proxy
