#include "resp/reply_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "resp/number_text.hpp"

namespace gyre::resp {

namespace {

constexpr size_t head_bytes_max = 1 + integer_text_bytes_max + 2;

char* write_head(char* at, char type, uint64_t count) {
  *at++ = type;
  at = std::to_chars(at, at + integer_text_bytes_max, count).ptr;
  *at++ = '\r';
  *at++ = '\n';
  return at;
}

std::string text_of(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{:.17g}", value);
}

}  // namespace

std::string echo(std::string_view bytes, size_t bytes_max) {
  std::string text(bytes.substr(0, std::min(bytes_max, bytes.find('\0'))));
  std::ranges::replace(text, '\r', ' ');
  std::ranges::replace(text, '\n', ' ');
  return text;
}

void ReplyWriter::raw(std::string_view bytes) {
  if (bytes.empty()) return;
  if (socket_ == nullptr) {
    text_->append(bytes);
  } else if (bytes.size() <= 64) {
    std::memcpy(socket_->reserve(bytes.size()), bytes.data(), bytes.size());
    socket_->commit(bytes.size());
  } else {
    socket_->append(bytes);
  }
}

void ReplyWriter::head(char type, uint64_t count) {
  char bytes[head_bytes_max];
  raw({bytes, static_cast<size_t>(write_head(bytes, type, count) - bytes)});
}

void ReplyWriter::line(char type, std::string_view text) {
  raw({&type, 1});
  raw(text);
  raw("\r\n");
}

void ReplyWriter::simple(std::string_view text) {
  line('+', text);
}

void ReplyWriter::error(std::string_view message) {
  if (message.find_first_of("\r\n") == std::string_view::npos) return line('-', message);
  std::string text(message);
  std::ranges::replace(text, '\r', ' ');
  std::ranges::replace(text, '\n', ' ');
  line('-', text);
}

void ReplyWriter::integer(int64_t value) {
  char bytes[head_bytes_max];
  char* at = bytes;
  *at++ = ':';
  at = std::to_chars(at, at + integer_text_bytes_max, value).ptr;
  *at++ = '\r';
  *at++ = '\n';
  raw({bytes, static_cast<size_t>(at - bytes)});
}

void ReplyWriter::bulk(std::string_view bytes) {
  if (socket_ == nullptr || bytes.size() + head_bytes_max + 2 > Socket::reserve_bytes_max) {
    head('$', bytes.size());
    raw(bytes);
    raw("\r\n");
    return;
  }
  char* const from = socket_->reserve(bytes.size() + head_bytes_max + 2);
  char* at = write_head(from, '$', bytes.size());
  if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
  at += bytes.size();
  *at++ = '\r';
  *at++ = '\n';
  socket_->commit(static_cast<size_t>(at - from));
}

void ReplyWriter::null() {
  raw(protocol_ == Protocol::resp3 ? "_\r\n" : "$-1\r\n");
}

void ReplyWriter::null_array() {
  raw(protocol_ == Protocol::resp3 ? "_\r\n" : "*-1\r\n");
}

void ReplyWriter::boolean(bool value) {
  if (protocol_ == Protocol::resp3) return raw(value ? "#t\r\n" : "#f\r\n");
  integer(value ? 1 : 0);
}

void ReplyWriter::number(double value) {
  const std::string text = text_of(value);
  if (protocol_ == Protocol::resp3) return line(',', text);
  bulk(text);
}

void ReplyWriter::big_number(std::string_view digits) {
  if (protocol_ == Protocol::resp3) return line('(', digits);
  bulk(digits);
}

void ReplyWriter::verbatim(std::string_view format, std::string_view text) {
  if (protocol_ != Protocol::resp3) return bulk(text);
  head('=', format.size() + 1 + text.size());
  raw(format);
  raw(":");
  raw(text);
  raw("\r\n");
}

void ReplyWriter::map(size_t pairs) {
  if (protocol_ == Protocol::resp3) return head('%', pairs);
  head('*', 2 * uint64_t{pairs});
}

}  // namespace gyre::resp
