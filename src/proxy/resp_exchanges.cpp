#include "proxy/resp_exchanges.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "proxy/proxy.hpp"
#include "proxy/test_faults.hpp"
#include "resp/number_text.hpp"

namespace gyre::proxy {

namespace {

// A command that Redis works on for longer than that has lost its client's patience too.
constexpr Nanos pass_timeout = seconds(30);
constexpr size_t given_max = 10'000;  // to a transaction, that is remembered key by key

// As Redis cuts a range out of a string of `size`; empty if there is none.
std::string_view range_of(std::string_view value, int64_t start, int64_t end) {
  const auto size = static_cast<int64_t>(value.size());
  if (start < 0 && end < 0 && start > end) return {};
  if (start < 0) start = std::max<int64_t>(0, start + size);
  if (end < 0) end = std::max<int64_t>(0, end + size);
  end = std::min(end, size - 1);
  if (start > end || size == 0) return {};
  return value.substr(static_cast<size_t>(start), static_cast<size_t>(end - start + 1));
}

}  // namespace

void write_answer(resp::ReplyWriter& to, const ReadForm& form, const Answer& answer) {
  if (answer.status == Answer::Status::unavailable) {
    if (!answer.error.empty()) {
      to.error(answer.error);
    } else {
      to.error(fmt::format("ERR gyre proxy: {}", answer.reason));
    }
    return;
  }
  const bool found = answer.status == Answer::Status::found;
  switch (form.kind) {
    case ReadForm::Kind::get:
      if (found) {
        to.bulk(answer.value);
      } else {
        to.null();
      }
      return;
    case ReadForm::Kind::strlen:
      to.integer(found ? static_cast<int64_t>(answer.value.size()) : 0);
      return;
    case ReadForm::Kind::getrange:
      to.bulk(found ? range_of(answer.value, form.start, form.end) : std::string_view());
  }
}

// --- reads --------------------------------------------------------------------------------------

void RemoteRead::begin(void* owner, Done done) {
  owner_ = owner;
  done_ = done;
  core_ = front_.owner_of(key());
  if (core_ == front_.index()) {
    look(front_.origin());
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& read = static_cast<RemoteRead&>(self);
    read.look(read.front_.origin_of(read.core_));
  };
  Reactor::current().send(core_, *this);
}

void RemoteRead::look(Origin& origin) {
  Answer answer;
  if (origin.try_answer(key(), answer)) {
    answered(answer);
  } else {
    origin.ask(*this);
  }
}

void RemoteRead::answered(const Answer& answer) noexcept {
  value_.assign(answer.value);
  reason_.assign(answer.reason);
  error_.assign(answer.error);
  answer_ = answer;
  answer_.value = value_;
  answer_.reason = reason_;
  answer_.error = error_;
  if (core_ == front_.index()) {
    done_(*this);
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& read = static_cast<RemoteRead&>(self);
    read.done_(read);
  };
  Reactor::current().send(front_.index(), *this);
}

ReadExchange::ReadExchange(resp::Connection& connection, RespFront& front, std::string_view key,
                           const ReadForm& form)
    : Exchange(connection), key_hash_(hash64(key)), form_(form), read_(front, key) {
  if (!proxy_test_faults.read_past_write) touches({&key_hash_, 1}, true, false);
}

void ReadExchange::begin() {
  read_.begin(this, [](RemoteRead& read) noexcept {
    auto& exchange = *static_cast<ReadExchange*>(read.owner());
    exchange.connection().finished(exchange);
  });
}

void ReadExchange::respond(resp::ReplyWriter& to) {
  write_answer(to, form_, read_.answer());
}

ManyReadsExchange::ManyReadsExchange(resp::Connection& connection, RespFront& front,
                                     resp::Command command)
    : Exchange(connection) {
  for (const std::string_view key : command.subspan(1)) {
    key_hashes_.push_back(hash64(key));
    reads_.push_back(std::make_unique<RemoteRead>(front, key));
  }
  missing_ = reads_.size();
  touches(key_hashes_, true, false);
}

void ManyReadsExchange::begin() {
  // The last one may end this object.
  const size_t count = reads_.size();
  for (size_t i = 0; i < count; ++i) {
    reads_[i]->begin(this, [](RemoteRead& read) noexcept {
      auto& exchange = *static_cast<ManyReadsExchange*>(read.owner());
      if (--exchange.missing_ == 0) exchange.connection().finished(exchange);
    });
  }
}

// One that can't be had fails them all; a key of another type counts as none, as in Redis.
void ManyReadsExchange::respond(resp::ReplyWriter& to) {
  for (const auto& read : reads_) {
    const Answer& answer = read->answer();
    if (answer.status != Answer::Status::unavailable || answer.error.starts_with("WRONGTYPE")) {
      continue;
    }
    write_answer(to, ReadForm{}, answer);
    return;
  }
  to.array(reads_.size());
  for (const auto& read : reads_) {
    const Answer& answer = read->answer();
    if (answer.status == Answer::Status::found) {
      to.bulk(answer.value);
    } else {
      to.null();
    }
  }
}

// --- passed on ----------------------------------------------------------------------------------

// For the keys of one slot, or for one of all masters.
class PassExchange::Part final : public Forward {
 public:
  Part(PassExchange& whole, std::string command) : Forward(whole.front_), whole_(whole) {
    encoded_ = std::move(command);
    deadline = whole.deadline;
  }
  using Forward::forward;
  using Forward::forward_to;
  const std::string& reply_text() const { return reply_text_; }
  const std::string& error() const { return error_; }

