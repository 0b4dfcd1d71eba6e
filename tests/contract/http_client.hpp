// A blocking HTTP/1.1 client for tests that shows everything: raw bytes out, and answers in with
// their head, framing and chunks. Waits end with an exception after a minute or more (a hang, never
// a measure of speed).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::test {

struct ConnectionEnded : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Nothing came, or nothing was taken, for as long as the client is patient.
struct NoAnswer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct HttpAnswer {
  int status = 0;
  std::string reason;
  std::string version;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::vector<std::string> chunks;  // when it was chunked
  bool chunked = false;
  std::vector<int> interim;  // 1xx that came before

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
  bool has(const std::string& name) const { return headers.contains(name); }
};

class HttpClient {
 public:
  // The kernel takes `receive_buffer_bytes` of what is not read, if given.
  explicit HttpClient(uint16_t port, int receive_buffer_bytes = 0);
  // To an IPv4 address in text; throws NoAnswer when a wait takes longer than `patience`.
  HttpClient(const std::string& address, uint16_t port, std::chrono::milliseconds patience);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Throws ConnectionEnded when the peer has reset the connection.
  void send(std::string_view bytes);
  // As many as are taken at once; false if the connection is broken.
  bool try_send(std::string_view bytes);
  // Throws ConnectionEnded if the connection ends before the answer does.
  HttpAnswer read_answer(bool head_only = false);
  // The head only; the body stays to be read with read_some, framed as it came.
  HttpAnswer read_head();
  // The next chunk of a chunked body; nothing after the last one.
  std::optional<std::string> read_chunk();
  // Whatever has come; empty at the end of the connection, also after a reset.
  std::string read_some();
  // Everything up to the end of the connection (or a reset).
  std::string read_to_end();
  // True if the peer has closed, waiting for it if need be.
  bool closed_by_peer();
  // Bytes that can be read now without waiting.
  bool has_bytes() const;
  // No more is sent; answers can still be read.
  void finish_sending();
  void close();
  int fd() const { return fd_; }

  HttpAnswer get(const std::string& target, const std::string& headers = "");
  HttpAnswer head(const std::string& target, const std::string& headers = "");
  HttpAnswer put(const std::string& target, std::string_view body, const std::string& headers = "");
  HttpAnswer del(const std::string& target, const std::string& headers = "");
  HttpAnswer request(const std::string& method, const std::string& target,
                     const std::string& headers = "");

 private:
  bool fill();  // false at the end
  std::string read_line();
  std::string read_exactly(size_t size_bytes);

  void set_patience(std::chrono::milliseconds patience);

  int fd_ = -1;
  std::chrono::milliseconds patience_{};
  std::string buffer_;
  size_t at_ = 0;
};

// True if nobody listens.
bool is_refused(uint16_t port);
uint16_t listening_port_of_new_socket();

std::string percent_encode(std::string_view bytes);
std::string entity(std::string_view key);  // /v0/entity?id=KEY
std::string range(std::string_view start, std::string_view end = {});
std::string get_request(const std::string& target, const std::string& headers = "");
std::string put_request(const std::string& target, std::string_view body,
                        const std::string& headers = "");
std::string delete_request(const std::string& target);
// Bytes that don't compress, the same for the same seed.
std::string random_bytes(uint64_t seed, size_t size_bytes);
// Raises the limit of open descriptors of this process; what it is then.
uint64_t raise_descriptor_limit();

}  // namespace gyre::test
