#include "node/replication/replica_scan.hpp"

#include <algorithm>

#include <gyre/call.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "base/assert.hpp"
#include "node/database_key.hpp"
#include "node/node.hpp"

namespace gyre {

using cluster::ScanEntry;
using cluster::ScanKind;

namespace {

constexpr Nanos page_time_max = milliseconds(50);
constexpr unsigned entries_looked_at_max = 4096;  // for one page of a shard
constexpr unsigned entries_between_yields = 64;
// Of a shard, beside what its scan holds: a page here and one on the way, each with a record too much.
constexpr uint64_t pages_bytes = 192u << 10;

}  // namespace

ReplicaScan::ReplicaScan(Core& home, const cluster::ScanRequest& request)
    : home_(home),
      start_(request.start),
      end_(request.end),
      now_ms_(request.now_ms),
      keys_only_(request.keys_only),
      slots_(request.slots) {}

ReplicaScan::~ReplicaScan() {
  GYRE_ASSERT(sources_.empty());
}

uint64_t ReplicaScan::memory_bytes(Core& home) {
  return std::min<uint64_t>(
      (Scan::memory_bytes_expected() + pages_bytes) * home.node().shard_count(),
      home.transit_memory().capacity() / 2);
}

Task<Result<void>> ReplicaScan::open() {
  Node& node = home_.node();
  std::vector<Task<Result<bool>>> opening;
  for (uint32_t shard = 0; shard < node.shard_count(); ++shard) {
    Source& source = *sources_.emplace_back(std::make_unique<Source>());
    source.shard = shard;
    source.owner = node.owner_of(shard);
    opening.push_back(open_source(&source));
  }
  const std::vector<Result<bool>> opened = co_await when_all<Result<bool>>(std::move(opening));
  for (const Result<bool>& result : opened) {
    if (!result) co_return fail(result.error());
  }
  co_return Result<void>{};
}

Task<Result<bool>> ReplicaScan::open_source(Source* source) {
  co_return co_await spawn_on(source->owner, [this, source]() { return open_here(this, source); });
}

Task<void> ReplicaScan::close() {
  for (auto& source : sources_) {
    co_await call_on(source->owner, [&source] {
      source->scan.reset();
      return true;
    });
  }
  sources_.clear();
}

// --- on the owner's core ------------------------------------------------------------------------

Task<Result<bool>> ReplicaScan::open_here(ReplicaScan* self, Source* source) {
  Core& owner = self->home_.node().core(source->owner);
  Result<std::unique_ptr<Scan>> scan =
      co_await owner.shard(source->shard).scan(self->start_, self->end_, self->now_ms_);
  if (!scan) co_return fail(scan.error());
  source->scan = std::move(*scan);
  source->scan->include_dead();
  if (self->keys_only_) source->scan->keys_only();
  if (database_of_stored(self->start_) == 0) leave_out_databases(*source->scan);
  co_return co_await self->fill(source);
}

void ReplicaScan::add(Source& source, ScanKind kind) {
  const Entry& entry = source.scan->entry();
  ScanEntry out{.kind = kind, .key = entry.key};
  if (kind != ScanKind::passed) out.version = entry.version;
  if (kind == ScanKind::value) out.value = entry.value;
  if (!keys_only_ && (kind == ScanKind::value || kind == ScanKind::long_value)) {
    out.value_bytes = source.scan->value_bytes();
  }
  const auto begin = static_cast<uint32_t>(source.bytes.size());
  out.append_to(source.bytes);
  source.records.push_back({.begin = begin,
                            .end = static_cast<uint32_t>(source.bytes.size()),
                            .key_bytes = static_cast<uint32_t>(entry.key.size())});
}

Task<Result<bool>> ReplicaScan::fill(Source* source) {
  source->bytes.clear();
  source->records.clear();
  source->next = 0;
  const Nanos until = Reactor::current().now() + page_time_max;
  unsigned looked_at = 0;
  bool late = false;
  while (source->bytes.size() < page_bytes_max) {
    switch (source->scan->try_next()) {
      case Scan::Step::record: {
        const Entry& entry = source->scan->entry();
        const bool wanted = slots_.contains(cluster::slot_of(entry.key));
        if (wanted) {
          const bool dead = entry.is_tombstone() || entry.is_expired(now_ms_);
          const bool alone = keys_only_ || source->scan->large();
          add(*source, dead ? ScanKind::dead : alone ? ScanKind::long_value : ScanKind::value);
        }
        if (++looked_at == entries_looked_at_max || late) {
          if (!wanted) add(*source, ScanKind::passed);
          co_return true;
        }
        break;
      }
      case Scan::Step::wait:
        if (Result<void> loaded = co_await source->scan->load(); !loaded) {
          co_return fail(loaded.error());
        }
        late = Reactor::current().now() >= until;
        break;
      case Scan::Step::end:
        source->ended = true;
        co_return true;
    }
    if (looked_at % entries_between_yields == 0) {
      co_await maybe_yield();
      late = late || Reactor::current().now() >= until;
    }
  }
  co_return true;
}

// --- at home --------------------------------------------------------------------------------------

Task<Result<bool>> ReplicaScan::next_page(std::string& page) {
  const Nanos until = Reactor::current().now() + page_time_max;
  while (page.size() < page_bytes_max) {
    Source* least = nullptr;
    Source* second = nullptr;
    for (auto& source : sources_) {
      while (!source->has_record() && !source->ended) {
        if (!page.empty() && Reactor::current().now() >= until) co_return true;
        Source* at = source.get();
        Result<bool> filled = co_await spawn_on(at->owner, [this, at]() { return fill(at); });
        if (!filled) co_return filled;
      }
      if (!source->has_record()) continue;
      if (least == nullptr || source->key() < least->key()) {
        second = least;
        least = source.get();
      } else if (second == nullptr || source->key() < second->key()) {
        second = source.get();
      }
    }
    if (least == nullptr) co_return false;
    // A run of entries that come before everything else is copied in one piece.
    const size_t first = least->next;
    const uint32_t begin = least->records[first].begin;
    uint32_t end = begin;
    while (least->has_record() && (second == nullptr || least->key() < second->key()) &&
           page.size() + (end - begin) < page_bytes_max) {
      end = least->records[least->next++].end;
    }
    page.append(least->bytes, begin, end - begin);
  }
  co_return true;
}

// --- for a peer -----------------------------------------------------------------------------------

namespace {

struct ServedScan {
  ServedScan(Core& core, peer::InboundCall& of, const cluster::ScanRequest& request)
      : home(core), call(of), scan(core, request) {}
  Core& home;
  peer::InboundCall& call;
  ReplicaScan scan;
  Event resumed;
};

// False: it is not wanted any more.
Task<bool> await_credit(ServedScan& served) {
  while (served.call.pages_wanted() && served.call.credit_bytes() <= 0) {
    served.resumed.reset();
    if (!co_await served.resumed.wait()) co_return false;
  }
  co_return served.call.pages_wanted();
}

Task<peer::Status> send_pages(ServedScan& served) {
  Result<void> opened = co_await served.scan.open();
  if (!opened) {
    Reactor::current().log("error", "event=range_failed " + opened.error().message());
    co_return peer::Status::failed;
  }
  std::string page;
  for (;;) {
    if (!co_await await_credit(served)) co_return peer::Status::cancelled;
    page.clear();
    const Result<bool> more = co_await served.scan.next_page(page);
    if (!more) {
      Reactor::current().log("error", "event=range_failed " + more.error().message());
      co_return peer::Status::failed;
    }
    const std::string_view part = page;
    if (!part.empty()) static_cast<void>(served.call.send_page({&part, 1}));
    if (!*more) co_return peer::Status::ok;
  }
}

Task<void> serve(std::unique_ptr<ServedScan> served) {
  Semaphore& memory = served->home.transit_memory();
  const uint64_t bytes = ReplicaScan::memory_bytes(served->home);
  peer::Status status = peer::Status::busy;
  if (memory.try_acquire(bytes)) {
    status = co_await send_pages(*served);
    co_await served->scan.close();
    memory.release(bytes);
  }
  static_cast<void>(served->call.reply(status));
}

}  // namespace

void serve_scan(Core& core, peer::InboundCall& call) {
  cluster::ScanRequest request;
  if (!cluster::ScanRequest::decode(call.payload(), request)) {
    static_cast<void>(call.reply(peer::Status::corrupt));
    return;
  }
  auto served = std::make_unique<ServedScan>(core, call, request);
  call.context = served.get();
  call.begin_pages(
      [](peer::InboundCall& of) noexcept { static_cast<ServedScan*>(of.context)->resumed.set(); });
  core.scope().spawn(serve(std::move(served)));
}

}  // namespace gyre
