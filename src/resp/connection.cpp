#include "resp/connection.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "resp/glance.hpp"
#include "resp/number_text.hpp"
#include "runtime/patience.hpp"

namespace gyre::resp {

namespace {

constexpr Nanos deadline_check_interval = milliseconds(500);
// An idle connection may keep this much without being asked.
constexpr size_t unparsed_bytes_free = 2 * CommandParser::held_bytes_kept;
// A command gets a second more for each of these: a slow line is served, a drip is not.
constexpr uint64_t command_bytes_per_second_min = 64u << 10;
// Comparing two commands key by key must not take long: beyond it they are taken to conflict.
constexpr size_t comparisons_max = 4096;
constexpr size_t spare_texts_max = 64;
constexpr size_t spare_text_bytes_first = 1u << 10;
constexpr size_t spare_text_bytes_max = 4u << 10;
constexpr size_t keys_ahead = 16;
constexpr char tls_handshake = '\x16';
constexpr size_t watched_bytes_max = 64u << 10;

size_t class_of(uint64_t key_hash) {
  return key_hash >> 58;
}

}  // namespace

Exchange::Exchange(Connection& connection)
    : connection_(connection), protocol_(connection.protocol()), silent_(connection.silent()) {}

Task<bool> Exchange::stream(Connection&) {
  co_return true;
}
Task<bool> Handler::unparsed_bytes_wanted(size_t) {
  co_return false;
}

// Replies to commands that were answered at once, behind one that is not.
class Connection::ReadyReplies final : public Exchange {
 public:
  explicit ReadyReplies(Connection& connection) : Exchange(connection) {
    std::vector<std::string>& spare = connection.limits().spare_texts;
    if (spare.empty()) {
      text.reserve(spare_text_bytes_first);
      return;
    }
    text = std::move(spare.back());
    spare.pop_back();
  }
  ~ReadyReplies() override {
    connection().ready_bytes_ -= counted;
    std::vector<std::string>& spare = connection().limits().spare_texts;
    if (text.capacity() > spare_text_bytes_max || spare.size() >= spare_texts_max) return;
    text.clear();
    spare.push_back(std::move(text));
  }

  void begin() override {}
  void respond(ReplyWriter& to) override { to.raw(text); }

