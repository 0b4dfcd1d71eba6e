#include "node/scan_exchange.hpp"

#include <algorithm>

#include <gyre/call.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "node/database_key.hpp"
#include "node/node.hpp"

namespace gyre {

namespace {

constexpr unsigned records_between_yields = 64;
// Of a shard, beside what its scan holds: a page here and one on the way, each with a record too much.
constexpr uint64_t pages_bytes = 192u << 10;

}  // namespace

namespace {
// Carries what belongs to another core back to it.
struct Disposal : Message {
  std::unique_ptr<LargeValueStream> large;
  std::unique_ptr<Scan> scan;
};
}  // namespace

// Sources are left only if the client went away before the answer began.
ScanExchange::~ScanExchange() {
  for (auto& source : sources_) {
    if (!source->scan || source->owner == core_.index()) continue;
    auto* disposal = new Disposal;
    disposal->large = std::move(source->large);
    disposal->scan = std::move(source->scan);
    disposal->deliver = [](Message& self, Reactor&) noexcept {
      delete static_cast<Disposal*>(&self);
    };
    Reactor::current().send(source->owner, *disposal);
  }
}

void ScanExchange::begin() {
  connection().scope().spawn(open());
}

Task<void> ScanExchange::open() {
  Node& node = core_.node();
  now_ms_ = Reactor::current().wall_ms();
  const uint64_t wanted =
      std::min<uint64_t>((Scan::memory_bytes_expected() + pages_bytes) * node.shard_count(),
                         core_.transit_memory().capacity());
  if (!reserve(wanted)) {
    refuse(503, "too many ranges are being read; try again");
    connection().finished(*this);
    co_return;
  }
  std::vector<Task<Result<bool>>> opening;
  for (uint32_t shard = 0; shard < node.shard_count(); ++shard) {
    sources_.push_back(std::make_unique<Source>());
    sources_.back()->shard = shard;
    sources_.back()->owner = node.owner_of(shard);
    opening.push_back(open_source(sources_.back().get()));
  }
  const std::vector<Result<bool>> opened = co_await when_all<Result<bool>>(std::move(opening));
  for (const Result<bool>& result : opened) {
    if (result) continue;
    refuse(500, result.error().message());
  }
  if (status_ != 200) co_await close_sources();
  connection().finished(*this);
}

Task<Result<bool>> ScanExchange::open_source(Source* source) {
  co_return co_await spawn_on(source->owner, [this, source]() { return open_here(this, source); });
}

Task<Result<bool>> ScanExchange::open_here(ScanExchange* self, Source* source) {
  Core& owner = self->core_.node().core(source->owner);
  Result<std::unique_ptr<Scan>> scan =
      co_await owner.shard(source->shard).scan(self->start_, self->end_, self->now_ms_);
  if (!scan) co_return fail(scan.error());
  source->scan = std::move(*scan);
  leave_out_databases(*source->scan);
  co_return co_await self->fill_page(source);
}

// --- on the owner's core ------------------------------------------------------------------------

void ScanExchange::add_record(Source& source) {
  const Entry& entry = source.scan->entry();
  const std::string_view key = key_of_stored(entry.key);
  const uint64_t value_bytes = source.scan->value_bytes();
  Record record;
  record.begin = static_cast<uint32_t>(source.bytes.size());
  if (framed_) {
    char header[http::chunk_header_bytes_max];
    char* end = http::write_chunk_header(header, key.size() + 1 + value_bytes);
    source.bytes.append(header, static_cast<size_t>(end - header));
  }
  record.key_offset = static_cast<uint32_t>(source.bytes.size());
  record.key_bytes = static_cast<uint32_t>(key.size());
  source.bytes.append(key);
  source.bytes.push_back('\n');
  if (source.scan->large()) {
    source.large_follows = true;
    source.large_bytes = value_bytes;
  } else {
    source.bytes.append(entry.value.empty() ? std::string_view() : entry.value);
    if (framed_) source.bytes.append(http::chunk_end);
  }
  record.end = static_cast<uint32_t>(source.bytes.size());
  source.records.push_back(record);
}

Task<Result<bool>> ScanExchange::fill_page(Source* source) {
  source->bytes.clear();
  source->records.clear();
  source->next = 0;
  source->large_follows = false;
  source->large.reset();
  unsigned count = 0;
  while (source->bytes.size() < page_bytes_max && !source->large_follows) {
    switch (source->scan->try_next()) {
      case Scan::Step::record: {
        add_record(*source);
        if (source->large_follows) {
          Result<LargeValueStream> large = source->scan->large_value();
          if (!large) co_return fail(large.error());
          source->large = std::make_unique<LargeValueStream>(std::move(*large));
        }
        break;
      }
      case Scan::Step::wait:
        if (Result<void> loaded = co_await source->scan->load(); !loaded) {
          co_return fail(loaded.error());
        }
        break;
      case Scan::Step::end:
        source->ended = true;
        co_return true;
    }
    if (++count % records_between_yields == 0) co_await maybe_yield();
  }
  co_return true;
}

Task<Result<bool>> ScanExchange::fetch_piece(Source* source) {
  Result<std::string_view> piece = co_await source->large->next();
  if (!piece) co_return fail(piece.error());
  piece_.assign(*piece);
  co_return !piece->empty();
}

// --- on the connection's core -------------------------------------------------------------------

Task<Result<bool>> ScanExchange::refill(Source& source) {
  co_return co_await spawn_on(source.owner, [this, &source]() { return fill_page(&source); });
}

Task<void> ScanExchange::close_sources() {
  for (auto& source : sources_) {
    co_await call_on(source->owner, [&source] {
      source->large.reset();
      source->scan.reset();
      return true;
    });
  }
  sources_.clear();
}

Task<bool> ScanExchange::send_large(http::Connection& to, Source& source) {
  Socket& out = to.socket();
  uint64_t sent = 0;
  for (;;) {
    Result<bool> more =
        co_await spawn_on(source.owner, [this, &source]() { return fetch_piece(&source); });
    if (!more) co_return false;
    if (!*more) break;
    sent += piece_.size();
    out.append(piece_);
    if (!co_await out.drained(output_bytes_pause)) co_return false;
  }
  if (framed_) out.append(http::chunk_end);
  co_return sent == source.large_bytes;
}

Task<bool> ScanExchange::stream(http::Connection& to) {
  Socket& out = to.socket();
  bool whole = true;
  for (;;) {
    // Every source has a record, or has ended.
    Source* least = nullptr;
    Source* second = nullptr;
    for (auto& source : sources_) {
      if (!source->has_record() && !source->ended) {
        if (Result<bool> filled = co_await refill(*source); !filled) {
          Reactor::current().log("error", "event=range_failed " + filled.error().message());
          whole = false;
          break;
        }
      }
      if (!source->has_record()) continue;
      if (least == nullptr || source->key() < least->key()) {
        second = least;
        least = source.get();
      } else if (second == nullptr || source->key() < second->key()) {
        second = source.get();
      }
    }
    if (!whole || least == nullptr) break;
    // A run of records that come before everything else goes out in one piece.
    const size_t first = least->next;
    while (least->has_record() && (second == nullptr || least->key() < second->key())) {
      ++least->next;
    }
    const uint32_t begin = least->records[first].begin;
    const uint32_t end = least->records[least->next - 1].end;
    out.append(std::string_view(least->bytes).substr(begin, end - begin));
    if (least->large_follows && !least->has_record() && !co_await send_large(to, *least)) {
      whole = false;
      break;
    }
    if (!co_await out.drained(output_bytes_pause)) {
      whole = false;
      break;
    }
  }
  co_await close_sources();
  if (whole && framed_) out.append(http::last_chunk);
  co_return whole;
}

}  // namespace gyre
