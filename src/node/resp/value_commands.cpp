// GET, SET and what they are for several keys.
#include <array>

#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/frame_array.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/value_task.hpp"
#include "node/resp/write_task.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

void count_lookup(RespServer& server, bool found) {
  ++(found ? server.stats().keyspace_hits : server.stats().keyspace_misses);
}

// --- one key ------------------------------------------------------------------------------------

class GetExchange final : public resp::Exchange, private ValueTask {
 public:
  GetExchange(Invocation& in, std::string_view key, uint64_t key_hash)
      : Exchange(in.client), ValueTask(in.server, key, true), hash_(key_hash) {
    touches({&hash_, 1}, true, false);
  }
  void begin() override { start(); }
  void respond(resp::ReplyWriter& to) override {
    if (is_large()) return;  // stream() does it
    write(to);
  }
  Task<bool> stream(resp::Connection& to) override {
    return ValueTask::stream(to, Exchange::protocol());
  }

 private:
  void completed() override {
    count_lookup(server_, state() == State::found);
    is_stream = is_large();
    connection().finished(*this);
  }
  uint64_t hash_;
};

class SetExchange final : public resp::Exchange, private WriteTask {
 public:
  SetExchange(Invocation& in, std::string_view key, uint64_t key_hash, std::string_view value,
              uint64_t expire_at_ms)
      : Exchange(in.client), WriteTask(in.server, key, key_hash), hash_(key_hash) {
    touches({&hash_, 1}, false, true);
    be_value(value, expire_at_ms);
  }
  void begin() override { start(); }
  void detach() override { WriteTask::detach(); }
  void respond(resp::ReplyWriter& to) override {
    if (succeeded()) {
      to.ok();
    } else {
      to.error(failure());
    }
  }

 private:
  void completed() override { connection().finished(*this); }
  uint64_t hash_;
};

// --- several keys -------------------------------------------------------------------------------

// A command of which each key is a task of its own. They run at the same time: each key by itself is
// atomic, all of them together are not.
template <class Part>
class ManyKeys : public resp::Exchange {
 public:
  void begin() override {
    // The last one may end this object.
    left_ = parts_.size() + 1;
    for (Part& part : parts_) part.begin();
    part_completed();
  }
  void part_completed() {
    if (--left_ != 0) return;
    ended();
    connection().finished(*this);
  }

 protected:
  ManyKeys(Invocation& in, size_t count) : Exchange(in.client), parts_(count), hashes_(count) {}
  virtual void ended() {}

  FrameArray<Part> parts_;
  FrameArray<uint64_t> hashes_;

 private:
  size_t left_ = 0;
};

class MgetExchange;
class ValuePart final : public ValueTask {
 public:
  ValuePart(RespServer& server, MgetExchange& of, std::string_view key, bool wants_value)
      : ValueTask(server, key, wants_value), of_(of) {}
  void begin() { start(); }

 private:
  void completed() override;
  MgetExchange& of_;
};

// MGET, and EXISTS, which wants only their number.
class MgetExchange final : public ManyKeys<ValuePart> {
 public:
  MgetExchange(Invocation& in, bool wants_values)
      : ManyKeys(in, in.size() - 1), server_(in.server), wants_values_(wants_values) {
    std::string room;
    for (const std::string_view word : in.words.subspan(1)) {
      const std::string_view key = stored_key_of(in.client, word, room);
      hashes_.emplace_back(hash64(key));
      parts_.emplace_back(in.server, *this, key, wants_values);
    }
    touches({hashes_.data(), hashes_.size()}, true, false);
  }
  void respond(resp::ReplyWriter& to) override {
    if (!wants_values_) return write_number(to);
    to.array(parts_.size());
    while (next_ < parts_.size() && !parts_[next_].is_large()) parts_[next_++].write(to);
    is_stream = next_ < parts_.size();
  }
  Task<bool> stream(resp::Connection& to) override {
    for (; next_ < parts_.size(); ++next_) {
      ValuePart& part = parts_[next_];
      if (part.is_large()) {
        if (!co_await part.stream(to, protocol())) co_return false;
      } else {
        resp::ReplyWriter out(to.socket(), protocol());
        part.write(out);
      }
    }
    co_return true;
  }

 private:
  void ended() override {
    for (ValuePart& part : parts_) count_lookup(server_, part.state() == ValueTask::State::found);
  }
  void write_number(resp::ReplyWriter& to) {
    int64_t found = 0;
    for (ValuePart& part : parts_) {
      if (part.state() == ValueTask::State::failed) return part.write(to);
      found += part.state() == ValueTask::State::found ? 1 : 0;
    }
    to.integer(found);
  }

  RespServer& server_;
  bool wants_values_;
  size_t next_ = 0;  // the first that is not written
};

void ValuePart::completed() {
  of_.part_completed();
}

class MsetExchange;
class WritePart final : public WriteTask {
 public:
  WritePart(RespServer& server, MsetExchange& of, std::string_view key, uint64_t key_hash)
      : WriteTask(server, key, key_hash), of_(of) {}
  void begin() { start(); }

