// Replies in the Redis protocol, appended to a socket's output or to a string.
//
// What RESP2 has no form for is written as Redis writes it there: a map as an array of twice as many
// elements, a set as an array, a double, big number or verbatim text as a bulk string, a boolean as
// 0 or 1, null as a null bulk string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/socket.hpp>

namespace gyre::resp {

enum class Protocol : uint8_t { resp2 = 2, resp3 = 3 };

// Bytes of a request that are repeated in an error, at most.
inline constexpr size_t echo_bytes_max = 128;

// `bytes` as they may be repeated in a line: up to the first NUL (as Redis' %s), cut, CR and LF as
// blanks.
std::string echo(std::string_view bytes, size_t bytes_max = echo_bytes_max);

class ReplyWriter {
 public:
  ReplyWriter(Socket& to, Protocol protocol) : socket_(&to), protocol_(protocol) {}
  ReplyWriter(std::string& to, Protocol protocol) : text_(&to), protocol_(protocol) {}

  Protocol protocol() const { return protocol_; }

  void ok() { raw("+OK\r\n"); }
  void simple(std::string_view text);  // without CR and LF
  // `message` begins with its code, as in "ERR no such key". CR and LF become blanks.
  void error(std::string_view message);
  void integer(int64_t value);
  void bulk(std::string_view bytes);
  void null();
  void null_array();
  void boolean(bool value);
  void number(double value);  // 17 significant digits
  void big_number(std::string_view digits);
  // `format` has three letters, as in "txt".
  void verbatim(std::string_view format, std::string_view text);

  // The head of so many elements (of a map: pairs); the elements follow.
  void array(size_t count) { head('*', count); }
  void map(size_t pairs);
  void set(size_t count) { head(protocol_ == Protocol::resp3 ? '~' : '*', count); }
  // RESP2 has none but in subscriptions, where it is an array.
  void push(size_t count) { head(protocol_ == Protocol::resp3 ? '>' : '*', count); }

  // A bulk string whose bytes follow by raw(), and then end_bulk().
  void begin_bulk(uint64_t size_bytes) { head('$', size_bytes); }
  void end_bulk() { raw("\r\n"); }
  void raw(std::string_view bytes);

 private:
  void head(char type, uint64_t count);
  void line(char type, std::string_view text);

  Socket* socket_ = nullptr;
  std::string* text_ = nullptr;
  Protocol protocol_;
};

}  // namespace gyre::resp