 private:
  resp::Client& client_at(const resp::NodeAddress* node) override {
    return front_.shared(whole_.client_.protocol(), node);
  }
  void replied() override { whole_.part_ended(); }

  PassExchange& whole_;
};

PassExchange::PassExchange(RespConnection& connection, RespFront& front, resp::Command command,
                           CommandKind kind)
    : Exchange(connection), Forward(front), client_(connection), kind_(kind) {
  in_session_ = kind == CommandKind::session || kind == CommandKind::blocking ||
                (connection.session && connection.session->is_open);
  for (const char c : command[0]) name_ += resp::to_lower(c);
  encoded_ = fmt::format("*{}\r\n", command.size());
  for (const std::string_view word : command) {
    encoded_ += fmt::format("${}\r\n", word.size());
    encoded_ += word;
    encoded_ += "\r\n";
  }
  if (front.upstream().is_cluster()) {
    placement_ = placement_of(command);
    if (placement_.kind == Placement::Kind::key) {
      slot_ = resp::slot_of_key(command[placement_.key_at]);
    } else if (placement_.kind == Placement::Kind::by_slot) {
      slot_ = resp::slot_of_key(command[1]);
      slot_parts_ = split_by_slot(command, placement_);
    }
  }
  const bool writes = kind == CommandKind::write || kind == CommandKind::blocking;
  if (writes) {
    for (const std::string_view word : command.subspan(1)) {
      given_hashes_.push_back(hash64(word));
      if (word.size() <= Origin::key_bytes_max) given_.emplace_back(word);
    }
  }
  everything_ = kind == CommandKind::flush;
  // What stands behind it belongs to it, or must not be carried out at all.
  if (begins_session() && !proxy_test_faults.transaction_begins_unasked) holds_what_follows();
  if (kind == CommandKind::blocking) may_wait_for_ever();
  if (in_session_ || everything_) {
    touches_everything();
  } else if (writes) {
    touches(given_hashes_, false, true);
  }
}

PassExchange::~PassExchange() = default;

void PassExchange::begin() {
  // What begins a session may have come since this was made.
  in_session_ = in_session_ || (client_.session && client_.session->is_open);
  ++front_.stats().passed_on;
  if (in_session_) {
    begin_in_session();
  } else if (front_.may_pass(client_)) {
    begin_shared();
  } else {
    client_.held.push_back(this);
  }
}

void PassExchange::begin_shared() {
  if (!given_.empty() || everything_) front_.invalidate_soon(given_, everything_);
  deadline = Reactor::current().after(pass_timeout);
  if (placement_.kind == Placement::Kind::all || slot_parts_.size() > 1) {
    begin_parts();
  } else {
    forward(slot_);
  }
}

// The last one may end this object.
void PassExchange::begin_parts() {
  if (placement_.kind == Placement::Kind::all) {
    const std::vector<UpstreamNode*> masters = front_.upstream().masters();
    if (masters.empty()) {
      forward(slot_);  // which says so
      return;
    }
    for (size_t i = 0; i < masters.size(); ++i) {
      parts_.push_back(std::make_unique<Part>(*this, encoded_));
    }
    parts_missing_ = masters.size();
    for (size_t i = 0; i < masters.size(); ++i) parts_[i]->forward_to(*masters[i]);
    return;
  }
  const size_t count = slot_parts_.size();
  parts_missing_ = count;
  for (SlotPart& part : slot_parts_) {
    parts_.push_back(std::make_unique<Part>(*this, std::move(part.bytes)));
  }
  for (size_t i = 0; i < count; ++i) parts_[i]->forward(slot_parts_[i].slot);
}

void PassExchange::part_ended() {
  if (--parts_missing_ != 0) return;
  std::vector<std::string_view> replies;
  for (const auto& part : parts_) {
    if (error_.empty()) error_ = part->error();
    replies.push_back(part->reply_text());
  }
  if (error_.empty()) reply_text_ = merge_replies(placement_.merge, replies);
  outcome = Errc::ok;
  replied();
}

resp::Client& PassExchange::client_at(const resp::NodeAddress* node) {
  if (!in_session_) return front_.shared(client_.protocol(), node);
  return (node != nullptr ? front_.bind(client_, *node) : front_.session_of(client_)).client;
}

// Within a transaction, a redirect is no more than an error.
bool PassExchange::may_go_on() const {
  return !in_session_ || !client_.session->is_bound;
}

void PassExchange::begin_in_session() {
  Session& session = front_.session_of(client_);
  if (session.broken) {
    const bool ends = name_ == "exec" || name_ == "discard" || name_ == "unwatch";
    if (ends) {
      session.is_open = session.in_multi = session.broken = session.is_bound = false;
      given_ = std::exchange(session.given, {});
    }
    error_ = name_ == "exec"
                 ? "EXECABORT Transaction discarded because the connection to Redis was lost"
                 : "ERR gyre proxy: the connection to Redis was lost within a transaction";
    invalidate();
    return;
  }
  for (const std::string& word : given_) {
    if (session.given.size() < given_max) session.given.push_back(word);
  }
  if (kind_ != CommandKind::blocking) {
    deadline = Reactor::current().after(pass_timeout);
  } else if (!session.in_multi) {
    client_.blocking = this;
  }
  if (!given_.empty()) front_.invalidate_soon(given_, false);
  if (!front_.upstream().is_cluster()) {
    send(session.client);
  } else if (bind_session()) {
    send(client_.session->client);
  }
}

// A transaction of which a part is missing must not be carried out.
void PassExchange::break_session() {
  client_.session->broken = true;
  client_.session->client.drop("a command of a transaction failed");
}

// The session could not be begun, and the client may have sent what belongs to it already: as if
// Redis had closed the connection.
void PassExchange::stop_reading() {
  if (!proxy_test_faults.transaction_begins_unasked) client_.close_after_answer();
}

bool PassExchange::begins_session() const {
  return kind_ == CommandKind::session && (name_ == "multi" || name_ == "watch");
}

// To a node of the cluster: that of the first key that comes. So MULTI is put off until there is
// one. True: it is the session's; else this goes its own way.
bool PassExchange::bind_session() {
  Session& session = *client_.session;
  if (!session.is_open) session.is_bound = session.multi_owed = false;
  if (session.is_bound) return true;
  session.slot = slot_;
  if (name_ == "multi" && !session.in_multi) {
    session.multi_owed = true;
    reply_text_ = "+OK\r\n";
    replied();
    return false;
  }
  if (session.multi_owed) {
    sending_multi_ = true;
    put_off_ = std::exchange(encoded_, "*1\r\n$5\r\nMULTI\r\n");
  }
  forward(slot_);
  return false;
}

void PassExchange::give_up() {
  client_.blocking = nullptr;
  if (!under_way()) {  // it waits for the topology
    abandon();
    return;
  }
  Session& session = *client_.session;
  session.client.cancel(*this);
  session.client.drop("its client has gone");  // Redis would go on waiting there
  outcome = Errc::closed;
  error_ = fmt::format("ERR gyre proxy: {}", why_not(outcome));
  replied();
}

void PassExchange::replied() {
  const bool succeeded = error_.empty() && !reply_text_.starts_with('-');
  if (std::exchange(sending_multi_, false)) {
    encoded_ = std::move(put_off_);
    Session& session = *client_.session;
    session.multi_owed = false;
    session.is_bound = succeeded;
    if (succeeded) {
      send(session.client);
      return;
    }
    session.broken = true;
  }
  if (client_.blocking == this) client_.blocking = nullptr;
  if (in_session_) {
    note_session(succeeded);
  } else {
    front_.passed(client_);
  }
  finish();
}

void PassExchange::finish() {
  const bool forgets = proxy_test_faults.forget_write && !in_session_;
  if (unsent_ || (given_.empty() && !everything_) || forgets) {
    client_.finished(*this);
  } else {
    invalidate();
  }
}

// What the reply to a command says of the session.
void PassExchange::note_session(bool succeeded) {
  Session& session = *client_.session;
  const bool failed = !error_.empty();
  if (unsent_) {
    if (session.is_open) break_session();
    if (begins_session()) stop_reading();
    return;
  }
  if (const auto redirect = session.is_bound ? redirect_of(reply_text_) : std::nullopt) {
    reply_text_ = name_ == "exec" ? "-EXECABORT Transaction discarded because its slot has moved; "
                                    "try again\r\n"
                  : redirect->slot == session.slot
                      ? "-TRYAGAIN gyre proxy: the slot of this transaction has moved\r\n"
                      : "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
  }
  if (begins_session()) {
    session.in_multi = session.in_multi || (succeeded && name_ == "multi");
    session.is_open = session.is_open || succeeded;
    if (failed && !session.is_open) stop_reading();
  }
  session.is_bound = session.is_bound || (session.is_open && !session.multi_owed && succeeded);
  if (begins_session()) {
    if (failed && session.is_open) break_session();
  } else if (name_ == "exec" || name_ == "discard") {
    // Whatever became of it: what it was given may have changed.
    given_ = std::exchange(session.given, {});
    if (proxy_test_faults.forget_exec) given_.clear();
    everything_ = given_.size() >= given_max;
    session.is_open = session.in_multi = session.broken = session.is_bound = false;
  } else if (name_ == "unwatch" && !session.in_multi) {
    session.is_open = session.broken = session.is_bound = false;
    session.given.clear();
  } else if (!session.is_open) {
    session.given.clear();
  } else if (failed) {
    break_session();
  }
}

// On every core, one after the other; then back.
void PassExchange::invalidate() {
  visit(front_.index());
  deliver = [](Message& self, Reactor& at) noexcept {
    auto& exchange = static_cast<PassExchange&>(self);
    if (at.core() == exchange.front_.index()) {
      exchange.client_.finished(exchange);
      return;
    }
    exchange.visit(at.core());
    exchange.travel_from(at.core() + 1);
  };
  travel_from(0);
}

// To the next core from `core` on that has not been visited, else home.
void PassExchange::travel_from(unsigned core) {
  const unsigned home = front_.index();
  if (core == home) ++core;
  if (core < front_.proxy().cores()) {
    Reactor::current().send(core, *this);
  } else if (Reactor::current().core() != home) {
    Reactor::current().send(home, *this);
  } else {
    client_.finished(*this);
  }
}

void PassExchange::visit(unsigned core) {
  Origin& origin = front_.origin_of(core);
  if (everything_) {
    origin.invalidate_all();
    return;
  }
  for (const std::string& key : given_) {
    if (front_.owner_of(key) == core) origin.invalidate(key);
  }
}

void PassExchange::respond(resp::ReplyWriter& to) {
  if (!error_.empty()) {
    to.error(error_);
  } else {
    to.raw(reply_text_);
  }
}

}  // namespace gyre::proxy
