#include "node/replication/cluster_scan.hpp"

#include <utility>

#include <gyre/time.hpp>

#include "cluster/replica_messages.hpp"
#include "node/database_key.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/replica_scan.hpp"

namespace gyre {

using cluster::ScanKind;
using cluster::ScanRequest;

namespace {

constexpr unsigned records_between_yields = 64;
// Pages of one stream: a window of credit and what the last one exceeds it by.
constexpr uint64_t stream_memory_bytes = 256u << 10;
static_assert(peer::stream_window_bytes + ReplicaScan::page_bytes_max +
                  limits::stored_key_bytes_max + (64u << 10) <=
              stream_memory_bytes);
constexpr Nanos memory_patience = seconds(2);

}  // namespace

struct ClusterScan::Remote : peer::Call {
  ClusterScan* scan = nullptr;
  cluster::NodeIndex node = cluster::no_node;
  cluster::ScanMerge::StreamId id = 0;
  peer::Link* link = nullptr;
  char head[ScanRequest::head_bytes];
  std::string start;
  std::string_view pieces[3];
  // A node that has lost its data may not know it yet, and brings nothing: that is no answer.
  bool counts() const { return scan->core_.coordinator().counts_in_reads(node); }
};

// Outlives the exchange until what its core works on has ended; `scan` is null then.
struct ClusterScan::Local {
  Local(Core& core, const ScanRequest& request) : replica(core, request) {}
  ReplicaScan replica;
  ClusterScan* scan = nullptr;
  cluster::ScanMerge::StreamId id = 0;
  int64_t credit_bytes = peer::stream_window_bytes;
  Event credited;
};

ClusterScan::WakeTimer::WakeTimer(ClusterScan& of)
    : Timer([](Timer& self) noexcept { static_cast<WakeTimer&>(self).scan.progress_.set(); }),
      scan(of) {}

ClusterScan::ClusterScan(http::Connection& connection, Core& core, std::string_view start,
                         std::string_view end, uint32_t ack, uint32_t from)
    : RangeExchange(connection, core, start, end), ack_(ack), from_(from), wake_(*this) {}

ClusterScan::~ClusterScan() {
  Reactor::current().disarm(wake_);
  for (auto& [id, remote] : remotes_) {
    if (remote->under_way()) remote->link->cancel(*remote);
  }
  for (auto& [id, local] : locals_) {
    local->scan = nullptr;
    local->credited.set();
  }
}

void ClusterScan::begin() {
  connection().scope().spawn(open());
}

Task<void> ClusterScan::open() {
  Coordinator& coordinator = core_.coordinator();
  ++coordinator.stats().scans;
  now_ms_ = Reactor::current().wall_ms();
  merge_.emplace(coordinator.scan_plan(ack_, from_), cluster::ScanMergeOptions{.start = start_});
  first_ = co_await advance();
  if (first_ == Do::fail) {
    ++coordinator.stats().scans_failed;
    if (memory_short_) {
      refuse(503, "too many ranges are being read; try again");
    } else {
      refuse(504, "Not Enough Replicas");
    }
  }
  connection().finished(*this);
}

// Until a record, the end or a failure.
Task<ClusterScan::Do> ClusterScan::advance() {
  Reactor& reactor = Reactor::current();
  for (;;) {
    const Step step = merge_->next(reactor.now());
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

void ClusterScan::open_stream(const Step& step) {
  Coordinator& coordinator = core_.coordinator();
  const bool here = step.node == coordinator.self();
  if (merge_->replaced() != 0) ++coordinator.stats().scan_streams_replaced;
  if (!coordinator.counts_in_reads(step.node)) return merge_->failed(step.stream);
  if (!reserve(stream_memory_bytes + (here ? ReplicaScan::memory_bytes(core_) : 0))) {
    memory_short_ = true;
    return merge_->failed(step.stream);
  }
  const ScanRequest request{.start = merge_->resume_key(step.stream),
                            .end = end_,
                            .now_ms = now_ms_,
                            .slots = merge_->slots(step.stream)};
  if (here) {
    auto local = std::make_shared<Local>(core_, request);
    local->scan = this;
    local->id = step.stream;
    locals_[step.stream] = local;
    connection().scope().spawn(feed(std::move(local)));
    return;
  }
  auto& remote = remotes_[step.stream];
  remote = std::make_unique<Remote>();
  remote->scan = this;
  remote->id = step.stream;
  remote->node = step.node;
  remote->link = &coordinator.link(step.node);
  remote->verb = static_cast<uint8_t>(cluster::Verb::scan);
  remote->idempotent = true;
  request.encode_head(remote->head);
  remote->start = request.start;
  remote->pieces[0] = {remote->head, sizeof remote->head};
  remote->pieces[1] = remote->start;
  remote->pieces[2] = end_;
  remote->parts = remote->pieces;
  remote->page = [](peer::Call& self, std::string_view page) noexcept {
    auto& from = static_cast<Remote&>(self);
    if (from.counts()) {
      from.scan->merge_->page(from.id, std::string(page), Reactor::current().now());
    } else {
      from.scan->merge_->failed(from.id);
    }
    from.scan->progress_.set();
  };
  remote->done = [](peer::Call& self) noexcept {
    auto& from = static_cast<Remote&>(self);
    if (from.status == peer::Status::ok && from.counts()) {
      from.scan->merge_->ended(from.id);
    } else {
      from.scan->merge_->failed(from.id);
    }
    from.scan->progress_.set();
  };
  if (!remote->link->start(*remote)) merge_->failed(step.stream);
}

void ClusterScan::close_stream(const Step& step) {
  if (const auto at = remotes_.find(step.stream); at != remotes_.end()) {
    if (at->second->under_way()) at->second->link->cancel(*at->second);
    remotes_.erase(at);
    give_back(stream_memory_bytes);
  } else if (const auto mine = locals_.find(step.stream); mine != locals_.end()) {
    mine->second->scan = nullptr;
    mine->second->credited.set();
    locals_.erase(mine);
    give_back(stream_memory_bytes + ReplicaScan::memory_bytes(core_));
  }
}

void ClusterScan::grant(const Step& step) {
  if (const auto at = remotes_.find(step.stream); at != remotes_.end()) {
    if (at->second->under_way()) at->second->link->grant(*at->second, step.bytes);
  } else if (const auto mine = locals_.find(step.stream); mine != locals_.end()) {
    mine->second->credit_bytes += step.bytes;
    mine->second->credited.set();
  }
}

// In the connection's scope: it has ended before the node closes its shards.
Task<void> ClusterScan::feed(std::shared_ptr<Local> local) {
  const Result<void> opened = co_await local->replica.open();
  bool whole = false;
  Error error;
  if (!opened) error = opened.error();
  while (opened && local->scan != nullptr) {
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
    if (local->scan == nullptr) break;
    local->credit_bytes -= static_cast<int64_t>(page.size());
    local->scan->merge_->page(local->id, std::move(page), Reactor::current().now());
    whole = !*more;
    if (whole) break;
    local->scan->progress_.set();
  }
  if (error.code != Errc::ok) {
    Reactor::current().log("error", "event=range_failed " + error.message());
  }
  if (local->scan != nullptr) {
    if (whole) {
      local->scan->merge_->ended(local->id);
    } else {
      local->scan->merge_->failed(local->id);
    }
    local->scan->progress_.set();
  }
  co_await local->replica.close();
}

// --- the answer -----------------------------------------------------------------------------------

void ClusterScan::append_record(Socket& out) {
  const cluster::ScanEntry& record = merge_->record();
  if (core_.coordinator().is_credible(record.version.hlc))
    core_.coordinator().clock().observe(record.version.hlc);
  const std::string_view key = key_of_stored(record.key);
  if (framed_) {
    char header[http::chunk_header_bytes_max];
    char* end = http::write_chunk_header(header, key.size() + 1 + record.value.size());
    out.append({header, static_cast<size_t>(end - header)});
  }
  out.append(key);
  out.append("\n");
  out.append(record.value);
  if (framed_) out.append(http::chunk_end);
}

// As a GET: whole in memory, which is reserved here.
Task<ClusterScan::LongValue> ClusterScan::send_long(Socket& out) {
  const uint64_t bytes =
      std::min<uint64_t>(merge_->record().value_bytes, core_.transit_memory().capacity() / 2);
  if (!co_await out.drained(output_bytes_pause / 2)) co_return LongValue::failed;
  core_.transit_awaited();
  if (!co_await with_timeout<void>(memory_patience, acquire(core_.transit_memory(), bytes))) {
    co_return LongValue::failed;
  }
  long_came_.reset();
  ReplicatedRead::start(core_.coordinator(), merge_->record().key, ack_, from_, this,
                        [](void* self, const ReadAnswer& answer) noexcept {
                          static_cast<ClusterScan*>(self)->take_long(answer);
                        });
  co_await detail::Uninterrupted{long_came_};
  const bool drained = co_await out.drained(output_bytes_pause);
  core_.transit_memory().release(bytes);
  co_return drained ? long_value_ : LongValue::failed;
}

void ClusterScan::take_long(const ReadAnswer& answer) noexcept {
  long_value_ = answer.status == 200   ? LongValue::sent
                : answer.status == 404 ? LongValue::gone
                                       : LongValue::failed;
  if (long_value_ == LongValue::sent) {
    Socket& out = connection().socket();
    const std::string_view key = key_of_stored(merge_->record().key);
    if (framed_) {
      char header[http::chunk_header_bytes_max];
      char* end = http::write_chunk_header(header, key.size() + 1 + answer.value.size());
      out.append({header, static_cast<size_t>(end - header)});
    }
    out.append(key);
    out.append("\n");
    out.append(answer.value);
    if (framed_) out.append(http::chunk_end);
  }
  long_came_.set();
}

Task<bool> ClusterScan::stream(http::Connection& to) {
  Socket& out = to.socket();
  unsigned count = 0;
  for (Do next = first_;; next = co_await advance()) {
    if (next == Do::end) break;
    bool going = next == Do::record;
    if (going && merge_->record().kind == ScanKind::long_value) {
      going = co_await send_long(out) != LongValue::failed;
    } else if (going) {
      append_record(out);
    }
    if (!going) {
      ++core_.coordinator().stats().scans_failed;
      Reactor::current().log("warn", "event=range_cut reason=\"too few replicas\"");
      co_return false;
    }
    if (++count % records_between_yields == 0) co_await maybe_yield();
    if (!co_await out.drained(output_bytes_pause)) co_return false;
  }
  if (framed_) out.append(http::last_chunk);
  co_return true;
}

}  // namespace gyre
