#include "peer/link.hpp"

#include <algorithm>

#include <gyre/time.hpp>

#include "base/assert.hpp"

namespace gyre::peer {

namespace {

void send_greeting(Socket& socket, Host& host, FrameType type, std::string_view payload) {
  const std::string_view parts[] = {payload};
  send_frame(socket, {.type = type, .epoch = host.identity().epoch, .hlc = host.hlc()}, parts);
}

}  // namespace

Link::DeadlineTimer::DeadlineTimer(Link& of)
    : Timer([](Timer& self) noexcept { static_cast<DeadlineTimer&>(self).link.check_deadlines(); }),
      link(of) {}

Link::Link(Host& host, Address address, Scope& scope)
    : host_(host), address_(std::move(address)), scope_(scope) {}

Link::~Link() {
  GYRE_ASSERT(head_ == nullptr && !running_);
}

// --- calls --------------------------------------------------------------------------------------

void Link::insert(Call& call) noexcept {
  Call* before = tail_;
  while (before != nullptr && before->deadline > call.deadline) before = before->previous_;
  call.previous_ = before;
  call.next_ = before != nullptr ? before->next_ : head_;
  (call.next_ != nullptr ? call.next_->previous_ : tail_) = &call;
  (before != nullptr ? before->next_ : head_) = &call;
  ++calls_;
}

void Link::remove(Call& call) noexcept {
  (call.next_ != nullptr ? call.next_->previous_ : tail_) = call.previous_;
  (call.previous_ != nullptr ? call.previous_->next_ : head_) = call.next_;
  --calls_;
  if (call.id_ != 0) {
    const auto place = static_cast<uint32_t>(call.id_);
    places_[place].call = nullptr;
    ++places_[place].use;
    free_places_.push_back(place);
    call.id_ = 0;
  }
}

void Link::call(Call& call) noexcept {
  GYRE_ASSERT(state_ != State::closed);
  Reactor& reactor = Reactor::current();
  ++stats_.calls;
  call.id_ = 0;
  call.again_ = false;
  insert(call);
  if (call.deadline <= reactor.now()) return finish(call, Status::timed_out, {});
  if (state_ == State::connected) {
    if (socket_->output_bytes() > output_bytes_max) return finish(call, Status::busy, {});
    send(call);
  } else if (state_ == State::idle) {
    if (reactor.now() < retry_at_) return finish(call, Status::unreachable, {});
    start();
  } else if (down_ && reactor.now() - attempt_begun_ > hopeful) {
    // It has been silent before, and is again.
    return finish(call, Status::unreachable, {});
  }
  if (&call == head_) rearm();
}

void Link::send(Call& call) noexcept {
  if (free_places_.empty()) {
    free_places_.push_back(static_cast<uint32_t>(places_.size()));
    places_.push_back({.use = 1});
  }
  const uint32_t place = free_places_.back();
  free_places_.pop_back();
  places_[place].call = &call;
  call.id_ = (uint64_t{places_[place].use} << 32) | place;
  call.received_at_send_ = socket_->bytes_received();

  const Nanos left = std::max<Nanos>(call.deadline - Reactor::current().now(), 0);
  FrameHeader header{.type = FrameType::request,
                     .verb = call.verb,
                     .request_id = call.id_,
                     .deadline_us = static_cast<uint32_t>(std::min<Nanos>(left / 1000, UINT32_MAX)),
                     .epoch = host_.identity().epoch,
                     .hlc = host_.hlc()};
  send_frame(*socket_, header, call.parts);
}

void Link::send_waiting() noexcept {
  for (Call* call = head_; call != nullptr; call = call->next_) {
    if (call->id_ == 0) send(*call);
  }
}

void Link::finish(Call& call, Status status, std::string_view reply) noexcept {
  remove(call);
  ++(status == Status::ok ? stats_.replies : stats_.failures);
  call.done(call, status, reply);
}

void Link::fail_all(Status status) noexcept {
  while (head_ != nullptr) finish(*head_, status, {});
  Reactor::current().disarm(timer_);
}

void Link::rearm() noexcept {
  if (head_ == nullptr) return;
  Reactor::current().arm(timer_, head_->deadline);
}

void Link::check_deadlines() noexcept {
  const Nanos now = Reactor::current().now();
  bool silent = false;
  while (head_ != nullptr && head_->deadline <= now) {
    Call& call = *head_;
    const bool sent = call.id_ != 0;
    silent = silent ||
             (sent && socket_ != nullptr && socket_->bytes_received() == call.received_at_send_);
    finish(call, sent ? Status::timed_out : Status::unreachable, {});
  }
  if (silent && socket_ != nullptr) {
    last_error_ = "nothing came within a deadline";
    down_ = true;
    socket_->abort();
    socket_->interrupt_receive();
  }
  rearm();
}

// --- the connection -----------------------------------------------------------------------------

void Link::forget_failures() noexcept {
  down_ = false;
  retry_at_ = 0;
  retry_interval_ = retry_interval_min;
}

void Link::peer_seen(const Identity& peer) noexcept {
  forget_failures();
  if (state_ != State::connected || peer_->incarnation == peer.incarnation) return;
  last_error_ = "the node was started anew";
  socket_->abort();
  socket_->interrupt_receive();
}

void Link::start() {
  state_ = State::connecting;
  attempt_begun_ = Reactor::current().now();
  settled_.reset();
  running_ = true;
  ended_.reset();
  scope_.spawn(run());
}

Task<bool> Link::connect() {
  if (state_ == State::idle) start();
  while (state_ == State::connecting) {
    if (!co_await settled_.wait()) co_return false;
  }
  co_return state_ == State::connected;
}

Task<void> Link::run() {
  FrameReader reader;
  std::optional<Socket> socket;
  bool had_one = false;
  Result<void> opened = co_await open(socket, reader);
  if (opened && state_ != State::closed) {
    ++stats_.connects;
    last_error_.clear();
    forget_failures();
    state_ = State::connected;
    socket_ = &*socket;
    settled_.set();
    host_.peer_seen(*peer_);
    send_waiting();
    co_await read_replies(reader);
    socket_ = nullptr;
    if (state_ != State::closed) state_ = State::connecting;  // calls wait until this one is closed
    had_one = true;
  } else if (!opened) {
    ++stats_.connects_failed;
    if (last_error_ != opened.error().message()) {
      last_error_ = opened.error().message();
      Reactor::current().log("warn", "event=peer_unreachable peer=" + address_.url + " reason=\"" +
                                         last_error_ + "\"");
    }
    down_ = true;
  }
  if (socket) co_await socket->close();
  running_ = false;
  connection_ended(had_one);
  settled_.set();
  ended_.set();
}

// What was under way is asked again, what nobody can be asked ends.
void Link::connection_ended(bool had_one) noexcept {
  if (state_ == State::closed) return fail_all(Status::closing);
  state_ = State::idle;
  Reactor& reactor = Reactor::current();
  if (!had_one || down_) {
    retry_at_ = reactor.now() + retry_interval_;
    retry_interval_ = std::min(2 * retry_interval_, retry_interval_max);
    while (head_ != nullptr) {
      finish(*head_, head_->again_ || head_->id_ != 0 ? Status::lost : Status::unreachable, {});
    }
    return;
  }
  Call* next = nullptr;
  for (Call* call = head_; call != nullptr; call = next) {
    next = call->next_;
    if (call->id_ == 0) continue;  // it was not sent yet
    if (call->again_) {
      finish(*call, Status::lost, {});
      continue;
    }
    remove(*call);  // gives its place back
    insert(*call);
    call->again_ = true;
    ++stats_.asked_again;
  }
  if (head_ != nullptr && state_ == State::idle) start();
}

Task<Result<void>> Link::open(std::optional<Socket>& socket, FrameReader& reader) {
  Result<std::vector<std::string>> addresses = co_await resolve(address_.host);
  if (!addresses) co_return fail(addresses.error());
  Result<Descriptor> connected = fail(Errc::not_found, address_.host + " has no address");
  for (const std::string& address : *addresses) {
    auto attempt = [](std::string host, uint16_t port) -> Task<Result<Descriptor>> {
      co_return co_await connect_to(std::move(host), port);
    };
    connected =
        co_await with_timeout<Descriptor>(connect_patience, attempt(address, address_.port));
    if (connected) break;
  }
  if (!connected) co_return fail(connected.error());
  socket.emplace(std::move(*connected));
  co_return co_await with_timeout<void>(connect_patience, shake_hands(*socket, reader));
}

// The next frame is in `reader`.
Task<Result<void>> Link::next_frame(Socket& socket, FrameReader& reader) {
  for (;;) {
    switch (reader.next()) {
      case FrameReader::Step::frame:
        co_return Result<void>{};
      case FrameReader::Step::broken:
        co_return fail(Errc::corrupt, "what came is no frame of the peer protocol");
      case FrameReader::Step::more:
        break;
    }
    Result<std::string_view> bytes = co_await socket.receive();
    if (!bytes) co_return fail(bytes.error());
    if (bytes->empty()) co_return fail(Errc::closed, "the peer closed the connection");
    reader.feed(*bytes);
  }
}

Task<Result<void>> Link::shake_hands(Socket& socket, FrameReader& reader) {
  Hello own{.identity = host_.identity()};
  fill_nonce(own.nonce);
  const std::string hello = own.encode();
  send_greeting(socket, host_, FrameType::hello, hello);
  if (Result<void> came = co_await next_frame(socket, reader); !came) co_return came;
  const std::string_view payload = reader.payload();
  if (reader.header().type == FrameType::refusal) {
    co_return fail(Errc::invalid, "refused: " + std::string(payload));
  }
  Proof theirs{};
  Hello welcome;
  if (reader.header().type != FrameType::welcome || !reader.payload_intact() ||
      payload.size() < theirs.size() || !Hello::decode(payload.substr(theirs.size()), welcome)) {
    co_return fail(Errc::corrupt, "the answer to the hello is none");
  }
  const std::string served(payload.substr(theirs.size()));
  if (!is_proof(payload.substr(0, theirs.size()),
                prove(host_.secret(), Side::serves, hello, served))) {
    co_return fail(Errc::invalid, "it doesn't know this cluster's secret: see --secret-file");
  }
  const std::string wrong = mismatch(host_.identity(), welcome);
  if (!wrong.empty()) co_return fail(Errc::invalid, wrong);
  if (welcome.identity.url != address_.url) {
    co_return fail(Errc::invalid, "at " + address_.url + " answers " + welcome.identity.url +
                                      ": check --advertise and --peers");
  }
  peer_ = welcome.identity;
  host_.observe_hlc(reader.header().hlc);
  const Proof proof = prove(host_.secret(), Side::asks, hello, served);
  send_greeting(socket, host_, FrameType::proof,
                {reinterpret_cast<const char*>(proof.data()), proof.size()});
  reader.limit_payload(payload_bytes_max);
  co_return Result<void>{};
}

Task<void> Link::read_replies(FrameReader& reader) {
  for (;;) {
    for (;;) {
      const FrameReader::Step step = reader.next();
      if (step == FrameReader::Step::more) break;
      if (step == FrameReader::Step::broken || !take_reply(reader)) {
        last_error_ = "a frame came damaged";
        co_return;
      }
    }
    socket_->release();
    if (state_ == State::closed) co_return;
    Result<std::string_view> bytes = co_await socket_->receive();
    if (!bytes || bytes->empty()) {
      if (last_error_.empty()) last_error_ = bytes ? "it was closed" : bytes.error().message();
      co_return;
    }
    reader.feed(*bytes);
  }
}

bool Link::take_reply(const FrameReader& reader) {
  const FrameHeader& header = reader.header();
  if (header.type == FrameType::refusal) {
    last_error_ = "refused: " + std::string(reader.payload());
    Reactor::current().log(
        "warn", "event=peer_refused peer=" + address_.url + " reason=\"" + last_error_ + "\"");
    down_ = true;
    return false;
  }
  if (header.type != FrameType::reply) return false;
  host_.observe_hlc(header.hlc);
  const auto place = static_cast<uint32_t>(header.request_id);
  if (place >= places_.size() || places_[place].call == nullptr ||
      places_[place].call->id_ != header.request_id) {
    return true;  // its deadline was over
  }
  const bool intact = reader.payload_intact();
  finish(*places_[place].call, intact ? header.status : Status::damaged,
         intact ? reader.payload() : std::string_view());
  return true;
}

Task<void> Link::close() {
  state_ = State::closed;
  fail_all(Status::closing);
  if (socket_ != nullptr) {
    socket_->abort();
    socket_->interrupt_receive();
  }
  // While it connects, its patience is short.
  if (running_) co_await ended_.wait();
  settled_.set();
}

}  // namespace gyre::peer
