#include "node/resp/read_exchange.hpp"

#include <string>

#include "node/entity_exchange.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_read.hpp"
#include "node/resp/carried_words.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/store_task.hpp"
#include "store/large_reader.hpp"

namespace gyre {

namespace {

class KeyReadExchange final : public resp::Exchange, public StoreTask {
 public:
  KeyReadExchange(Invocation& in, std::string_view stored_key, uint64_t key_hash, LargeBytes large,
                  ReadApply apply)
      : Exchange(in.client),
        StoreTask(in.server, stored_key),
        words_(in.words),
        key_(stored_key),
        key_hash_(key_hash),
        large_(large),
        apply_(apply) {
    touches({&key_hash_, 1}, true, false);
  }
  void begin() override {
    if (!home().has_coordinator()) return go();
    Coordinator& coordinator = home().coordinator();
    const uint32_t from = coordinator.default_replicas();
    ReplicatedRead::start(coordinator, key_.view(), from / 2 + 1, from, this,
                          [](void* self, const ReadAnswer& read) noexcept {
                            static_cast<KeyReadExchange*>(self)->take_replicated(read);
                          });
  }
  void respond(resp::ReplyWriter& to) override { to.raw(answer_); }

 private:
  void take_replicated(const ReadAnswer& from) {
    if (from.status == 504) {
      resp::ReplyWriter(answer_, protocol())
          .error("NOREPLICAS Not enough good replicas to read from.");
    } else {
      StoreRead read;
      read.version = from.version;
      read.expire_at_ms = from.expire_at_ms;
      read.size_bytes = from.value.size();
      read.value = from.value;
      answer(read, from.status == 200);
    }
    completed();
  }
  void work(Core& owner) override {
    StoreRead read;
    const ReadOutcome outcome =
        owner.shard(shard_).try_get(key_.view(), Reactor::current().wall_ms(), read);
    if (outcome == ReadOutcome::wait || needs_load(read)) {
      owner.scope().spawn(work_slowly(owner));
      return;
    }
    answer(read, outcome == ReadOutcome::found);
    done();
  }
  Task<void> work_slowly(Core& owner) {
    StoreRead read;
    Result<bool> found = co_await owner.shard(shard_).get(std::string(key_.view()),
                                                          Reactor::current().wall_ms(), read);
    uint64_t reserved = 0;
    if (found && needs_load(read)) {
      reserved = read.size_bytes;
      if (owner.transit_memory().try_acquire(reserved)) {
        if (Result<void> loaded = co_await load(read); !loaded) found = fail(loaded.error());
      } else {
        reserved = 0;
        found = fail(Errc::overloaded);
      }
    }
    if (found) {
      answer(read, *found);
    } else {
      resp::ReplyWriter(answer_, protocol()).error("ERR " + found.error().message());
    }
    if (reserved != 0) owner.transit_memory().release(reserved);
    done();
  }
  bool needs_load(const StoreRead& read) const {
    return large_ == LargeBytes::wanted && read.large && read.large_file;
  }
  static Task<Result<void>> load(StoreRead& read) {
    Result<LargeReader> reader = LargeReader::open(std::move(read.large_file), read.large_encoded);
    if (!reader) co_return fail(reader.error());
    read.large_buffer.expect(read.size_bytes);
    for (;;) {
      Result<std::string_view> piece = co_await reader->next();
      if (!piece) co_return fail(piece.error());
      if (piece->empty()) co_return Result<void>{};
      read.large_buffer.append(*piece);
    }
  }
  void answer(const StoreRead& read, bool present) {
    resp::ReplyWriter to(answer_, protocol());
    apply_(to, words_.all(), read, present);
  }
  void completed() override { connection().finished(*this); }

  CarriedWords words_;
  CarriedText key_;
  uint64_t key_hash_;
  LargeBytes large_;
  ReadApply apply_;
  std::string answer_;
};

}  // namespace

resp::Exchange* read_key(Invocation& in, size_t key_index, LargeBytes large, ReadApply apply) {
  if (!is_key(in[key_index])) return in.error(key_too_long);
  std::string room;
  const std::string_view stored = stored_key_of(in.client, in[key_index], room);
  const uint64_t key_hash = hash64(stored);
  Core& core = in.server.core();
  const uint32_t shard = in.server.node().shard_for(stored);
  if (in.server.node().owner_of(shard) == core.index() && !core.has_coordinator() &&
      in.client.may_read(key_hash)) {
    StoreRead read;
    const ReadOutcome outcome =
        core.shard(shard).try_get(stored, Reactor::current().wall_ms(), read);
    const bool needs_load = large == LargeBytes::wanted && read.large && read.large_file;
    if (outcome != ReadOutcome::wait && !needs_load) {
      resp::ReplyWriter to = in.out();
      apply(to, in.words, read, outcome == ReadOutcome::found);
      return nullptr;
    }
  }
  return new KeyReadExchange(in, stored, key_hash, large, apply);
}

}  // namespace gyre
