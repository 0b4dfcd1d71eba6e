#include "resp/client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/printable.hpp"
#include "runtime/patience.hpp"

namespace gyre::resp {

namespace {

constexpr Nanos check_grain = milliseconds(1);
constexpr size_t held_bytes_kept = 64u << 10;
constexpr Nanos tls_end_patience = milliseconds(1);
constexpr std::string_view server_wants_tls = "does it expect TLS (--redis-tls)?";

// A TLS server's first word to who speaks without.
bool is_tls_alert(std::string_view bytes) {
  return bytes.starts_with("\x15\x03");
}

}  // namespace

std::string_view to_string(ClientState state) noexcept {
  switch (state) {
    case ClientState::idle:
      return "idle";
    case ClientState::connecting:
      return "connecting";
    case ClientState::ready:
      return "ready";
    case ClientState::pausing:
      return "pausing";
    case ClientState::closed:
      return "closed";
  }
  return "unknown";
}

void append_command(std::string& to, std::initializer_list<std::string_view> words) {
  to += fmt::format("*{}\r\n", words.size());
  for (const std::string_view word : words) {
    to += fmt::format("${}\r\n", word.size());
    to += word;
    to += "\r\n";
  }
}

ClientCommand::~ClientCommand() {
  GYRE_ASSERT(client_ == nullptr);
}

void Client::List::push(ClientCommand& command) noexcept {
  command.next_ = nullptr;
  command.previous_ = tail;
  (tail != nullptr ? tail->next_ : head) = &command;
  tail = &command;
}

void Client::List::remove(ClientCommand& command) noexcept {
  (command.previous_ != nullptr ? command.previous_->next_ : head) = command.next_;
  (command.next_ != nullptr ? command.next_->previous_ : tail) = command.previous_;
}

Client::CheckTimer::CheckTimer(Client& of)
    : Timer([](Timer& self) noexcept { static_cast<CheckTimer&>(self).client.check(); }),
      client(of) {}

Client::PauseTimer::PauseTimer(Client& of)
    : Timer([](Timer& self) noexcept { static_cast<PauseTimer&>(self).client.wanted_.set(); }),
      client(of) {}

Client::Client(ClientOptions options, ClientListener& listener)
    : options_(std::move(options)), listener_(listener), scanner_(options_.limits) {}

Client::~Client() {
  GYRE_ASSERT(scope_ == nullptr && commands_count_ == 0);
}

size_t Client::queue_bytes() const {
  return waiting_bytes_ + (state_ == ClientState::ready ? stream_->output_bytes() : 0);
}

// --- commands -----------------------------------------------------------------------------------

bool Client::start(ClientCommand& command) {
  GYRE_ASSERT(command.client_ == nullptr && command.done != nullptr && command.replies != 0);
  const Nanos now = Reactor::current().now();
  const size_t queued = queue_bytes();
  command.outcome = Errc::ok;
  command.too_long = false;
  command.sent_at = 0;
  if (stopping_) {
    command.outcome = Errc::cancelled;
  } else if (command.deadline <= now) {
    command.outcome = Errc::timed_out;
  } else if (state_ != ClientState::ready && down_) {
    command.outcome = Errc::closed;
  } else if (owed_.size() >= options_.commands_max || commands_count_ >= options_.commands_max ||
             (queued != 0 && queued + command.bytes.size() > options_.queue_bytes_max)) {
    command.outcome = Errc::overloaded;
  }
  if (command.outcome != Errc::ok) {
    ++stats_.refused;
    if (!stopping_) connect();
    return false;
  }
  ++stats_.commands;
  ++commands_count_;
  command.client_ = this;
  if (state_ == ClientState::ready) {
    write(command);
  } else {
    command.waiting_ = true;
    waiting_.push(command);
    waiting_bytes_ += command.bytes.size();
    connect();
  }
  if (command.deadline != nanos_never) watch(command.deadline);
  return true;
}

void Client::write(ClientCommand& command) {
  const Nanos now = Reactor::current().now();
  command.sent_at = now;
  command.sequence_ = first_sequence_ + owed_.size();
  if (owed_.empty()) watch(now + options_.silence_max);
  owed_.push_back({Purpose::command, &command, command.replies, 0, now, command.fenced});
  stream_->append(command.bytes);
}

void Client::cancel(ClientCommand& command) noexcept {
  GYRE_ASSERT(command.client_ == this);
  if (command.waiting_) {
    waiting_.remove(command);
    waiting_bytes_ -= command.bytes.size();
    command.waiting_ = false;
  } else {
    owed_[command.sequence_ - first_sequence_].command = nullptr;
  }
  command.client_ = nullptr;
  --commands_count_;
}

void Client::end(ClientCommand& command, Errc outcome) noexcept {
  cancel(command);
  command.outcome = outcome;
  command.done(command);  // perhaps the end of it
}

void Client::fail_waiting(Errc outcome) noexcept {
  while (waiting_.head != nullptr) end(*waiting_.head, outcome);
}

// --- time ---------------------------------------------------------------------------------------

void Client::watch(Nanos deadline) noexcept {
  Reactor& reactor = Reactor::current();
  if (check_timer_.armed()) {
    if (check_timer_.deadline <= deadline) return;
    reactor.disarm(check_timer_);
  }
  reactor.arm(check_timer_, deadline);
}

void Client::check() noexcept {
  if (stopping_) return;
  const Nanos now = Reactor::current().now();
  // What came while this core was busy is read before it is missed, but only once in a row.
  if (stream_ != nullptr && stream_->receive_ready() && !std::exchange(postponed_, true)) {
    watch(now + check_grain);
    return;
  }
  postponed_ = false;
  end_late(now);
  Nanos next = nanos_never;
  for (const Slot& slot : owed_) {
    if (slot.command != nullptr) next = std::min(next, slot.command->deadline);
  }
  for (const ClientCommand* at = waiting_.head; at != nullptr; at = at->next_) {
    next = std::min(next, at->deadline);
  }
  if (state_ == ClientState::connecting && handshakes_ != 0) {
    const Nanos until = attempted_at_ + options_.connect_timeout;
    if (now >= until) {
      drop("the handshake was not complete in time");
    } else {
      next = std::min(next, until);
    }
  } else if (state_ == ClientState::ready && owed_.empty()) {
    const Nanos due = heard_at_ + options_.ping_interval;
    if (now >= due) {
      say(Purpose::ping, {"PING"});
    } else {
      next = std::min(next, due);
    }
  } else if (state_ == ClientState::ready) {
    const Slot& oldest = owed_.front();
    const Nanos silent_at = std::max(heard_at_, oldest.sent_at) + options_.silence_max;
    const Nanos stuck_at = oldest.sent_at + options_.answer_max;
    if (now >= silent_at) {
      drop(fmt::format("nothing was heard for {} ms", options_.silence_max / milliseconds(1)));
    } else if (now >= stuck_at) {
      drop(fmt::format("an answer took longer than {} ms", options_.answer_max / milliseconds(1)));
    } else {
      next = std::min({next, silent_at, stuck_at});
    }
  }
  // Whatever is heard meanwhile: the next ping isn't late.
  if (state_ == ClientState::ready) next = std::min(next, now + options_.ping_interval);
  if (next != nanos_never) watch(std::max(next, now + check_grain));
}

// What a callback starts comes behind those that are looked at, and is not late.
void Client::end_late(Nanos now) noexcept {
  for (size_t i = 0; i < owed_.size(); ++i) {
    ClientCommand* const command = owed_[i].command;
    if (command == nullptr || command->deadline > now) continue;
    ++stats_.timed_out;
    end(*command, Errc::timed_out);
  }
  for (;;) {
    ClientCommand* at = waiting_.head;
    while (at != nullptr && at->deadline > now) at = at->next_;
    if (at == nullptr) return;
    ++stats_.timed_out;
    end(*at, Errc::timed_out);
  }
}

// --- replies ------------------------------------------------------------------------------------

Task<std::string> Client::receive() {
  for (;;) {
    Result<std::string_view> bytes = std::string_view();
    if (stream_->is_secure()) {
      bytes = co_await stream_->receive();
    } else {
      bytes = co_await stream_->socket().receive();
    }
    if (!bytes || bytes->empty()) co_return end_of_stream(bytes);
    stats_.bytes_received += bytes->size();
    heard_at_ = Reactor::current().now();
    if (!heard_ && is_tls_alert(*bytes)) {
      co_return fmt::format("the server's answer is no reply: {}", server_wants_tls);
    }
    heard_ = true;
    const bool sound = take(*bytes);
    stream_->release();
    if (!sound) co_return std::string(scanner_.error());
  }
}

// A server that expects TLS ends a connection without it, and most say nothing.
std::string Client::end_of_stream(const Result<std::string_view>& last) const {
  std::string why = last ? "the server closed the connection" : last.error().message();
  if (heard_ || stream_->is_secure() || stream_->socket().broken()) return why;
  return fmt::format("{} before it said anything: {}", why, server_wants_tls);
}

bool Client::take(std::string_view bytes) {
  while (!bytes.empty()) {
    const ReplyScanner::Step step = scanner_.feed(bytes);
    switch (step.event) {
      case ReplyScanner::Event::error:
        return false;
      case ReplyScanner::Event::need_more:
        if (!dropping_ && is_too_long()) {
          drop_held();
          dropping_ = true;
        }
        if (!dropping_) held_.append(bytes);
        return true;
      case ReplyScanner::Event::reply:
        break;
    }
    std::string_view whole = bytes.substr(0, step.consumed);
    bytes.remove_prefix(step.consumed);
    const bool in_pieces = !held_.empty();
    if (in_pieces) whole = held_.append(whole);
    const bool dropped = std::exchange(dropping_, false) || is_too_long();
    const bool sound = dropped ? take_long_reply() : take_reply(whole);
    if (in_pieces) drop_held();
    if (!sound || stream_->socket().broken()) return false;
  }
  return true;
}

bool Client::is_too_long() const {
  return scanner_.announced_bytes() > options_.kept_bytes_max;
}

void Client::drop_held() noexcept {
  held_.clear();
  if (held_.capacity() > held_bytes_kept) std::string().swap(held_);
}

// Who waits for it is told; of anything else nothing may be missed.
bool Client::take_long_reply() {
  if (scanner_.type() == ReplyType::push) return refuse("a push is too long");
  if (owed_.empty() || owed_.front().purpose != Purpose::command) {
    return refuse("a reply is too long");
  }
  ++stats_.replies_too_long;
  // The callback may end the command.
  if (owed_.front().command != nullptr) owed_.front().command->too_long = true;
  return take_reply(options_.too_long_reply);
}

bool Client::take_reply(std::string_view bytes) {
  const bool is_push = scanner_.type() == ReplyType::push;
  if (!is_push && owed_.empty()) return refuse("a reply to nothing came");
  const bool raw =
      !is_push && owed_.front().command != nullptr && owed_.front().command->raw != nullptr;
  if (!raw && !tree_.parse(bytes)) return refuse("a reply makes no sense");
  const Reply reply = tree_.root();
  if (is_push) {
    ++stats_.pushes;
    listener_.pushed(reply);
    return true;
  }
  ++stats_.replies;
  Slot& slot = owed_.front();
  const uint32_t index = slot.arrived++;
  const bool last = slot.fenced ? scanner_.type() == ReplyType::map : slot.arrived == slot.replies;
  const Purpose purpose = slot.purpose;
  if (purpose != Purpose::command) {
    owed_.pop_front();
    ++first_sequence_;
    return purpose == Purpose::ping || handshake(purpose, reply);
  }
  if (slot.command == nullptr) {
    ++stats_.replies_late;
  } else if (raw) {
    slot.command->raw(*slot.command, bytes);
  } else if (slot.command->reply != nullptr) {
    slot.command->reply(*slot.command, index, reply);
  }
  if (!last) return true;
  ClientCommand* const command = slot.command;  // the callback may have cancelled it
  if (command != nullptr) end(*command, Errc::ok);
  owed_.pop_front();
  ++first_sequence_;
  return true;
}

// --- the handshake ------------------------------------------------------------------------------

void Client::say(Purpose purpose, std::initializer_list<std::string_view> words) {
  std::string bytes;
  append_command(bytes, words);
  owed_.push_back({purpose, nullptr, 1, 0, Reactor::current().now()});
  if (purpose != Purpose::ping) ++handshakes_;
  stream_->append(bytes);
}

bool Client::refuse(std::string why) {
  trouble_ = std::move(why);
  stream_->socket().abort();
  return false;
}

// To a server that does not know HELLO, or for who wants the old protocol. Something is said in any
// case: a connection is good once the server has answered.
void Client::greet_old_way() {
  protocol_ = 2;
  if (!options_.password.empty() && options_.user.empty()) {
    say(Purpose::auth, {"AUTH", options_.password});
  } else if (!options_.password.empty()) {
    say(Purpose::auth, {"AUTH", options_.user, options_.password});
  }
  if (!options_.name.empty()) say(Purpose::set_name, {"CLIENT", "SETNAME", options_.name});
  say(Purpose::greeting, {"PING"});
  after_hello();
}

void Client::greet() {
  if (options_.protocol == 2) {
    greet_old_way();
    return;
  }
  const std::string_view user = options_.user.empty() ? "default" : std::string_view(options_.user);
  const bool has_password = !options_.password.empty();
  std::string bytes;
  if (has_password && !options_.name.empty()) {
    say(Purpose::hello, {"HELLO", "3", "AUTH", user, options_.password, "SETNAME", options_.name});
  } else if (has_password) {
    say(Purpose::hello, {"HELLO", "3", "AUTH", user, options_.password});
  } else if (!options_.name.empty()) {
    say(Purpose::hello, {"HELLO", "3", "SETNAME", options_.name});
  } else {
    say(Purpose::hello, {"HELLO", "3"});
  }
}

void Client::after_hello() {
  if (options_.database != 0) {
    say(Purpose::select, {"SELECT", std::to_string(options_.database)});
  }
  if (options_.tracking && protocol_ == 3) {
    say(Purpose::tracking, {"CLIENT", "TRACKING", "ON", "OPTIN"});
  }
}

// What the server said to one step of it. False: the connection is of no use.
bool Client::handshake(Purpose purpose, const Reply& reply) {
  --handshakes_;
  const auto said = [&] { return printable(reply.text(), 200); };
  switch (purpose) {
    case Purpose::hello: {
      if (!reply.is_error()) {
        protocol_ = 3;
        if (const auto version = reply.find("version")) server_version_ = version->text();
        after_hello();
        break;
      }
      const std::string_view text = reply.text();
      const bool unknown = text.starts_with("NOPROTO") || text.starts_with("ERR unknown command");
      if (!unknown || !options_.allow_resp2) {
        return refuse("the server answered HELLO 3 with " + said());
      }
      greet_old_way();
      break;
    }
    case Purpose::auth:
      if (reply.is_error()) return refuse("the server answered AUTH with " + said());
      break;
    case Purpose::greeting:
      if (reply.is_error()) return refuse("the server answered PING with " + said());
      break;
    case Purpose::select:
      if (reply.is_error()) return refuse("the server answered SELECT with " + said());
      break;
    case Purpose::tracking:
      tracking_ = !reply.is_error();
      if (!tracking_) {
        Reactor::current().log("warn", fmt::format("event=no_tracking server={}:{} reason={}",
                                                   options_.host, options_.port, said()));
      }
      break;
    default:
      break;
  }
  if (handshakes_ == 0) ready();
  return true;
}

void Client::ready() {
  state_ = ClientState::ready;
  ++stats_.connected;
  down_ = false;
  tried_ = true;
  trouble_.clear();
  ready_at_ = Reactor::current().now();
  watch(heard_at_ + options_.ping_interval);
  listener_.connected(tracking_);
  send_waiting();
}

void Client::send_waiting() {
  while (waiting_.head != nullptr) {
    ClientCommand& command = *waiting_.head;
    waiting_.remove(command);
    waiting_bytes_ -= command.bytes.size();
    command.waiting_ = false;
    write(command);
  }
}

// --- the connection -----------------------------------------------------------------------------

void Client::connect() {
  if (stopping_ || scope_ != nullptr) return;
  scope_ = std::make_unique<Scope>(nullptr, "redis client");
  scope_->spawn(run());
  wanted_.set();
}

void Client::drop(std::string why) {
  if (stream_ == nullptr) return;
  if (trouble_.empty()) trouble_ = std::move(why);
  down_ = true;
  stream_->socket().abort();
}

Task<Result<Descriptor>> Client::reach() {
  co_return co_await connect_to_any(options_.host, options_.port, options_.reach_timeout);
}

Task<Result<void>> Client::attempt() {
  Result<Descriptor> fd = co_await with_timeout<Descriptor>(options_.connect_timeout, reach());
  if (!fd) co_return fail(std::move(fd.error()));
  stream_ = std::make_unique<tls::Stream>(std::move(*fd));
  if (options_.tls == nullptr) co_return Result<void>{};
  co_return co_await stream_->secure(*options_.tls,
                                     options_.tls_name.empty() ? options_.host : options_.tls_name,
                                     attempted_at_ + options_.connect_timeout);
}

Task<void> Client::run() {
  Reactor& reactor = Reactor::current();
  for (;;) {
    if (!co_await wanted_.wait() || stopping_) break;
    wanted_.reset();
    reactor.disarm(pause_timer_);
    state_ = ClientState::connecting;
    attempted_at_ = reactor.now();
    ++stats_.attempts;
    const std::string trouble_before = std::exchange(trouble_, "");
    tracking_ = false;
    protocol_ = 0;
    handshakes_ = 0;
    heard_ = false;
    scanner_ = ReplyScanner(options_.limits);
    held_.clear();
    dropping_ = false;
    std::string why;
    if (Result<void> reached = co_await attempt(); reached) {
      greet();
      watch(attempted_at_ + options_.connect_timeout);
      heard_at_ = reactor.now();
      why = co_await receive();
    } else {
      why = reached.error().message();
    }
    const bool was_ready = state_ == ClientState::ready;
    state_ = ClientState::pausing;
    if (trouble_.empty()) trouble_ = why.empty() ? "the connection broke" : std::move(why);
    if (!was_ready) down_ = true;
    tried_ = true;
    // Before anybody can start what waits for the next connection.
    if (was_ready) {
      ++stats_.lost;
      listener_.lost();
    }
    if (stream_ != nullptr) {
      co_await stream_->close();
      stream_.reset();
    }
    if (!stopping_ && (was_ready || trouble_ != trouble_before)) {
      reactor.log("warn", fmt::format("event={} server={}:{} reason=\"{}\"",
                                      was_ready ? "upstream_lost" : "upstream_unreachable",
                                      options_.host, options_.port, trouble_));
    }
    if (was_ready && reactor.now() - ready_at_ > options_.backoff_max) backoff_ = 0;
    end_owed(Errc::closed);
    if (down_) fail_waiting(Errc::closed);
    if (stopping_) break;
    pause();
  }
}

// What was sent may have been carried out: nobody knows. What a callback starts waits.
void Client::end_owed(Errc outcome) noexcept {
  while (!owed_.empty()) {
    if (owed_.front().command != nullptr) end(*owed_.front().command, outcome);
    owed_.pop_front();
    ++first_sequence_;
  }
  handshakes_ = 0;
}

// The first attempt after a loss comes at once.
void Client::pause() noexcept {
  Reactor& reactor = Reactor::current();
  if (backoff_ == 0 && !down_) {
    backoff_ = options_.backoff_min / 2;
    wanted_.set();
    return;
  }
  backoff_ = std::clamp(2 * backoff_, options_.backoff_min, options_.backoff_max);
  const auto half = static_cast<uint64_t>(backoff_ / 2);
  const auto jitter = static_cast<Nanos>(reactor.random() % (half + 1));
  reactor.arm(pause_timer_, reactor.after(backoff_ - jitter));
}

Task<void> Client::close() {
  GYRE_ASSERT(!stopping_);
  stopping_ = true;
  Reactor& reactor = Reactor::current();
  reactor.disarm(check_timer_);
  reactor.disarm(pause_timer_);
  fail_waiting(Errc::cancelled);
  for (size_t i = 0; i < owed_.size(); ++i) {
    if (owed_[i].command != nullptr) end(*owed_[i].command, Errc::cancelled);
  }
  if (state_ == ClientState::ready && stream_->is_secure()) {
    // The server is told; whether it hears is nobody's concern.
    stream_->end();
    static_cast<void>(co_await sleep_for(tls_end_patience));
  }
  if (scope_ != nullptr) {
    scope_->request_stop();
    co_await scope_->join();
    scope_.reset();
  }
  reactor.disarm(check_timer_);
  reactor.disarm(pause_timer_);
  state_ = ClientState::closed;
}

}  // namespace gyre::resp
