#include "load/connection.hpp"

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "load/worker.hpp"

namespace gyre::load {

namespace {

constexpr Nanos connect_patience = seconds(5);
constexpr Nanos backoff_first = milliseconds(10);
constexpr Nanos backoff_max = milliseconds(200);

// What the answer would have been over HTTP.
unsigned status_of(resp::ReplyType type, std::string_view reply) {
  using enum resp::ReplyType;
  switch (type) {
    case simple:
      return 201;
    case bulk:
      return 200;
    case integer:
      return 202;
    case null:
      return 404;
    default:
      break;
  }
  if (reply.starts_with("-NOREPLICAS")) return 504;
  const bool refused =
      reply.starts_with("-TRYAGAIN") || reply.starts_with("-OOM") || reply.starts_with("-LOADING");
  return refused ? 503 : 500;
}

Task<Result<Descriptor>> connect_once(std::string address, uint16_t port) {
  co_return co_await connect_to(std::move(address), port);
}

}  // namespace

Connection::Connection(Worker& worker, size_t target, Ledger* ledger)
    : worker_(worker), target_(target), ring_(worker.options().pipeline) {
  if (ledger != nullptr) checker_ = std::make_unique<Checker>(worker.options(), *ledger);
}

Task<Result<Descriptor>> Connection::connect() {
  std::string address = worker_.address(target_);
  co_return co_await with_timeout<Descriptor>(
      connect_patience,
      connect_once(std::move(address), worker_.options().targets[target_].endpoint.port));
}

Task<void> Connection::run() {
  Nanos backoff = backoff_first;
  while (!worker_.ending()) {
    Result<Descriptor> fd = co_await connect();
    if (!fd) {
      if (fd.error().code == Errc::cancelled) co_return;
      worker_.connect_failed(*this, fd.error());
      if (!co_await sleep_for(backoff)) co_return;
      backoff = std::min(2 * backoff, backoff_max);
      continue;
    }
    useful_ = false;
    socket_ = std::make_unique<Socket>(std::move(*fd));
    parser_ = http::ResponseParser();
    scanner_ = resp::ReplyScanner();
    reply_.clear();
    timed_out_ = malformed_ = false;
    count_ = 0;
    up_ = true;
    worker_.connected(*this);
    co_await talk();
    const bool broken = socket_->broken();
    up_ = false;
    worker_.disconnected(*this, timed_out_   ? Worker::Loss::timeout
                                : malformed_ ? Worker::Loss::malformed
                                : broken     ? Worker::Loss::write
                                             : Worker::Loss::read);
    count_ = 0;
    co_await socket_->close();
    socket_.reset();
    // A server that takes connections and answers nothing is not asked again at once.
    if (useful_) {
      backoff = backoff_first;
    } else if (!co_await sleep_for(std::exchange(backoff, std::min(2 * backoff, backoff_max)))) {
      co_return;
    }
  }
}

Task<void> Connection::talk() {
  for (;;) {
    Result<std::string_view> bytes = co_await socket_->receive();
    if (!bytes) co_return;
    if (bytes->empty()) {
      // An answer without a length ends with the connection.
      if (count_ != 0 && parser_.end_of_stream().event == http::ResponseParser::Event::complete) {
        answered(parser_.status(), false);
      }
      co_return;
    }
    if (!(worker_.options().redis ? take_reply(*bytes) : take(*bytes))) co_return;
  }
}

bool Connection::take(std::string_view bytes) {
  using Event = http::ResponseParser::Event;
  for (;;) {
    const http::ResponseParser::Step step = parser_.feed(bytes);
    bytes_ += step.consumed;
    bytes.remove_prefix(step.consumed);
    switch (step.event) {
      case Event::need_more:
        // Bytes that nobody asked for don't belong to any request.
        malformed_ = count_ == 0 && !parser_.idle();
        return !malformed_;
      case Event::head:
        if (count_ != 0) break;
        malformed_ = true;
        return false;
      case Event::interim:
        break;
      case Event::body:
        if (checker_ != nullptr) checker_->body(step.body, step.chunk_ends);
        break;
      case Event::complete:
        malformed_ = !bytes.empty() && count_ == 1;
        answered(parser_.status(), parser_.keep_alive());
        if (malformed_ || !parser_.keep_alive()) return false;
        break;
      case Event::error:
        malformed_ = true;
        return false;
    }
  }
}

void Connection::send(const Request& request) {
  ++count_;
  under_way(count_ - 1) = {request, 0};
  if (count_ == 1) expect_answer();
  worker_.workload().write(request, target_, *socket_);
}

void Connection::expect_answer() {
  bytes_ = 0;
  if (checker_ != nullptr) checker_->begin(under_way(0).request);
}

void Connection::stamp_sent(Nanos at) {
  to_stamp = false;
  for (size_t i = count_; i > 0 && under_way(i - 1).sent_at == 0; --i)
    under_way(i - 1).sent_at = at;
}

bool Connection::take_reply(std::string_view bytes) {
  while (!bytes.empty()) {
    const resp::ReplyScanner::Step step = scanner_.feed(bytes);
    malformed_ = count_ == 0 || step.event == resp::ReplyScanner::Event::error;
    if (malformed_) return false;
    std::string_view reply = bytes.substr(0, step.consumed);
    bytes.remove_prefix(step.consumed);
    bytes_ += step.consumed;
    if (step.event != resp::ReplyScanner::Event::reply) {
      reply_.append(reply);
      return true;
    }
    if (!reply_.empty()) reply = reply_.append(reply);
    const unsigned status = status_of(scanner_.type(), reply);
    if (checker_ != nullptr && status == 200) {
      const size_t begin = reply.find('\n') + 1;
      checker_->body(reply.substr(begin, reply.size() - begin - 2), false);
    }
    malformed_ = !bytes.empty() && count_ == 1;
    reply_.clear();
    answered(status, true);
    if (malformed_) return false;
  }
  return true;
}

void Connection::answered(unsigned status, bool keep_alive) {
  useful_ = true;
  Finding finding;
  if (checker_ != nullptr) finding = checker_->finish(status);
  // A connection that closes now takes no further request.
  up_ = keep_alive && !malformed_;
  const UnderWay done = under_way(0);
  const uint64_t bytes = bytes_;
  first_ = (first_ + 1) % ring_.size();
  if (--count_ != 0) expect_answer();
  worker_.answered(*this, done.request, done.sent_at, status, bytes, finding);
}

void Connection::time_out() {
  timed_out_ = true;
  up_ = false;
  socket_->abort();
}

}  // namespace gyre::load
