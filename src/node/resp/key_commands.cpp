// Commands on several keys that are more than one after the other: DEL, RENAME, COPY, MSETNX.
#include <algorithm>

#include "node/node.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/error_texts.hpp"
#include "node/resp/frame_array.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/key_steps.hpp"
#include "node/resp/modify_exchange.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/task_exchange.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

// A key that changes all the time is renamed by whoever has more luck.
constexpr unsigned rename_tries_max = 16;

resp::Exchange* start_steps(Invocation& in, TaskExchange::Work work) {
  auto* exchange = new TaskExchange(in, work);
  exchange->touches_everything();
  return exchange;
}

std::string stored_in(unsigned database, std::string_view key) {
  std::string room;
  return std::string(stored_key_in(database, key, room));
}

std::string stored_of(TaskExchange& self, size_t index) {
  return stored_in(self.database(), self[index]);
}

// --- RENAME --------------------------------------------------------------------------------------

// The destination is written before the source is removed: what breaks off leaves both.
Task<void> rename_key(TaskExchange& self, bool only_if_absent) {
  const std::string from = stored_of(self, 1);
  const std::string to = stored_of(self, 2);
  for (unsigned tries = 0; tries < rename_tries_max; ++tries) {
    Result<KeyState> source = co_await look_at_key(self.server(), from, WantsValue::yes);
    if (!source) co_return self.out().error(source.error().detail);
    if (!source->present) co_return self.out().error(error_text::no_such_key);
    if (from == to) {
      if (only_if_absent) co_return self.out().integer(0);
      co_return self.out().ok();
    }
    // A second try writes over what the first one wrote.
    const Result<bool> put = co_await put_key(self.server(), to, std::move(source->value),
                                              source->expire_at_ms, only_if_absent && tries == 0);
    if (!put) co_return self.out().error(put.error().detail);
    if (!*put) co_return self.out().integer(0);
    const Result<bool> removed = co_await remove_key(self.server(), from, source->version);
    if (!removed) co_return self.out().error(removed.error().detail);
    if (!*removed) continue;  // it has been written meanwhile
    if (only_if_absent) co_return self.out().integer(1);
    co_return self.out().ok();
  }
  self.out().error("TRYAGAIN the key is written all the time");
}

Task<void> run_rename(TaskExchange& self) {
  return rename_key(self, false);
}
Task<void> run_renamenx(TaskExchange& self) {
  return rename_key(self, true);
}

// --- COPY ----------------------------------------------------------------------------------------

struct CopyOptions {
  unsigned database = 0;
  bool replace = false;
};

// "" or the error.
template <class Words>
std::string_view parse_copy(const Words& words, CopyOptions& out) {
  for (size_t i = 3; i < words.size(); ++i) {
    if (resp::is_word(words[i], "replace")) {
      out.replace = true;
    } else if (resp::is_word(words[i], "db") && i + 1 < words.size()) {
      const auto number = resp::parse_integer(words[++i]);
      if (!number) return error_text::not_integer;
      if (*number < 0 || *number >= database_count) return error_text::database_out_of_range;
      out.database = static_cast<unsigned>(*number);
    } else {
      return error_text::syntax;
    }
  }
  return {};
}

Task<void> run_copy(TaskExchange& self) {
  CopyOptions options{.database = self.database()};
  static_cast<void>(parse_copy(self, options));  // it could be parsed before
  Result<KeyState> source =
      co_await look_at_key(self.server(), stored_of(self, 1), WantsValue::yes);
  if (!source) co_return self.out().error(source.error().detail);
  if (!source->present) co_return self.out().integer(0);
  const Result<bool> put =
      co_await put_key(self.server(), stored_in(options.database, self[2]),
                       std::move(source->value), source->expire_at_ms, !options.replace);
  if (!put) co_return self.out().error(put.error().detail);
  self.out().integer(*put ? 1 : 0);
}

// --- MSETNX --------------------------------------------------------------------------------------

