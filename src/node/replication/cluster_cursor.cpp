#include "node/replication/cluster_cursor.hpp"

#include <utility>

#include "cluster/replica_messages.hpp"
#include "node/core.hpp"
#include "node/replication/replica_scan.hpp"

namespace gyre {

using cluster::ScanRequest;

namespace {

// Pages of one stream: a window of credit and what the last one exceeds it by.
constexpr uint64_t stream_memory_bytes = 256u << 10;
static_assert(peer::stream_window_bytes + ReplicaScan::page_bytes_max +
                  limits::stored_key_bytes_max + (64u << 10) <=
              stream_memory_bytes);

}  // namespace

struct ClusterCursor::Remote : peer::Call {
  ClusterCursor* cursor = nullptr;
  cluster::NodeIndex node = cluster::no_node;
  cluster::ScanMerge::StreamId id = 0;
  peer::Link* link = nullptr;
  char head[ScanRequest::head_bytes];
  std::string start;
  std::string_view pieces[3];
  // A node that has lost its data may not know it yet, and brings nothing: that is no answer.
  bool counts() const { return cursor->core_.coordinator().counts_in_reads(node); }
};

// Outlives the exchange until what its core works on has ended; `scan` is null then.
struct ClusterCursor::Local {
  Local(Core& core, const ScanRequest& request) : replica(core, request) {}
  ReplicaScan replica;
  ClusterCursor* cursor = nullptr;
  cluster::ScanMerge::StreamId id = 0;
  int64_t credit_bytes = peer::stream_window_bytes;
  Event credited;
};

ClusterCursor::WakeTimer::WakeTimer(ClusterCursor& of)
    : Timer([](Timer& self) noexcept { static_cast<WakeTimer&>(self).cursor.progress_.set(); }),
      cursor(of) {}

ClusterCursor::ClusterCursor(Core& core, Scope& scope, Range range)
    : core_(core),
      scope_(scope),
      range_(std::move(range)),
      now_ms_(Reactor::current().wall_ms()),
      merge_(core.coordinator().scan_plan(range_.ack, range_.from), {.start = range_.start}),
      wake_(*this) {
  ++core_.coordinator().stats().scans;
}

ClusterCursor::~ClusterCursor() {
  Reactor::current().disarm(wake_);
  for (auto& [id, remote] : remotes_) {
    if (remote->under_way()) remote->link->cancel(*remote);
  }
  for (auto& [id, local] : locals_) {
    local->cursor = nullptr;
    local->credited.set();
  }
  if (transit_bytes_ != 0) core_.transit_memory().release(transit_bytes_);
}

bool ClusterCursor::reserve(uint64_t bytes) {
  if (!core_.transit_memory().try_acquire(bytes)) return false;
  transit_bytes_ += bytes;
  return true;
}

void ClusterCursor::give_back(uint64_t bytes) {
  core_.transit_memory().release(bytes);
  transit_bytes_ -= bytes;
}

// Until a record, the end or a failure.
Task<ClusterCursor::Do> ClusterCursor::advance() {
  Reactor& reactor = Reactor::current();
  for (;;) {
    const Step step = merge_.next(reactor.now());
    switch (step.what) {
      case Do::open:
        open_stream(step);
        break;
      case Do::close:
        close_stream(step);
        break;
      case Do::credit:
        grant(step);
        break;
      case Do::wait: {
        progress_.reset();
        reactor.arm(wake_, step.until);
        const bool woken = co_await progress_.wait();
        reactor.disarm(wake_);
        if (!woken) co_return Do::fail;  // the connection is given up
        break;
      }
      case Do::record:
      case Do::end:
      case Do::fail:
        co_return step.what;
    }
  }
}

// --- streams --------------------------------------------------------------------------------------

void ClusterCursor::open_stream(const Step& step) {
  Coordinator& coordinator = core_.coordinator();
  const bool here = step.node == coordinator.self();
  if (merge_.replaced() != 0) ++coordinator.stats().scan_streams_replaced;
  if (!coordinator.counts_in_reads(step.node)) return merge_.failed(step.stream);
  if (!reserve(stream_memory_bytes + (here ? ReplicaScan::memory_bytes(core_) : 0))) {
    memory_short_ = true;
    return merge_.failed(step.stream);
  }
  const ScanRequest request{.start = merge_.resume_key(step.stream),
                            .end = range_.end,
                            .now_ms = now_ms_,
                            .keys_only = range_.keys_only,
                            .slots = merge_.slots(step.stream)};
  if (here) {
    auto local = std::make_shared<Local>(core_, request);
    local->cursor = this;
    local->id = step.stream;
    locals_[step.stream] = local;
    scope_.spawn(feed(std::move(local)));
    return;
  }
  auto& remote = remotes_[step.stream];
  remote = std::make_unique<Remote>();
  remote->cursor = this;
  remote->id = step.stream;
  remote->node = step.node;
  remote->link = &coordinator.link(step.node);
  remote->verb = static_cast<uint8_t>(cluster::Verb::scan);
  remote->idempotent = true;
  request.encode_head(remote->head);
  remote->start = request.start;
  remote->pieces[0] = {remote->head, sizeof remote->head};
  remote->pieces[1] = remote->start;
  remote->pieces[2] = range_.end;
  remote->parts = remote->pieces;
  remote->page = [](peer::Call& self, std::string_view page) noexcept {
    auto& from = static_cast<Remote&>(self);
    if (from.counts()) {
      from.cursor->merge_.page(from.id, std::string(page), Reactor::current().now());
    } else {
      from.cursor->merge_.failed(from.id);
    }
    from.cursor->progress_.set();
  };
  remote->done = [](peer::Call& self) noexcept {
    auto& from = static_cast<Remote&>(self);
    if (from.status == peer::Status::ok && from.counts()) {
      from.cursor->merge_.ended(from.id);
    } else {
      from.cursor->not_understood_ |= from.status == peer::Status::corrupt;
      from.cursor->merge_.failed(from.id);
    }
    from.cursor->progress_.set();
  };
  if (!remote->link->start(*remote)) merge_.failed(step.stream);
}

void ClusterCursor::close_stream(const Step& step) {
  if (const auto at = remotes_.find(step.stream); at != remotes_.end()) {
    if (at->second->under_way()) at->second->link->cancel(*at->second);
    remotes_.erase(at);
    give_back(stream_memory_bytes);
  } else if (const auto mine = locals_.find(step.stream); mine != locals_.end()) {
    mine->second->cursor = nullptr;
    mine->second->credited.set();
    locals_.erase(mine);
    give_back(stream_memory_bytes + ReplicaScan::memory_bytes(core_));
  }
}

void ClusterCursor::grant(const Step& step) {
  if (const auto at = remotes_.find(step.stream); at != remotes_.end()) {
    if (at->second->under_way()) at->second->link->grant(*at->second, step.bytes);
  } else if (const auto mine = locals_.find(step.stream); mine != locals_.end()) {
    mine->second->credit_bytes += step.bytes;
    mine->second->credited.set();
  }
}

// In the connection's scope: it has ended before the node closes its shards.
Task<void> ClusterCursor::feed(std::shared_ptr<Local> local) {
  const Result<void> opened = co_await local->replica.open();
  bool whole = false;
  Error error;
  if (!opened) error = opened.error();
  while (opened && local->cursor != nullptr) {
    if (local->credit_bytes <= 0) {
      local->credited.reset();
      if (!co_await local->credited.wait()) break;
      continue;
    }
    std::string page;
    const Result<bool> more = co_await local->replica.next_page(page);
    if (!more) {
      error = more.error();
      break;
    }
    if (local->cursor == nullptr) break;
    local->credit_bytes -= static_cast<int64_t>(page.size());
    local->cursor->merge_.page(local->id, std::move(page), Reactor::current().now());
    whole = !*more;
    if (whole) break;
    local->cursor->progress_.set();
  }
  if (error.code != Errc::ok) {
    Reactor::current().log("error", "event=range_failed " + error.message());
  }
  if (local->cursor != nullptr) {
    if (whole) {
      local->cursor->merge_.ended(local->id);
    } else {
      local->cursor->merge_.failed(local->id);
    }
    local->cursor->progress_.set();
  }
  co_await local->replica.close();
}

}  // namespace gyre