 private:
  void completed() override;
  MsetExchange& of_;
};

class MsetExchange final : public ManyKeys<WritePart> {
 public:
  explicit MsetExchange(Invocation& in) : ManyKeys(in, in.size() / 2) {
    std::string room;
    for (size_t i = 1; i + 1 < in.size(); i += 2) {
      const std::string_view key = stored_key_of(in.client, in[i], room);
      const uint64_t hash = hash64(key);
      hashes_.emplace_back(hash);
      parts_.emplace_back(in.server, *this, key, hash).be_value(in[i + 1]);
    }
    touches({hashes_.data(), hashes_.size()}, false, true);
  }
  void detach() override {
    for (WritePart& part : parts_) part.detach();
  }
  void respond(resp::ReplyWriter& to) override {
    for (WritePart& part : parts_) {
      if (!part.succeeded()) return to.error(part.failure());
    }
    to.ok();
  }
};

void WritePart::completed() {
  of_.part_completed();
}

bool has_long_key(Invocation& in, size_t step) {
  for (size_t i = 1; i < in.size(); i += step) {
    if (!is_key(in[i])) return true;
  }
  return false;
}

// Answers from this core's memory. False: something has to be waited for, and nothing was written.
bool mget_at_once(Invocation& in) {
  constexpr size_t keys_max = 16;
  Core& core = in.server.core();
  const size_t count = in.size() - 1;
  if (count > keys_max || core.has_coordinator()) return false;
  std::array<StoreRead, keys_max> reads;
  std::array<bool, keys_max> found;
  std::string room;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view key = stored_key_of(in.client, in[i + 1], room);
    const uint32_t shard = in.server.node().shard_for(key);
    if (in.server.node().owner_of(shard) != core.index()) return false;
    if (in.client.has_unfinished() && !in.client.may_read(hash64(key))) return false;
    const ReadOutcome outcome =
        core.shard(shard).try_get(key, Reactor::current().wall_ms(), reads[i]);
    if (outcome == ReadOutcome::wait || (outcome == ReadOutcome::found && reads[i].large)) {
      return false;
    }
    found[i] = outcome == ReadOutcome::found;
  }
  resp::ReplyWriter out = in.out();
  out.array(count);
  for (size_t i = 0; i < count; ++i) {
    count_lookup(in.server, found[i]);
    if (found[i]) {
      out.bulk(reads[i].value);
    } else {
      out.null();
    }
  }
  return true;
}

}  // namespace

// The fast path: a value in this core's memory is answered here, without any object.
resp::Exchange* get(Invocation& in) {
  if (!is_key(in[1])) return in.error(key_too_long);
  std::string room;
  const std::string_view key = stored_key_of(in.client, in[1], room);
  const uint64_t key_hash = hash64(key);
  RespServer& server = in.server;
  Core& core = server.core();
  const uint32_t shard = server.node().shard_for(key);
  if (server.node().owner_of(shard) == core.index() && !core.has_coordinator() &&
      in.client.may_read(key_hash)) {
    StoreRead read;
    switch (core.shard(shard).try_get(key, Reactor::current().wall_ms(), read)) {
      case ReadOutcome::absent:
        count_lookup(server, false);
        in.out().null();
        return nullptr;
      case ReadOutcome::found:
        if (read.large) break;
        count_lookup(server, true);
        in.out().bulk(read.value);
        return nullptr;
      case ReadOutcome::wait:
        break;
    }
  }
  return new GetExchange(in, key, key_hash);
}

resp::Exchange* set(Invocation& in) {
  if (!is_key(in[1])) return in.error(key_too_long);
  if (in.size() != 3) return set_with_options(in);
  return set_value(in, 2, 0);
}

resp::Exchange* set_value(Invocation& in, size_t value_index, uint64_t expire_at_ms) {
  std::string room;
  const std::string_view key = stored_key_of(in.client, in[1], room);
  const uint64_t key_hash = hash64(key);
  const uint32_t shard = in.server.node().shard_for(key);
  Core& core = in.server.core();
  if (in.server.node().owner_of(shard) == core.index()) core.shard(shard).write_expected(key_hash);
  return new SetExchange(in, key, key_hash, in[value_index], expire_at_ms);
}

resp::Exchange* mget(Invocation& in) {
  if (has_long_key(in, 1)) return in.error(key_too_long);
  if (mget_at_once(in)) return nullptr;
  return new MgetExchange(in, true);
}

resp::Exchange* exists(Invocation& in) {
  if (has_long_key(in, 1)) return in.error(key_too_long);
  return new MgetExchange(in, false);
}

resp::Exchange* mset(Invocation& in) {
  if (in.size() % 2 == 0) return in.wrong_arity();
  if (has_long_key(in, 2)) return in.error(key_too_long);
  return new MsetExchange(in);
}

}  // namespace gyre::resp_commands