Task<void> run_msetnx(TaskExchange& self) {
  for (size_t i = 1; i < self.size(); i += 2) {
    const Result<KeyState> state =
        co_await look_at_key(self.server(), stored_of(self, i), WantsValue::no);
    if (!state) co_return self.out().error(state.error().detail);
    if (state->present) co_return self.out().integer(0);
  }
  for (size_t i = 1; i < self.size(); i += 2) {
    const Result<bool> put =
        co_await put_key(self.server(), stored_of(self, i), std::string(self[i + 1]), 0, false);
    if (!put) co_return self.out().error(put.error().detail);
  }
  self.out().integer(1);
}

// --- DEL -----------------------------------------------------------------------------------------

class RemoveExchange;
class RemovePart final : public ModifyTask {
 public:
  RemovePart(RespServer& server, RemoveExchange& of, std::string_view stored_key, uint64_t key_hash)
      : ModifyTask(server, stored_key, key_hash, {.kind = ModifyKind::remove},
                   resp::Protocol::resp2),
        of_(of) {}
  bool removed() const { return changed(); }

 private:
  void completed() override;

  RemoveExchange& of_;
};

class RemoveExchange final : public resp::Exchange {
 public:
  explicit RemoveExchange(Invocation& in)
      : Exchange(in.client), parts_(in.size() - 1), hashes_(in.size() - 1) {
    std::string room;
    for (const std::string_view word : in.words.subspan(1)) {
      const std::string_view stored = stored_key_of(in.client, word, room);
      const uint64_t hash = hash64(stored);
      hashes_.emplace_back(hash);
      // The same key twice is removed once: the second one finds it gone.
      parts_.emplace_back(in.server, *this, stored, hash);
    }
    touches({hashes_.data(), hashes_.size()}, in.server.core().has_coordinator(), true);
  }
  void begin() override {
    left_ = parts_.size() + 1;  // the last one may end this object
    for (RemovePart& part : parts_) part.start();
    part_completed();
  }
  void respond(resp::ReplyWriter& to) override {
    int64_t removed = 0;
    for (const RemovePart& part : parts_) {
      if (!part.failure_text().empty()) return to.error(part.failure_text());
      removed += part.removed() ? 1 : 0;
    }
    to.integer(removed);
  }
  void part_completed() {
    if (--left_ == 0) connection().finished(*this);
  }

 private:
  FrameArray<RemovePart> parts_;
  FrameArray<uint64_t> hashes_;
  size_t left_ = 0;
};

void RemovePart::completed() {
  of_.part_completed();
}

bool has_long_key(Invocation& in) {
  return std::any_of(in.words.begin() + 1, in.words.end(),
                     [](std::string_view key) { return !is_key(key); });
}

}  // namespace

resp::Exchange* rename(Invocation& in) {
  if (!is_key(in[1]) || !is_key(in[2])) return in.error(key_too_long);
  return start_steps(in, run_rename);
}

resp::Exchange* renamenx(Invocation& in) {
  if (!is_key(in[1]) || !is_key(in[2])) return in.error(key_too_long);
  return start_steps(in, run_renamenx);
}

resp::Exchange* copy(Invocation& in) {
  if (!is_key(in[1]) || !is_key(in[2])) return in.error(key_too_long);
  CopyOptions options{.database = in.client.database};
  if (const std::string_view error = parse_copy(in, options); !error.empty()) {
    return in.error(error);
  }
  if (options.database == in.client.database && in[1] == in[2]) {
    return in.error(error_text::same_object);
  }
  return start_steps(in, run_copy);
}

resp::Exchange* msetnx(Invocation& in) {
  if (in.size() % 2 == 0) return in.wrong_arity();
  for (size_t i = 1; i < in.size(); i += 2) {
    if (!is_key(in[i])) return in.error(key_too_long);
  }
  return start_steps(in, run_msetnx);
}

// Each key in one step.
resp::Exchange* del(Invocation& in) {
  if (has_long_key(in)) return in.error(key_too_long);
  return new RemoveExchange(in);
}

}  // namespace gyre::resp_commands
