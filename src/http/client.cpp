#include "http/client.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "http/chars.hpp"
#include "http/response.hpp"
#include "runtime/patience.hpp"

namespace gyre::http {

namespace {

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

// An address needs no name server, and no thread that asks one.
}  // namespace

std::string Endpoint::authority() const {
  const bool six = host.find(':') != std::string::npos;
  return six ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<Endpoint> parse_endpoint(std::string_view url) {
  constexpr std::string_view scheme = "http://";
  constexpr std::string_view advice = "is not of the form http://HOST:PORT";
  std::string_view rest = url;
  if (!rest.starts_with(scheme)) return fail(Errc::invalid, std::string(advice));
  rest.remove_prefix(scheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  Endpoint endpoint;
  const size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  if (bracket == std::string_view::npos) return fail(Errc::invalid, std::string(advice));
  const size_t colon = rest.find(':', bracket);
  std::string_view host = rest.substr(0, colon);
  if (bracket != 0) {
    if (host.size() != bracket + 1) return fail(Errc::invalid, std::string(advice));
    host = host.substr(1, bracket - 1);
  }
  if (host.empty() || host.find_first_of("/?#@") != std::string_view::npos) {
    return fail(Errc::invalid, std::string(advice));
  }
  endpoint.host = host;
  if (colon != std::string_view::npos) {
    const std::string_view port = rest.substr(colon + 1);
    const auto [end, error] =
        std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (error != std::errc() || end != port.data() + port.size() || endpoint.port == 0) {
      return fail(Errc::invalid, std::string(advice));
    }
  }
  return endpoint;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (char c : text) {
    if (is_unreserved(c)) {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded += {'%', digits[byte >> 4], digits[byte & 15]};
  }
  return encoded;
}

// --- the connection -----------------------------------------------------------------------------

Client::Patience::Patience(Client& of)
    : Timer([](Timer& self) noexcept {
        Client& client = static_cast<Patience&>(self).client;
        Patience& patience = client.patience_;
        if (patience.progress_seen != client.progress()) {
          client.watch();
          return;
        }
        client.timed_out_ = true;
        client.socket_->abort();
      }),
      client(of) {}

Client::Client(Endpoint endpoint, Nanos timeout)
    : endpoint_(std::move(endpoint)), authority_(endpoint_.authority()), timeout_(timeout) {}

Client::~Client() {
  GYRE_ASSERT(socket_ == nullptr);
}

Task<Result<Descriptor>> Client::connect_any(Endpoint endpoint) {
  std::vector<std::string> addresses;
  if (is_numeric_host(endpoint.host)) {
    addresses.push_back(endpoint.host);
  } else {
    Result<std::vector<std::string>> found = co_await resolve(endpoint.host);
    if (!found) {
      Error error = std::move(found.error());
      error.detail = fmt::format("the name {} can't be resolved", endpoint.host);
      co_return fail(std::move(error));
    }
    addresses = std::move(*found);
  }
  Error last = Error::of(Errc::not_found, fmt::format("{} has no address", endpoint.host));
  for (std::string& address : addresses) {
    Result<Descriptor> fd = co_await connect_to(address, endpoint.port);
    if (fd) co_return fd;
    last = std::move(fd.error());
    last.detail = fmt::format("no connection to {}", Endpoint{address, endpoint.port}.authority());
    if (last.code == Errc::cancelled) break;
  }
  co_return fail(std::move(last));
}

Task<Result<void>> Client::connect() {
  GYRE_ASSERT(socket_ == nullptr);
  Result<Descriptor> fd = co_await with_timeout<Descriptor>(timeout_, connect_any(endpoint_));
  if (!fd) {
    if (fd.error().code == Errc::timed_out) {
      fd.error().detail = fmt::format("no connection to {} in time", authority_);
    }
    co_return fail(std::move(fd.error()));
  }
  socket_ = std::make_unique<Socket>(std::move(*fd));
  parser_ = ResponseParser();
  answers_head_.clear();
  rest_ = {};
  timed_out_ = writing_body_ = head_read_ = ends_ = false;
  co_return Result<void>{};
}

Task<void> Client::close() {
  if (socket_ == nullptr) co_return;
  Reactor::current().disarm(patience_);
  rest_ = {};
  co_await socket_->close();
  socket_.reset();
}

// Arms the timer if the server's turn has come, else disarms it.
void Client::watch() {
  Reactor& reactor = Reactor::current();
  if (draining_ || (receiving_ && (!writing_body_ || head_read_))) {
    patience_.progress_seen = progress();
    reactor.arm(patience_, reactor.after(timeout_));
  } else {
    reactor.disarm(patience_);
  }
}

Error Client::broken(std::string detail) const {
  if (timed_out_) {
    return Error::of(Errc::timed_out, fmt::format("{} did not answer in time", authority_));
  }
  return Error::of(Errc::closed, std::move(detail));
}

// --- requests -----------------------------------------------------------------------------------

void Client::write_head(std::string_view method, std::string_view target,
                        std::string_view framing) {
  GYRE_ASSERT(socket_ != nullptr && !writing_body_);
  for (std::string_view part :
       {method, std::string_view(" "), target, std::string_view(" HTTP/1.1\r\nHost: "),
        std::string_view(authority_), std::string_view(fields_), framing}) {
    socket_->append(part);
  }
  answers_head_.push_back(method == "HEAD");
}

void Client::set_field(std::string_view line) {
  fields_ += "\r\n";
  fields_ += line;
}

void Client::send_request(std::string_view method, std::string_view target,
                          std::optional<std::string_view> body) {
  if (!body) {
    write_head(method, target, "\r\n\r\n");
    return;
  }
  char framing[64];
  const auto end = fmt::format_to(framing, "\r\nContent-Length: {}\r\n\r\n", body->size());
  write_head(method, target, {framing, static_cast<size_t>(end - framing)});
  socket_->append(*body);
}

void Client::begin_request(std::string_view method, std::string_view target) {
  write_head(method, target, "\r\nTransfer-Encoding: chunked\r\n\r\n");
  writing_body_ = true;
  watch();
}

void Client::send_chunk(std::string_view bytes) {
  GYRE_ASSERT(writing_body_);
  if (bytes.empty()) return;  // would end the body
  char header[chunk_header_bytes_max];
  const char* end = write_chunk_header(header, bytes.size());
  socket_->append({header, static_cast<size_t>(end - header)});
  socket_->append(bytes);
  socket_->append(chunk_end);
}

void Client::end_body() {
  GYRE_ASSERT(writing_body_);
  socket_->append(last_chunk);
  writing_body_ = false;
  watch();
}

void Client::abandon() {
  if (socket_ != nullptr) socket_->abort();
}

Task<Result<void>> Client::drained(size_t bytes) {
  if (socket_->output_bytes() > bytes) {
    draining_ = true;
    watch();
    const bool sent = co_await socket_->drained(bytes);
    draining_ = false;
    watch();
    if (!sent && !socket_->broken()) co_return fail(Errc::cancelled);
  }
  if (socket_->broken()) co_return fail(broken("the server closed the connection"));
  co_return Result<void>{};
}

// --- answers ------------------------------------------------------------------------------------

void Client::release() {
  if (!rest_.empty()) {
    std::string moved(rest_);  // rest_ may be the end of kept_
    kept_.swap(moved);
    rest_ = kept_;
  }
  if (socket_ != nullptr) socket_->release();
}

// Waits for more bytes. Nothing is left to parse.
Task<Result<void>> Client::fill() {
  receiving_ = true;
  watch();
  Result<std::string_view> received = co_await socket_->receive();
  receiving_ = false;
  watch();
  if (!received) {
    if (received.error().code == Errc::cancelled) co_return fail(Errc::cancelled);
    Error error = broken("the server closed the connection");
    if (!timed_out_) error.os_error = received.error().os_error;
    co_return fail(std::move(error));
  }
  if (!received->empty()) {
    rest_ = *received;
    co_return Result<void>{};
  }
  co_return take_end();
}

// The server ended the stream. Fine only where the body of an answer ends that way.
Result<void> Client::take_end() {
  const ResponseParser::Step step = parser_.end_of_stream();
  if (step.event == ResponseParser::Event::error) {
    return fail(broken("the answer was cut: the server closed the connection before its end"));
  }
  if (step.event == ResponseParser::Event::complete) {
    ends_ = true;
    return {};
  }
  return fail(broken("the server closed the connection without an answer"));
}

Task<Result<void>> Client::answer() {
  GYRE_ASSERT(socket_ != nullptr && !answers_head_.empty() && !head_read_);
  parser_.expect_no_body(answers_head_.front());
  for (;;) {
    const ResponseParser::Step step = parser_.feed(rest_);
    rest_.remove_prefix(step.consumed);
    switch (step.event) {
      case ResponseParser::Event::head:
        head_read_ = true;
        co_return Result<void>{};
      case ResponseParser::Event::interim:
        break;
      case ResponseParser::Event::need_more:
        if (Result<void> more = co_await fill(); !more) co_return more;
        break;
      default:
        co_return fail(Errc::invalid, fmt::format("{} does not speak HTTP as expected: {}",
                                                  authority_, parser_.error()));
    }
  }
}

Task<Result<Client::Piece>> Client::body() {
  GYRE_ASSERT(socket_ != nullptr && head_read_);
  for (;;) {
    const ResponseParser::Step step =
        ends_ ? ResponseParser::Step{ResponseParser::Event::complete} : parser_.feed(rest_);
    rest_.remove_prefix(step.consumed);
    switch (step.event) {
      case ResponseParser::Event::body:
        if (step.body.empty()) break;
        co_return Piece{step.body, step.chunk_ends, false};
      case ResponseParser::Event::complete:
        ends_ = head_read_ = false;
        answers_head_.pop_front();
        co_return Piece{{}, false, true};
      case ResponseParser::Event::need_more:
        if (Result<void> more = co_await fill(); !more) co_return fail(more.error());
        break;
      default:
        co_return fail(Errc::invalid, fmt::format("{} does not speak HTTP as expected: {}",
                                                  authority_, parser_.error()));
    }
  }
}

Task<Result<std::string>> Client::text(size_t size_bytes_max) {
  std::string kept;
  for (;;) {
    Result<Piece> piece = co_await body();
    if (!piece) co_return fail(std::move(piece.error()));
    if (piece->ends) co_return kept;
    kept.append(piece->bytes.substr(0, size_bytes_max - kept.size()));
  }
}

}  // namespace gyre::http
