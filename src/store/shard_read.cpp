// Reading a shard: memtables, level 0 newest first, one table per deeper level; the greatest version
// wins.
#include "base/limits.hpp"
#include "store/bloom.hpp"
#include "store/shard.hpp"

namespace gyre {

// The winner among the memtables, which are asked newest first.
const Memtable::Node* Shard::find_in_memory(std::string_view key, uint64_t hash, uint64_t seq,
                                            MemRef* holder) const {
  const Memtable::Node* best = active_->table.get(key, hash, seq);
  if (best != nullptr && holder != nullptr) *holder = active_;
  for (auto mem = immutable_.rbegin(); mem != immutable_.rend(); ++mem) {
    if (best != nullptr && (*mem)->table.version_max() <= best->version()) continue;
    const Memtable::Node* node = (*mem)->table.get(key, hash, seq);
    if (node == nullptr || (best != nullptr && node->version() <= best->version())) continue;
    best = node;
    if (holder != nullptr) *holder = *mem;
  }
  return best;
}

namespace {

bool is_live(Kind kind, uint64_t expire_at_ms, uint64_t now_ms) {
  return kind != Kind::tombstone && (expire_at_ms == 0 || expire_at_ms > now_ms);
}

void fill_from_node(const Memtable::Node& node, StoreRead& out) {
  out.expire_at_ms = node.expire_at_ms();
  out.size_bytes = node.value_bytes();
  out.large = node.large();
  if (node.large()) {
    out.large_buffer = node.large_value().share();
  } else {
    out.value = node.value();
  }
}

Result<void> fill_from_table(const TableRef& table, TableEntry& found, StoreRead& out) {
  const Entry& entry = found.entry;
  out.version = entry.version;
  out.expire_at_ms = entry.expire_at_ms;
  out.large = is_streamed(entry.kind);
  if (out.large) {
    Result<TableFile::ValuePlace> place = table->place_of(entry);
    if (!place) return fail(place.error());
    Result<uint64_t> size = LargeReader::size_of(*place->file, place->handle);
    if (!size) return fail(size.error());
    out.large_encoded.assign(place->handle);
    out.large_file = std::move(place->file);
    out.size_bytes = *size;
  } else {
    out.value = entry.value;
    out.size_bytes = entry.value.size();
  }
  out.pin = std::move(found.pin);
  return {};
}

// Visits, in the order in which they are asked, the tables that may hold `key`. A table is passed
// over once the answer so far is newer than everything in it. `visit(table)` returns false to stop.
template <class Visit>
bool for_each_candidate(const TableLevels& levels, std::string_view key, const Version& best,
                        const bool& found, Visit&& visit) {
  const auto outdated = [&](const TableRef& table) {
    return found && table->record().version_max <= best;
  };
  for (const TableRef& table : levels.level(0)) {
    const TableRecord& record = table->record();
    if (key < record.smallest_key || key > record.largest_key || outdated(table)) continue;
    if (!visit(table)) return false;
  }
  for (unsigned level = 1; level < limits::table_level_count; ++level) {
    const TableRef* table = levels.find(level, key);
    if (table == nullptr || outdated(*table)) continue;
    if (!visit(*table)) return false;
  }
  return true;
}

// What a lookup has asked; counted when it ends without a wait.
class LookupTally {
 public:
  void add(uint8_t level, LookupEnd end) {
    if (size_ < sizeof levels_) {
      levels_[size_] = level;
      ends_[size_++] = end;
    }
  }
  void commit(TableHost& host) const {
    for (size_t i = 0; i < size_; ++i) count_lookup(host.level_stats(levels_[i]), ends_[i]);
  }