  std::string text;
  size_t counted = 0;  // of its bytes, in ready_bytes_
};

Connection::DeadlineTimer::DeadlineTimer(Connection& of)
    : Timer([](Timer& self) noexcept {
        static_cast<DeadlineTimer&>(self).connection.check_deadlines();
      }),
      connection(of) {}

Connection::Connection(int fd, Handler& handler, const ConnectionLimits& limits, bool authenticated)
    : socket_(fd),
      peer_(Reactor::current().backend().peer(fd)),
      handler_(handler),
      limits_(limits),
      parser_(authenticated ? limits.command : CommandLimits::before_authentication()),
      authenticated_(authenticated) {}

Connection::~Connection() {
  GYRE_ASSERT(queue_head_ == nullptr);
}

void Connection::set_authenticated(bool authenticated) {
  authenticated_ = authenticated;
  unauthenticated_since_ = Reactor::current().now();
  parser_.set_limits(authenticated ? limits_.command : CommandLimits::before_authentication());
}

void Connection::set_reply_mode(ReplyMode mode) {
  reply_mode_ = mode == ReplyMode::off ? ReplyMode::off : ReplyMode::on;
  replies_to_skip_ = mode == ReplyMode::skip_next ? 2 : 0;
}

// --- life ---------------------------------------------------------------------------------------

Task<void> Connection::run() {
  Reactor& reactor = Reactor::current();
  Scope scope(co_await current_stop(), "resp connection");
  scope_ = &scope;
  connected_at_ = unauthenticated_since_ = heard_at_ = progress_since_ = reactor.now();
  enter(Phase::idle);
  reactor.arm(timer_, reactor.now() + deadline_check_interval);

  co_await read_commands();
  reading_ended();

  // What was started is finished and answered before the connection goes, unless it is broken.
  end_batch();
  closing_ = true;
  enter(Phase::waiting);
  while (queue_head_ != nullptr) {
    changed_.reset();
    flush_answers();
    if (queue_head_ == nullptr) break;
    co_await gyre::detail::Uninterrupted{changed_};
  }
  co_await scope.join();
  parser_.discard();
  std::string().swap(carry_);
  static_cast<void>(account_unparsed(0));
  // A peer that has only finished sending still reads: everything goes out before the close.
  if (co_await socket_.drained(0) && !skip_linger_) co_await linger();
  reactor.disarm(timer_);
  scope_ = nullptr;
  co_await socket_.close();
  handler_.connection_closed(*this);
}

Task<void> Connection::read_commands() {
  for (;;) {
    if (closing_) co_return;
    if (draining_ && queue_head_ == nullptr && parser_.idle()) co_return;
    in_receive_ = true;
    Result<std::string_view> bytes = co_await socket_.receive();
    in_receive_ = false;
    if (!bytes) {
      const bool interrupted = bytes.error().code == Errc::timed_out;
      if (interrupted && std::exchange(woken_, false)) continue;
      if (interrupted) ++limits_.counters.timeouts;
      skip_linger_ = true;
      co_return;
    }
    heard_at_ = Reactor::current().now();
    if (bytes->empty()) {  // the client has finished sending; what it asked for is still answered
      skip_linger_ = true;
      co_return;
    }
    if (std::exchange(is_new_, false) && bytes->front() == tls_handshake) {
      cut_off("a TLS handshake");
      co_return;
    }
    bool go_on = co_await process(*bytes);
    socket_.release();
    // A wait inside saved the rest of the buffer.
    while (go_on && !carry_.empty()) {
      std::string rest;
      rest.swap(carry_);
      go_on = co_await process(rest);
    }
    if (!go_on) co_return;
    if (parser_.idle()) {
      enter(Phase::idle);
    } else if (phase_ != Phase::command) {
      enter(Phase::command);
    }
  }
}

// False: the connection reads no further. If it has to wait, the rest of `bytes` is in carry_.
Task<bool> Connection::process(std::string_view bytes) {
  size_t seen_ahead = 0;  // of `bytes`
  for (;;) {
    const CommandParser::Step step = parser_.feed(bytes);
    bytes.remove_prefix(step.consumed);
    seen_ahead -= std::min(seen_ahead, step.consumed);
    switch (step.event) {
      case CommandParser::Event::need_more:
        end_batch();
        if (account_unparsed(parser_.held_bytes_soon())) co_return true;
        co_return co_await wait_for_memory();
      case CommandParser::Event::error:
        ++limits_.counters.protocol_errors;
        answer_last("ERR " + std::string(parser_.error()));
        co_return false;
      case CommandParser::Event::command:
        break;
    }
    // Whoever works on it accounts for what he keeps; the parser lets go of it at once.
    static_cast<void>(account_unparsed(0));
    if (const Command command = parser_.command(); is_foreign(command)) {
      cut_off(command[0]);
      co_return false;
    }
    phase_ = Phase::idle;
    if (Exchange* exchange = start_command(); exchange != nullptr) {
      const bool waits = blocked(*exchange);
      enqueue(*exchange);
      if (waits) {
        exchange->detach();
        carry_.assign(bytes);
        co_return co_await wait_turn(*exchange);
      }
      exchange->begin();  // may be its end
    }
    if (closing_) co_return false;
    if (must_wait_for_room()) {
      carry_.assign(bytes);
      co_return co_await wait_for_room();
    }
    if (seen_ahead == 0 && !bytes.empty()) seen_ahead = look_ahead(bytes);
  }
}

size_t Connection::look_ahead(std::string_view bytes) {
  std::array<std::string_view, keys_ahead> keys;
  const Glance seen = glance_at(bytes, keys);
  if (seen.keys > 1) handler_.keys_expected(*this, std::span(keys).first(seen.keys));
  return seen.bytes;
}

Exchange* Connection::start_command() {
  ++limits_.counters.commands;
  batch_begun_ = true;
  Exchange* exchange = handler_.start(*this, parser_.command());
  if (exchange == nullptr) {
    ++limits_.counters.commands_at_once;
    if (ready_ != nullptr) {
      ready_bytes_ += ready_->text.size() - ready_->counted;
      ready_->counted = ready_->text.size();
    }
  }
  if (replies_to_skip_ != 0) --replies_to_skip_;
  return exchange;
}

void Connection::end_batch() {
  if (std::exchange(batch_begun_, false)) handler_.batch_ended(*this);
}

// A browser sends a request line and then "Host:"; a POST may have been made of anything (redis'
// securityWarningCommand).
bool Connection::is_foreign(Command command) const {
  const std::string_view name = command[0];
  if (is_word(name, "post") || is_word(name.substr(0, 5), "host:")) return true;
  return parser_.is_inline() && command.size() > 1 && command.back().starts_with("HTTP/");
}

void Connection::cut_off(std::string_view what) {
  ++limits_.counters.foreigners_cut_off;
  handler_.foreigner_cut_off(*this, what);
  end_batch();
  abort();
}

void Connection::answer_last(std::string_view message) {
  out().error(message);
  closing_ = true;
  end_batch();
}

// --- order --------------------------------------------------------------------------------------

void Connection::enqueue(Exchange& exchange) {
  (queue_tail_ != nullptr ? queue_tail_->next_ : queue_head_) = &exchange;
  queue_tail_ = &exchange;
  ready_ = nullptr;
  ++queue_size_;
  ++limits_.exchanges_under_way;
  if (exchange.finished_) return;
  ++unfinished_;
  count_touched(exchange, 1);
}

// Removes the first one, which is finished.
void Connection::dequeue() noexcept {
  Exchange* exchange = queue_head_;
  queue_head_ = exchange->next_;
  if (queue_head_ == nullptr) queue_tail_ = nullptr;
  if (exchange == ready_) ready_ = nullptr;
  --queue_size_;
  --limits_.exchanges_under_way;
  delete exchange;
}

void Connection::count_touched(const Exchange& exchange, int by) noexcept {
  const auto more = static_cast<uint32_t>(by);
  if (exchange.everything_) unfinished_everything_ += static_cast<size_t>(by);
  if (exchange.holds_) unfinished_holds_ += static_cast<size_t>(by);
  if (exchange.endless_) unfinished_endless_ += static_cast<size_t>(by);
  for (const uint64_t hash : exchange.key_hashes_) {
    if (exchange.reads_) readers_[class_of(hash)] += more;
    if (exchange.writes_) writers_[class_of(hash)] += more;
  }
}

bool Connection::may_run(std::span<const uint64_t> key_hashes, bool reading, bool writing) const {
  if (unfinished_ == 0) return true;
  if (key_hashes.empty()) return false;
  if (unfinished_everything_ != 0) return false;
  const bool untouched = std::ranges::none_of(key_hashes, [&](uint64_t hash) {
    const size_t of = class_of(hash);
    return (reading && writers_[of] != 0) || (writing && readers_[of] != 0);
  });
  return untouched || !conflicts_before(nullptr, key_hashes, reading, writing);
}

bool Connection::may_read(uint64_t key_hash) const {
  return may_run({&key_hash, 1}, true, false);
}

bool Connection::conflicts_before(const Exchange* end, std::span<const uint64_t> key_hashes,
                                  bool reading, bool writing) const {
  size_t comparisons_left = comparisons_max;
  for (const Exchange* at = queue_head_; at != end; at = at->next_) {
    if (at->finished_) continue;
    if (at->everything_) return true;
    if (!(reading && at->writes_) && !(writing && at->reads_)) continue;
    const size_t comparisons = key_hashes.size() * at->key_hashes_.size();
    if (comparisons > comparisons_left) return true;
    comparisons_left -= comparisons;
    for (const uint64_t hash : at->key_hashes_) {
      if (std::ranges::find(key_hashes, hash) != key_hashes.end()) return true;
    }
  }
  return false;
}

// Before it is in the queue.
bool Connection::blocked(const Exchange& exchange) const {
  if (exchange.everything_) return unfinished_ != 0;
  if (exchange.key_hashes_.empty()) return false;
  return !may_run(exchange.key_hashes_, exchange.reads_, exchange.writes_);
}

size_t Connection::output_bytes_allowed() const {
  if (!authenticated_) return limits_.output_bytes_pause_unauthenticated;
  return output_bytes_live() > limits_.output_total_bytes_max ? limits_.output_bytes_scarce
                                                              : limits_.output_bytes_pause;
}

bool Connection::must_wait_for_room() const {
  const bool scarce = limits_.exchanges_under_way > limits_.exchanges_under_way_scarce;
  if (streaming_ || queue_size_ > (scarce ? 1 : limits_.pipeline_max)) return true;
  if (unfinished_holds_ != 0) return true;
  // What is not answered yet needs room too: this wait ends by itself.
  if (unfinished_ > 1 && unfinished_ * answer_bytes_seen_ > limits_.unfinished_bytes_max) {
    return true;
  }
  return output_bytes() > output_bytes_allowed();
}

Task<bool> Connection::wait_turn(Exchange& exchange) {
  end_batch();
  bool watches = unfinished_endless_ != 0;
  bool has_memory = watches || pause_reading();
  while (exchange.everything_ ? unfinished_ > 1
                              : conflicts_before(&exchange, exchange.key_hashes_, exchange.reads_,
                                                 exchange.writes_)) {
    if (watches) {
      watches = co_await watch_client();
      if (!watches) has_memory = pause_reading();
      continue;
    }
    changed_.reset();
    co_await gyre::detail::Uninterrupted{changed_};
  }
  batch_begun_ = true;
  exchange.begin();  // may be its end
  co_return co_await wait_for_room(has_memory);
}

// Until something has changed, or the client has sent more, which is kept. False: it will send no
// more, or has sent enough.
Task<bool> Connection::watch_client() {
  enter(Phase::waiting);
  in_receive_ = watching_ = true;
  const Result<std::string_view> bytes = co_await socket_.receive();
  in_receive_ = watching_ = false;
  if (!bytes && bytes.error().code == Errc::timed_out) {
    woken_ = false;
    co_return true;
  }
  if (!bytes || bytes->empty()) {
    reading_ended();
    co_return false;
  }
  heard_at_ = Reactor::current().now();
  carry_.append(*bytes);
  socket_.release();
  co_return carry_.size() < watched_bytes_max;
}

// `has_memory`: for what is kept meanwhile.
Task<bool> Connection::wait_for_room(bool has_memory) {
  end_batch();
  has_memory = pause_reading() && has_memory;
  while (must_wait_for_room()) {
    if (const size_t allowed = output_bytes_allowed(); socket_.output_bytes() > allowed) {
      ++limits_.counters.output_pauses;
      if (!co_await socket_.drained(allowed / 2)) {
        skip_linger_ = true;
        co_return false;
      }
    } else {
      changed_.reset();
      co_await gyre::detail::Uninterrupted{changed_};
    }
  }
  enter(Phase::idle);
  if (closing_) co_return false;
  if (!has_memory) answer_last("ERR too many commands wait for their answers; try again");
  co_return has_memory;
}

// A command in pieces needs more than there is.
Task<bool> Connection::wait_for_memory() {
  socket_.pause_receive();
  enter(Phase::waiting);
  const size_t wanted = parser_.held_bytes_soon();
  const bool room = co_await handler_.unparsed_bytes_wanted(wanted - unparsed_bytes_);
  if (!closing_ && room && account_unparsed(wanted)) {
    enter(Phase::command);
    co_return true;
  }
  parser_.discard();
  static_cast<void>(account_unparsed(0));
  if (!closing_) answer_last("ERR no memory for this command now; try again");
  co_return false;
}

ReplyWriter Connection::out() {
  if (silent()) {
    discarded_.clear();
    return {discarded_, protocol_};
  }
  if (queue_head_ == nullptr) return {socket_, protocol_};
  if (ready_ == nullptr) {
    auto* replies = new ReadyReplies(*this);
    replies->finished_ = true;
    enqueue(*replies);
    ready_ = replies;
  }
  return {ready_->text, protocol_};
}

std::optional<ReplyWriter> Connection::push() {
  if (closing_ || streaming_ || socket_.broken()) return std::nullopt;
  const bool scarce = output_bytes_live() > limits_.output_total_bytes_max;
  if (socket_.output_bytes() > (scarce ? limits_.push_bytes_scarce : limits_.push_bytes_max)) {
    ++limits_.counters.pushes_cut_off;
    abort();
    return std::nullopt;
  }
  return ReplyWriter(socket_, protocol_);
}

void Connection::finished(Exchange& exchange) noexcept {
  GYRE_ASSERT(!exchange.finished_);
  exchange.finished_ = true;
  --unfinished_;
  count_touched(exchange, -1);
  flush_answers();
  changed_.set();
  if (watching_) wake_reader();
}

// Sends what is finished, in order, as far as it goes.
void Connection::flush_answers() noexcept {
  while (queue_head_ != nullptr && queue_head_->finished_ && !streaming_) {
    Exchange* exchange = queue_head_;
    if (exchange == ready_) ready_ = nullptr;
    if (!socket_.broken() && !exchange->silent_) {
      const size_t output_before = socket_.output_bytes();
      ReplyWriter to(socket_, exchange->protocol_);
      exchange->respond(to);
      if (exchange->is_stream) {
        streaming_ = true;
        scope_->spawn(run_stream(exchange));
        return;
      }
      const size_t answer_bytes = socket_.output_bytes() - output_before;
      answer_bytes_seen_ = std::max(answer_bytes, answer_bytes_seen_ - answer_bytes_seen_ / 8);
    }
    dequeue();
  }
  // The reader learns of a stop, or of a last answer, here if it waits for more.
  if (queue_head_ == nullptr && (draining_ || closing_) && parser_.idle()) wake_reader();
}

void Connection::wake_reader() noexcept {
  if (!in_receive_) return;
  woken_ = true;
  socket_.interrupt_receive();
}

Task<void> Connection::run_stream(Exchange* exchange) {
  const bool complete = co_await exchange->stream(*this);
  if (!complete) {
    closing_ = true;
    skip_linger_ = true;
    socket_.abort();
  }
  streaming_ = false;
  dequeue();
  flush_answers();
  changed_.set();
}

// --- deadlines and the end ----------------------------------------------------------------------

void Connection::enter(Phase phase) {
  phase_ = phase;
  phase_since_ = Reactor::current().now();
  bytes_at_phase_ = socket_.bytes_received();
}

void Connection::check_deadlines() noexcept {
  Reactor& reactor = Reactor::current();
  const Nanos now = reactor.now();
  note_progress();
  if (now - progress_since_ > limits_.send_timeout) {
    ++limits_.counters.timeouts;
    abort();
  }
  const Nanos in_phase = now - phase_since_;
  const auto bytes_in_phase = static_cast<Nanos>(socket_.bytes_received() - bytes_at_phase_);
  const bool late =
      (!authenticated_ && now - unauthenticated_since_ > limits_.authentication_timeout) ||
      (phase_ == Phase::command &&
       in_phase > limits_.command_timeout + bytes_in_phase * seconds(1) /
                                                static_cast<Nanos>(command_bytes_per_second_min)) ||
      (phase_ == Phase::idle && queue_head_ == nullptr && limits_.idle_timeout != 0 &&
       in_phase > limits_.idle_timeout);
  if (late && in_receive_) socket_.interrupt_receive();
  reactor.arm(timer_, now + deadline_check_interval);
}

void Connection::note_progress() noexcept {
  if (socket_.output_bytes() == 0 || socket_.bytes_sent() != sent_seen_) {
    sent_seen_ = socket_.bytes_sent();
    progress_since_ = Reactor::current().now();
  }
}

bool Connection::account_unparsed(size_t bytes) noexcept {
  const size_t held = bytes > unparsed_bytes_free ? bytes : 0;
  if (held == unparsed_bytes_) return true;
  if (!handler_.unparsed_bytes_changed(unparsed_bytes_, held)) return false;
  unparsed_bytes_ = held;
  return true;
}

// Before a wait that a peer can make long: nothing more is received, and what was received and
// can't be parsed yet is accounted. False: there is no memory for it, and it is gone.
bool Connection::pause_reading() {
  socket_.pause_receive();
  enter(Phase::waiting);
  if (account_unparsed(parser_.held_bytes() + carry_.capacity() + socket_.receive_bytes_kept())) {
    return true;
  }
  std::string().swap(carry_);
  socket_.discard_received();
  return false;
}

Nanos Connection::stalled_since() noexcept {
  note_progress();
  if (socket_.output_bytes() != 0) return progress_since_;
  if (in_receive_ && phase_ == Phase::command) return heard_at_;
  return INT64_MAX;
}

void Connection::expire() noexcept {
  if (socket_.output_bytes() != 0) {
    abort();
  } else if (in_receive_) {
    socket_.interrupt_receive();
  }
}

void Connection::drain() {
  draining_ = true;
  if (queue_head_ == nullptr && parser_.idle()) wake_reader();
}

void Connection::abort() {
  closing_ = true;
  skip_linger_ = true;
  socket_.abort();
  changed_.set();
}

Task<void> Connection::linger() {
  Reactor::current().disarm(timer_);
  co_await gyre::linger(socket_, {.silence = limits_.linger,
                                  .longest = limits_.linger_max,
                                  .bytes_max = limits_.linger_bytes_max});
}

}  // namespace gyre::resp
