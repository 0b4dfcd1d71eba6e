#include "peer/link.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "peer/frame_output.hpp"
#include "runtime/patience.hpp"

namespace gyre::peer {

namespace {

constexpr Nanos deadline_grain = milliseconds(1);

}  // namespace

std::string_view to_string(LinkState state) noexcept {
  switch (state) {
    case LinkState::idle:
      return "idle";
    case LinkState::connecting:
      return "connecting";
    case LinkState::connected:
      return "connected";
    case LinkState::waiting:
      return "waiting";
    case LinkState::closed:
      return "closed";
  }
  return "unknown";
}

uint32_t time_left_us(Nanos deadline, Nanos now) noexcept {
  if (deadline == nanos_never) return UINT32_MAX;
  const Nanos left_us = deadline > now ? (deadline - now) / microseconds(1) : 0;
  return static_cast<uint32_t>(std::min<Nanos>(left_us, UINT32_MAX - 1));
}

// --- calls --------------------------------------------------------------------------------------

Call::~Call() {
  GYRE_ASSERT(link_ == nullptr);
}

std::string Call::take_reply() {
  return reader_ != nullptr ? reader_->take_payload() : std::string(reply);
}

AskedCall::AskedCall(Link& link) : to_(link) {}

Task<Status> AskedCall::ask() {
  done = [](Call& call) noexcept {
    auto& asked = static_cast<AskedCall&>(call);
    asked.text = asked.take_reply();
    asked.ended_.set();
  };
  if (!to_.start(*this)) co_return status;
  if (!co_await ended_.wait() && under_way()) {
    to_.cancel(*this);
    status = Status::cancelled;
  }
  co_return status;
}

void Link::List::push(Call& call) noexcept {
  call.list_ = this;
  call.next_ = nullptr;
  call.previous_ = tail;
  (tail != nullptr ? tail->next_ : head) = &call;
  tail = &call;
}

void Link::List::remove(Call& call) noexcept {
  GYRE_ASSERT(call.list_ == this);
  (call.previous_ != nullptr ? call.previous_->next_ : head) = call.next_;
  (call.next_ != nullptr ? call.next_->previous_ : tail) = call.previous_;
  call.list_ = nullptr;
}

Link::DeadlineTimer::DeadlineTimer(Link& of)
    : Timer([](Timer& self) noexcept { static_cast<DeadlineTimer&>(self).link.check(); }),
      link(of) {}

Link::PauseTimer::PauseTimer(Link& of)
    : Timer([](Timer& self) noexcept { static_cast<PauseTimer&>(self).link.want(); }), link(of) {}

Link::Link(LocalNode& node, LinkOptions options)
    : node_(node), options_(std::move(options)), reader_(limits::peer_payload_bytes_max) {}

Link::~Link() {
  GYRE_ASSERT(scope_ == nullptr && calls_count_ == 0);
}

uint64_t Link::bytes_sent() const {
  return stats_.bytes_sent + (socket_ != nullptr ? socket_->bytes_sent() : 0);
}

size_t Link::queue_bytes() const {
  return waiting_bytes_ + (state_ == LinkState::connected ? socket_->output_bytes() : 0);
}

bool Link::start(Call& call) {
  GYRE_ASSERT(call.link_ == nullptr && call.done != nullptr);
  const Nanos now = Reactor::current().now();
  const size_t bytes = bytes_of(call.parts);
  const size_t queued = queue_bytes();
  call.status = Status::ok;
  if (stopping_) {
    call.status = Status::cancelled;
  } else if (bytes > limits::peer_payload_bytes_max) {
    call.status = Status::too_large;
  } else if (call.deadline <= now) {
    call.status = Status::timed_out;
  } else if (queued != 0 && queued + frame_header_bytes + bytes > options_.queue_bytes_max) {
    ++stats_.refused_here;
    call.status = Status::overloaded;
  } else if (is_hopeless(now)) {
    call.status = Status::closed;
  }
  if (call.status != Status::ok) return false;
  ++stats_.calls;
  ++calls_count_;
  call.link_ = this;
  call.payload_bytes_ = bytes;
  call.retried_ = false;
  call.reply = {};
  call.peer_epoch = 0;
  call.sent_at = 0;
  if (state_ == LinkState::connected) {
    write(call);
  } else {
    waiting_.push(call);
    waiting_bytes_ += frame_header_bytes + bytes;
    connect();
  }
  watch(call.deadline);
  return true;
}

void Link::cancel(Call& call) noexcept {
  GYRE_ASSERT(call.link_ == this);
  stop_pages(call);
  forget(call);
}

void Link::grant(Call& call, uint32_t bytes) noexcept {
  GYRE_ASSERT(call.link_ == this && call.page != nullptr);
  if (state_ == LinkState::connected && call.id_ != 0) send_credit(call.id_, bytes, 0);
}

void Link::stop_pages(const Call& call) noexcept {
  if (call.page == nullptr || state_ != LinkState::connected || call.id_ == 0) return;
  send_credit(call.id_, 0, flag_stop);
}

void Link::send_credit(uint64_t id, uint32_t bytes, uint8_t flags) noexcept {
  append_frame(*socket_,
               {.type = FrameType::credit,
                .flags = flags,
                .request_id = id,
                .time_left_us = bytes,
                .epoch = node_.epoch(),
                .hlc = node_.hlc()},
               {});
}

void Link::forget(Call& call) noexcept {
  if (call.list_ == &waiting_) waiting_bytes_ -= frame_header_bytes + call.payload_bytes_;
  static_cast<List*>(call.list_)->remove(call);
  drop_id(call);
  call.link_ = nullptr;
  --calls_count_;
}

void Link::end(Call& call, Status status) noexcept {
  forget(call);
  call.status = status;
  call.done(call);
}

// Handlers may start and cancel calls meanwhile: what they start goes to other lists.
void Link::end_list(List& list, Status status) noexcept {
  while (list.head != nullptr) end(*list.head, status);
}

uint64_t Link::new_id(Call& call) {
  if (free_slot_ == UINT32_MAX) {
    free_slot_ = static_cast<uint32_t>(slots_.size());
    slots_.push_back({.next_free = UINT32_MAX});
  }
  const uint32_t index = free_slot_;
  Slot& slot = slots_[index];
  free_slot_ = slot.next_free;
  slot.call = &call;
  ++slot.uses;
  return uint64_t{slot.uses} << 32 | index;
}

void Link::drop_id(Call& call) noexcept {
  const uint64_t id = std::exchange(call.id_, 0);
  if (id == 0) return;
  const auto index = static_cast<uint32_t>(id);
  slots_[index].call = nullptr;
  slots_[index].next_free = free_slot_;
  free_slot_ = index;
}

Call* Link::find(uint64_t id) const {
  const auto index = static_cast<uint32_t>(id);
  if (index >= slots_.size() || slots_[index].uses != id >> 32) return nullptr;
  return slots_[index].call;
}

void Link::write(Call& call) {
  Reactor& reactor = Reactor::current();
  call.id_ = new_id(call);
  sent_.push(call);
  append_frame(*socket_,
               {.type = FrameType::request,
                .verb = call.verb,
                .request_id = call.id_,
                .time_left_us = time_left_us(call.deadline, reactor.now()),
                .epoch = node_.epoch(),
                .hlc = node_.hlc()},
               call.parts, {call.owner, call.retain, call.release});
  call.end_offset_ = socket_->bytes_sent() + socket_->output_bytes();
  call.sent_at = reactor.now();
  if (unheard_since_ == 0) {
    unheard_since_ = reactor.now();
    watch(reactor.after(options_.quiet_max));
  }
}

void Link::send_waiting() {
  while (waiting_.head != nullptr) {
    Call& call = *waiting_.head;
    waiting_bytes_ -= frame_header_bytes + call.payload_bytes_;
    waiting_.remove(call);
    write(call);
  }
}

// --- time ---------------------------------------------------------------------------------------

void Link::watch(Nanos at) noexcept {
  if (at == nanos_never) return;
  if (deadline_timer_.armed() && deadline_timer_.deadline <= at) return;
  Reactor& reactor = Reactor::current();
  reactor.disarm(deadline_timer_);
  reactor.arm(deadline_timer_, at);
}

void Link::check() noexcept {
  const Nanos now = Reactor::current().now();
  // What came while this core was busy is read before it is missed, but only once in a row.
  if (state_ == LinkState::connected && socket_->receive_ready() &&
      !std::exchange(postponed_, true)) {
    watch(now + deadline_grain);
    return;
  }
  postponed_ = false;
  List late;
  Nanos next = nanos_never;
  for (List* list : {&sent_, &waiting_}) {
    for (Call* at = list->head; at != nullptr;) {
      Call& call = *std::exchange(at, at->next_);
      if (call.deadline > now) {
        next = std::min(next, call.deadline);
        continue;
      }
      if (list == &waiting_) waiting_bytes_ -= frame_header_bytes + call.payload_bytes_;
      stop_pages(call);
      list->remove(call);
      late.push(call);
      ++stats_.timed_out;
    }
  }
  List hopeless;
  if (is_hopeless(now)) {
    while (waiting_.head != nullptr) {
      Call& call = *waiting_.head;
      waiting_.remove(call);
      hopeless.push(call);
    }
    waiting_bytes_ = 0;
  } else if (down_ && state_ == LinkState::connecting) {
    watch(attempted_at_ + options_.hopeful_max);
  }
  if (next != nanos_never) watch(std::max(next, now + deadline_grain));
  if (state_ == LinkState::connected) check_silence(now);
  end_list(late, Status::timed_out);
  end_list(hopeless, Status::closed);
}

// An attempt is under way, and the last one came to nothing too.
bool Link::is_hopeless(Nanos now) const {
  return down_ && state_ == LinkState::connecting && now - attempted_at_ >= options_.hopeful_max;
}

void Link::check_silence(Nanos now) noexcept {
  if (pinged_at_ != 0) {
    if (now - pinged_at_ >= options_.silence_max) {
      trouble_ = "the peer is silent";
      down_ = true;
      socket_->abort();
      return;
    }
    watch(pinged_at_ + options_.silence_max);
    return;
  }
  const Nanos due = unheard_since_ != 0 ? unheard_since_ + options_.quiet_max
                                        : heard_at_ + options_.idle_ping_interval;
  if (now >= due) {
    ping();
    watch(now + options_.silence_max);
  } else {
    watch(due);
  }
}

void Link::ping() noexcept {
  pinged_at_ = Reactor::current().now();
  if (ping_sent_at_ == 0) ping_sent_at_ = pinged_at_;
  append_frame(
      *socket_,
      {.type = FrameType::request, .verb = verb_ping, .epoch = node_.epoch(), .hlc = node_.hlc()},
      {});
}

// --- the connection -----------------------------------------------------------------------------

void Link::connect() {
  if (stopping_ || state_ == LinkState::connecting || state_ == LinkState::connected) return;
  if (scope_ == nullptr) {
    scope_ = std::make_unique<Scope>(nullptr, "peer link");
    scope_->spawn(run());
  }
  want();
}

void Link::want() noexcept {
  if (state_ != LinkState::connecting && state_ != LinkState::connected) wanted_.set();
}

Task<bool> Link::try_once() {
  if (state_ == LinkState::connected) co_return true;
  settled_.reset();
  connect();
  if (!stopping_) static_cast<void>(co_await settled_.wait());
  co_return state_ == LinkState::connected;
}

void Link::peer_seen(const Identity& peer) noexcept {
  backoff_ = 0;
  down_ = false;
  if (scope_ != nullptr) want();
  if (state_ == LinkState::connected && peer_->incarnation != peer.incarnation) {
    trouble_ = "the peer was started anew";
    socket_->abort();
  }
}

void Link::pause() noexcept {
  Reactor& reactor = Reactor::current();
  backoff_ = std::clamp(2 * backoff_, options_.backoff_min, options_.backoff_max);
  const auto half = static_cast<uint64_t>(backoff_ / 2);
  const auto jitter = static_cast<Nanos>(reactor.random() % (half + 1));
  reactor.disarm(pause_timer_);
  reactor.arm(pause_timer_, reactor.after(backoff_ - jitter));
}

Task<Result<Descriptor>> Link::reach() {
  co_return co_await connect_to_any(options_.host, options_.port, options_.reach_timeout);
}

Task<Result<Met>> Link::attempt() {
  Result<Descriptor> fd = co_await reach();
  if (!fd) co_return fail(std::move(fd.error()));
  socket_ = std::make_unique<Socket>(std::move(*fd));
  co_return co_await meet_as_asker(*socket_, node_, options_.target_core, options_.handshake);
}

Task<void> Link::run() {
  Reactor& reactor = Reactor::current();
  for (;;) {
    if (!co_await wanted_.wait() || stopping_) break;
    const Nanos earliest = attempted_at_ + options_.attempt_interval_min;
    if (reactor.now() < earliest && !co_await sleep_until(earliest)) break;
    wanted_.reset();
    reactor.disarm(pause_timer_);
    state_ = LinkState::connecting;
    attempted_at_ = reactor.now();
    if (down_) watch(attempted_at_ + options_.hopeful_max);
    ++stats_.attempts;
    Result<Met> met = co_await with_timeout<Met>(options_.connect_timeout, attempt());
    tried_ = true;
    uint64_t bytes_sent = 0;
    if (met) {
      state_ = LinkState::connected;
      ++stats_.connected;
      down_ = false;
      settled_.set();
      peer_ = std::move(met->peer);
      trouble_.clear();
      connected_at_ = heard_at_ = reactor.now();
      unheard_since_ = pinged_at_ = 0;
      watch(heard_at_ + options_.idle_ping_interval);
      send_waiting();
      const std::string why = co_await receive(std::move(met->rest));
      if (trouble_.empty()) trouble_ = why;
      if (reactor.now() - connected_at_ > options_.backoff_max) backoff_ = 0;
    } else {
      std::string reason = met.error().message();
      if (reason != trouble_ && !stopping_) {
        reactor.log("warn", fmt::format("event=peer_unreachable peer={}:{} reason=\"{}\"",
                                        options_.host, options_.port, reason));
      }
      trouble_ = std::move(reason);
      down_ = true;
    }
    state_ = LinkState::waiting;
    if (socket_ != nullptr) {
      co_await socket_->close();
      bytes_sent = socket_->bytes_sent();
      stats_.bytes_sent += bytes_sent;
      socket_.reset();
    }
    settled_.set();
    if (stopping_) break;
    pause();
    if (met) {
      connection_ended(bytes_sent);
    } else {
      List failed;
      while (waiting_.head != nullptr) {
        Call& call = *waiting_.head;
        waiting_.remove(call);
        failed.push(call);
      }
      waiting_bytes_ = 0;
      wanted_.reset();
      end_list(failed, Status::closed);
    }
  }
}

// What can't have been carried out, or does no harm twice, is sent again; before what came later.
void Link::connection_ended(uint64_t bytes_sent) noexcept {
  List again;
  List lost;
  while (sent_.head != nullptr) {
    Call& call = *sent_.head;
    sent_.remove(call);
    drop_id(call);
    const bool harmless = call.idempotent || call.end_offset_ > bytes_sent;
    // Who was silent will hardly answer the next attempt: the caller may have better places to ask.
    if (down_ || !harmless || std::exchange(call.retried_, true)) {
      lost.push(call);
      continue;
    }
    ++stats_.retried;
    again.push(call);
    waiting_bytes_ += frame_header_bytes + call.payload_bytes_;
  }
  while (waiting_.head != nullptr) {
    Call& call = *waiting_.head;
    waiting_.remove(call);
    again.push(call);
  }
  while (again.head != nullptr) {
    Call& call = *again.head;
    again.remove(call);
    waiting_.push(call);
  }
  if (waiting_.head != nullptr) want();
  end_list(lost, Status::closed);
}

// Until the connection ends; answers why.
Task<std::string> Link::receive(std::string rest) {
  reader_ = FrameReader(limits::peer_payload_bytes_max);
  if (!take(rest)) co_return std::string(reader_.error());
  for (;;) {
    Result<std::string_view> bytes = co_await socket_->receive();
    if (!bytes) co_return bytes.error().message();
    if (bytes->empty()) co_return "the peer closed the connection";
    stats_.bytes_received += bytes->size();
    const bool sound = take(*bytes);
    socket_->release();
    if (!sound)
      co_return reader_.error().empty() ? "an unexpected frame" : std::string(reader_.error());
  }
}

bool Link::take(std::string_view bytes) {
  if (bytes.empty()) return true;
  heard_at_ = Reactor::current().now();
  pinged_at_ = ping_sent_at_ = 0;
  for (;;) {
    const FrameReader::Step step = reader_.feed(bytes);
    bytes.remove_prefix(step.consumed);
    switch (step.event) {
      case FrameReader::Event::need_more:
        unheard_since_ = sent_.head != nullptr ? heard_at_ : 0;
        return true;
      case FrameReader::Event::header:
        if (reader_.header().type != FrameType::reply && reader_.header().type != FrameType::page) {
          return false;
        }
        peer_hlc_ = reader_.header().hlc;
        static_cast<void>(node_.observe(peer_hlc_));
        if (find(reader_.header().request_id) == nullptr) reader_.skip_payload();
        break;
      case FrameReader::Event::frame:
        if (reader_.header().type == FrameType::page) {
          take_page();
        } else {
          answer();
        }
        break;
      case FrameReader::Event::error:
        return false;
    }
  }
}

void Link::answer() {
  const FrameHeader& header = reader_.header();
  Call* call = find(header.request_id);
  const Nanos asked_at = call != nullptr          ? call->sent_at
                         : header.request_id == 0 ? std::exchange(ping_sent_at_, 0)
                                                  : 0;
  if (asked_at != 0) round_trip_ = std::min(round_trip_, Reactor::current().now() - asked_at);
  if (call == nullptr) {
    if (header.request_id != 0) ++stats_.replies_late;
    return;
  }
  ++stats_.replies;
  call->peer_epoch = header.epoch;
  const bool intact = reader_.payload_intact();
  if (intact) call->reply = reader_.payload();
  call->reader_ = intact ? &reader_ : nullptr;
  forget(*call);
  call->status = intact ? static_cast<Status>(header.verb) : Status::corrupt;
  Call& ended = *call;
  ended.done(ended);  // perhaps the end of it
}

// A page of a call that has ended is dropped: the peer was told to stop.
void Link::take_page() {
  Call* call = find(reader_.header().request_id);
  if (call == nullptr) return;
  if (!reader_.payload_intact() || call->page == nullptr) {
    stop_pages(*call);
    end(*call, Status::corrupt);
    return;
  }
  call->retried_ = true;
  call->page(*call, reader_.payload());
}

Task<void> Link::close() {
  GYRE_ASSERT(!stopping_);
  stopping_ = true;
  Reactor& reactor = Reactor::current();
  reactor.disarm(deadline_timer_);
  reactor.disarm(pause_timer_);
  end_list(sent_, Status::cancelled);
  end_list(waiting_, Status::cancelled);
  if (scope_ != nullptr) {
    scope_->request_stop();
    co_await scope_->join();
    scope_.reset();
  }
  // The end of the connection may have armed them once more.
  reactor.disarm(deadline_timer_);
  reactor.disarm(pause_timer_);
  state_ = LinkState::closed;
}

}  // namespace gyre::peer
