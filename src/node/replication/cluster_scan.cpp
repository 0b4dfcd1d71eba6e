#include "node/replication/cluster_scan.hpp"

#include <utility>

#include <gyre/time.hpp>

#include "node/database_key.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"

namespace gyre {

using cluster::ScanKind;

namespace {

constexpr unsigned records_between_yields = 64;
constexpr Nanos memory_patience = seconds(2);

}  // namespace

ClusterScan::ClusterScan(http::Connection& connection, Core& core, std::string_view start,
                         std::string_view end, uint32_t ack, uint32_t from)
    : RangeExchange(connection, core, start, end), ack_(ack), from_(from) {}

void ClusterScan::begin() {
  connection().scope().spawn(open());
}

Task<void> ClusterScan::open() {
  cursor_.emplace(core_, connection().scope(),
                  ClusterCursor::Range{.start = start_, .end = end_, .ack = ack_, .from = from_});
  first_ = co_await cursor_->advance();
  if (first_ == Do::fail) {
    ++core_.coordinator().stats().scans_failed;
    if (cursor_->memory_short()) {
      refuse(503, "too many ranges are being read; try again");
    } else {
      refuse(504, "Not Enough Replicas");
    }
  }
  connection().finished(*this);
}

// --- the answer -----------------------------------------------------------------------------------

void ClusterScan::append_record(Socket& out) {
  const cluster::ScanEntry& record = cursor_->record();
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
      std::min<uint64_t>(cursor_->record().value_bytes, core_.transit_memory().capacity() / 2);
  if (!co_await out.drained(output_bytes_pause / 2)) co_return LongValue::failed;
  core_.transit_awaited();
  if (!co_await with_timeout<void>(memory_patience, acquire(core_.transit_memory(), bytes))) {
    co_return LongValue::failed;
  }
  long_came_.reset();
  ReplicatedRead::start(core_.coordinator(), cursor_->record().key, ack_, from_, this,
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
    const std::string_view key = key_of_stored(cursor_->record().key);
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
  for (Do next = first_;; next = co_await cursor_->advance()) {
    if (next == Do::end) break;
    bool going = next == Do::record;
    if (going && cursor_->record().kind == ScanKind::long_value) {
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
