#include "node/range_exchange.hpp"

namespace gyre {

RangeExchange::RangeExchange(http::Connection& connection, Core& core, std::string_view start,
                             std::string_view end)
    : Exchange(connection), core_(core), start_(start), end_(end) {
  many_keys = true;
  is_stream = true;
  framed_ = !style.http_1_0;
  if (!framed_) style.close = true;
}

RangeExchange::~RangeExchange() {
  if (transit_bytes_ != 0) core_.transit_memory().release(transit_bytes_);
}

bool RangeExchange::reserve(uint64_t bytes) {
  if (!core_.transit_memory().try_acquire(bytes)) return false;
  transit_bytes_ += bytes;
  return true;
}

void RangeExchange::give_back(uint64_t bytes) {
  transit_bytes_ -= bytes;
  core_.transit_memory().release(bytes);
}

void RangeExchange::refuse(uint16_t status, std::string_view reason) {
  status_ = status;
  failure_ = reason;
}

void RangeExchange::respond(http::Connection& to) {
  core_.count_status(status_);
  Socket& out = to.socket();
  if (status_ != 200) {
    is_stream = false;
    char* at = out.reserve(http::error_answer_bytes_max);
    char* end = http::write_error_answer(at, {.status = status_,
                                              .reason = failure_,
                                              .close = style.close,
                                              .say_keep_alive = style.say_keep_alive,
                                              .retry_after_s = status_ == 503 ? 1u : 0u,
                                              .date_line = to.date_line()});
    out.commit(static_cast<size_t>(end - at));
    return;
  }
  char* at = out.reserve(http::response_head_bytes_max);
  char* end = http::write_response_head(
      at,
      {.status = 200,
       .body = framed_ ? http::ResponseHead::Body::chunked : http::ResponseHead::Body::until_close,
       .close = style.close,
       .say_keep_alive = style.say_keep_alive,
       .content_type = http::ContentType::bytes,
       .date_line = to.date_line()});
  out.commit(static_cast<size_t>(end - at));
}

}  // namespace gyre
