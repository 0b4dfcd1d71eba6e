#include "http_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gyre::test {

namespace {

const std::string loopback = "127.0.0.1";
constexpr std::chrono::seconds default_patience(120);

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

std::string trim(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

void set_timeout(int fd, int option, std::chrono::milliseconds time) {
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(time);
  const timeval value{.tv_sec = whole.count(),
                      .tv_usec = std::chrono::microseconds(time - whole).count()};
  setsockopt(fd, SOL_SOCKET, option, &value, sizeof value);
}

// -1, with errno, if nobody takes the connection within the time.
int open_socket(const std::string& address, uint16_t port, int receive_buffer_bytes,
                std::chrono::milliseconds patience) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw std::runtime_error(std::string("socket: ") + std::strerror(errno));
  if (receive_buffer_bytes > 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
  set_timeout(fd, SO_SNDTIMEO, patience);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  if (inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) {
    throw std::runtime_error("not an address: " + address);
  }
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

}  // namespace

HttpClient::HttpClient(uint16_t port, int receive_buffer_bytes)
    : fd_(open_socket(loopback, port, receive_buffer_bytes, default_patience)) {
  if (fd_ < 0) throw ConnectionEnded(std::string("connect: ") + std::strerror(errno));
  set_patience(default_patience);
}

HttpClient::HttpClient(const std::string& address, uint16_t port,
                       std::chrono::milliseconds patience)
    : fd_(open_socket(address, port, 0, patience)) {
  if (fd_ < 0 && (errno == EINPROGRESS || errno == EAGAIN)) throw NoAnswer("connect: no answer");
  if (fd_ < 0) throw ConnectionEnded(std::string("connect: ") + std::strerror(errno));
  set_patience(patience);
}

void HttpClient::set_patience(std::chrono::milliseconds patience) {
  patience_ = patience;
  set_timeout(fd_, SO_RCVTIMEO, patience);
  set_timeout(fd_, SO_SNDTIMEO, patience);
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

HttpClient::~HttpClient() {
  close();
}

void HttpClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      throw NoAnswer("the node takes no bytes");
    }
    if (sent < 0) throw ConnectionEnded(std::string("send: ") + std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

bool HttpClient::try_send(std::string_view bytes) {
  const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

bool HttpClient::fill() {
  if (at_ > (1u << 16)) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  char bytes[65536];
  ssize_t size = 0;
  do {
    size = recv(fd_, bytes, sizeof bytes, 0);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    throw NoAnswer("no answer within " + std::to_string(patience_.count()) + " ms");
  }
  if (size <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(size));
  return true;
}

std::string HttpClient::read_line() {
  for (;;) {
    const size_t end = buffer_.find("\r\n", at_);
    if (end != std::string::npos) {
      std::string line = buffer_.substr(at_, end - at_);
      at_ = end + 2;
      return line;
    }
    if (!fill()) throw ConnectionEnded("the connection ended within an answer");
  }
}

std::string HttpClient::read_exactly(size_t size_bytes) {
  while (buffer_.size() - at_ < size_bytes) {
    if (!fill()) throw ConnectionEnded("the connection ended within a body");
  }
  std::string bytes = buffer_.substr(at_, size_bytes);
  at_ += size_bytes;
  return bytes;
}

HttpAnswer HttpClient::read_head() {
  HttpAnswer answer;
  for (;;) {
    const std::string line = read_line();
    if (!line.starts_with("HTTP/1.")) throw std::runtime_error("not a status line: " + line);
    answer.version = line.substr(0, 8);
    answer.status = std::atoi(line.c_str() + 9);
    answer.reason = line.size() > 13 ? line.substr(13) : "";
    answer.headers.clear();
    for (;;) {
      const std::string field = read_line();
      if (field.empty()) break;
      const size_t colon = field.find(':');
      if (colon == std::string::npos) throw std::runtime_error("not a header: " + field);
      const std::string name = lower(field.substr(0, colon));
      if (answer.headers.contains(name)) throw std::runtime_error("twice in one answer: " + name);
      answer.headers[name] = trim(field.substr(colon + 1));
    }
    if (answer.status >= 200) return answer;
    answer.interim.push_back(answer.status);
  }
}

HttpAnswer HttpClient::read_answer(bool head_only) {
  HttpAnswer answer = read_head();
  answer.chunked = lower(answer.header("transfer-encoding")) == "chunked";
  if (answer.chunked && answer.has("content-length")) {
    throw std::runtime_error("both Content-Length and chunked");
  }
  if (head_only || answer.status == 204 || answer.status == 304) return answer;
  if (answer.chunked) {
    while (std::optional<std::string> chunk = read_chunk()) {
      answer.body += *chunk;
      answer.chunks.push_back(std::move(*chunk));
    }
    return answer;
  }
  if (answer.has("content-length")) {
    answer.body = read_exactly(std::stoull(answer.header("content-length")));
  } else {
    answer.body = read_to_end();
  }
  return answer;
}

std::optional<std::string> HttpClient::read_chunk() {
  const size_t size = std::stoull(read_line(), nullptr, 16);
  std::string chunk = read_exactly(size);
  if (!read_line().empty()) throw std::runtime_error("a chunk without its end");
  if (size == 0) return std::nullopt;
  return chunk;
}

std::string HttpClient::read_some() {
  if (at_ == buffer_.size() && !fill()) return "";
  std::string bytes = buffer_.substr(at_);
  buffer_.clear();
  at_ = 0;
  return bytes;
}

std::string HttpClient::read_to_end() {
  std::string all;
  for (;;) {
    const std::string bytes = read_some();
    if (bytes.empty()) return all;
    all += bytes;
  }
}

bool HttpClient::closed_by_peer() {
  return read_some().empty();
}

bool HttpClient::has_bytes() const {
  if (at_ < buffer_.size()) return true;
  pollfd poll_for{.fd = fd_, .events = POLLIN, .revents = 0};
  if (poll(&poll_for, 1, 0) <= 0) return false;
  char byte = 0;
  return recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

void HttpClient::finish_sending() {
  shutdown(fd_, SHUT_WR);
}

HttpAnswer HttpClient::request(const std::string& method, const std::string& target,
                               const std::string& headers) {
  send(method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  return read_answer(method == "HEAD");
}
HttpAnswer HttpClient::get(const std::string& target, const std::string& headers) {
  return request("GET", target, headers);
}
HttpAnswer HttpClient::head(const std::string& target, const std::string& headers) {
  return request("HEAD", target, headers);
}
HttpAnswer HttpClient::del(const std::string& target, const std::string& headers) {
  return request("DELETE", target, headers);
}
HttpAnswer HttpClient::put(const std::string& target, std::string_view body,
                           const std::string& headers) {
  send(put_request(target, body, headers));
  return read_answer();
}

bool is_refused(uint16_t port) {
  const int fd = open_socket(loopback, port, 0, default_patience);
  if (fd >= 0) {
    ::close(fd);
    return false;
  }
  return errno == ECONNREFUSED;
}

// Below the ports that the kernel gives to outgoing connections (32768 and up): a node that is
// stopped and started again must find its port free, though other tests run beside it.
uint16_t listening_port_of_new_socket() {
  constexpr unsigned first = 15000;
  constexpr unsigned count = 17000;
  static unsigned next = static_cast<unsigned>(getpid()) * 7919u;
  for (unsigned attempt = 0; attempt < count; ++attempt) {
    const auto port = static_cast<uint16_t>(first + next++ % count);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const int bound = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    ::close(fd);
    if (bound == 0) return port;
  }
  throw std::runtime_error("no free port");
}

std::string percent_encode(std::string_view bytes) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
        c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return out;
}

std::string entity(std::string_view key) {
  return "/v0/entity?id=" + percent_encode(key);
}
std::string range(std::string_view start, std::string_view end) {
  std::string target = "/v0/entities?start=" + percent_encode(start);
  if (!end.empty()) target += "&end=" + percent_encode(end);
  return target;
}
std::string get_request(const std::string& target, const std::string& headers) {
  return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n";
}
std::string put_request(const std::string& target, std::string_view body,
                        const std::string& headers) {
  return "PUT " + target +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         headers + "\r\n" + std::string(body);
}
std::string delete_request(const std::string& target) {
  return "DELETE " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
}

std::string random_bytes(uint64_t seed, size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
  for (size_t at = 0; at < size_bytes; at += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(bytes.data() + at, &state, std::min<size_t>(8, size_bytes - at));
  }
  return bytes;
}

uint64_t raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace gyre::test