 private:
  size_t size_ = 0;
  uint8_t levels_[48];  // level 0 stops writes long before
  LookupEnd ends_[48];
};

}  // namespace

ReadOutcome Shard::try_get(std::string_view key, uint64_t now_ms, StoreRead& out) {
  return try_lookup(key, bloom_hash(key), visible_seq_, now_ms, out);
}

ReadOutcome Shard::try_lookup(std::string_view key, uint64_t hash, uint64_t seq, uint64_t now_ms,
                              StoreRead& out) {
  const Memtable::Node* node = find_in_memory(key, hash, seq, nullptr);
  Version best = node != nullptr ? node->version() : Version{};
  bool found = node != nullptr;
  const TableRef* winner = nullptr;
  TableEntry winning;
  bool needs_io = false;
  LookupTally tally;
  if (levels_->table_count() != 0) {
    for_each_candidate(*levels_, key, best, found, [&](const TableRef& table) {
      TableEntry entry;
      const Probe probe = table->try_get(key, hash, entry);
      if (probe != Probe::needs_io) tally.add(table->record().level, entry.end);
      switch (probe) {
        case Probe::absent:
          return true;
        case Probe::needs_io:
          needs_io = true;
          return false;
        case Probe::hit:
          break;
      }
      if (found && entry.entry.version <= best) return true;
      best = entry.entry.version;
      found = true;
      winner = &table;
      winning = std::move(entry);
      return true;
    });
  }
  if (winner != nullptr && is_live(winning.entry.kind, winning.entry.expire_at_ms, now_ms)) {
    needs_io = needs_io || !(*winner)->try_resolve(winning);
  }
  if (needs_io) return ReadOutcome::wait;  // get() asks and counts again
  tally.commit(*host_);
  out.version = best;
  if (!found) {
    ++stats_.reads_memory;
    return ReadOutcome::absent;
  }
  if (winner == nullptr) {
    ++stats_.reads_memory;
    return take_node(*node, now_ms, out);
  }
  ++stats_.reads_memory;
  if (!is_live(winning.entry.kind, winning.entry.expire_at_ms, now_ms)) return ReadOutcome::absent;
  if (!fill_from_table(*winner, winning, out))
    return ReadOutcome::wait;  // get() says what is wrong
  return ReadOutcome::found;
}

ReadOutcome Shard::take_node(const Memtable::Node& node, uint64_t now_ms, StoreRead& out) {
  out.version = node.version();
  out.seq = node.seq();
  if (!is_live(node.kind(), node.expire_at_ms(), now_ms)) return ReadOutcome::absent;
  fill_from_node(node, out);
  return ReadOutcome::found;
}

Task<Result<bool>> Shard::get(std::string key, uint64_t now_ms, StoreRead& out) {
  return lookup(std::move(key), Sees::visible, now_ms, out);
}

Task<Result<bool>> Shard::lookup(std::string key, Sees sees, uint64_t now_ms, StoreRead& out) {
  const Call call(*this);
  ++stats_.reads_waited;
  MemRef holder;
  const uint64_t hash = bloom_hash(key);
  const uint64_t seq = sees == Sees::newest ? Memtable::seq_newest : visible_seq_;
  const Memtable::Node* node = find_in_memory(key, hash, seq, &holder);
  const std::shared_ptr<const TableLevels> levels = levels_;
  Version best = node != nullptr ? node->version() : Version{};
  bool found = node != nullptr;
  TableRef winner;
  TableEntry winning;
  // The candidates first: the loop over them suspends.
  std::vector<TableRef> candidates;
  for_each_candidate(*levels, key, best, found, [&](const TableRef& table) {
    candidates.push_back(table);
    return true;
  });
  for (const TableRef& table : candidates) {
    if (found && table->record().version_max <= best) continue;
    TableEntry entry;
    Result<bool> hit = co_await table->get(key, hash, entry);
    if (!hit) co_return fail(hit.error());
    if (!*hit || (found && entry.entry.version <= best)) continue;
    best = entry.entry.version;
    found = true;
    winner = table;
    winning = std::move(entry);
  }
  out.version = best;
  if (!found) co_return false;
  if (!winner) {
    if (take_node(*node, now_ms, out) == ReadOutcome::absent) co_return false;
    out.memtable = std::shared_ptr<const Memtable>(holder, &holder->table);
    co_return true;
  }
  if (!is_live(winning.entry.kind, winning.entry.expire_at_ms, now_ms)) co_return false;
  if (Result<void> resolved = co_await winner->resolve(winning); !resolved) {
    co_return fail(resolved.error());
  }
  if (Result<void> filled = fill_from_table(winner, winning, out); !filled)
    co_return fail(filled.error());
  co_return true;
}

// --- newer versions -----------------------------------------------------------------------------

// Nearly every write is newer than all tables of the shard, and asks none of them.
ReadOutcome Shard::try_find_newer(std::string_view key, Version than, Version& newest) const {
  const uint64_t hash = bloom_hash(key);
  newest = than;
  const Memtable::Node* node = find_in_memory(key, hash, visible_seq_, nullptr);
  if (node != nullptr && node->version() > newest) newest = node->version();
  const bool found = true;
  const bool known = for_each_candidate(*levels_, key, newest, found, [&](const TableRef& table) {
    TableEntry entry;
    const Probe probe = table->try_get(key, hash, entry);
    if (probe == Probe::hit && entry.entry.version > newest) newest = entry.entry.version;
    return probe != Probe::needs_io;
  });
  if (!known) return ReadOutcome::wait;
  return newest > than ? ReadOutcome::found : ReadOutcome::absent;
}

Task<Result<bool>> Shard::find_newer(std::string key, Version than, Version& newest) {
  StoreRead read;
  const Result<bool> found = co_await get(std::move(key), 0, read);
  if (!found) co_return fail(found.error());
  newest = std::max(than, read.version);
  co_return newest > than;
}

}  // namespace gyre
