#include "cluster/handoff/missed_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "cluster/handoff/test_faults.hpp"

namespace gyre::cluster {

namespace {

constexpr uint64_t file_bytes_read_max = 512u << 20;
constexpr size_t key_bytes_max = limits::stored_key_bytes_max;  // longer ones become owed slots
constexpr size_t pending_bytes_max = 4u << 20;
constexpr size_t state_frame_bytes = 128u << 10;
constexpr uint64_t growth_before_roll = 4;
constexpr size_t batch_key_bytes_max = 64u << 10;

}  // namespace

// --- the state -----------------------------------------------------------------------------------

// While a new file is owed its first part will be the whole state, this change included.
void MissedLog::note(const MissedEntry& entry) {
  ++changed_;
  if (roll_owed_) return;
  append_missed_entry(pending_, entry);
  if (pending_.size() <= pending_bytes_max) return;
  roll_owed_ = true;
  pending_.clear();
}

PeerNumber MissedLog::peer(const PeerId& id) {
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i]->id == id) return static_cast<PeerNumber>(i);
  }
  GYRE_ASSERT(peers_.size() < no_peer);
  peers_.push_back(std::make_unique<Peer>());
  peers_.back()->id = id;
  note({.kind = MissedEntryKind::peer, .id = id});
  return static_cast<PeerNumber>(peers_.size() - 1);
}

void MissedLog::forget(PeerNumber peer) {
  Peer& of = at(peer);
  while (!of.records.empty()) erase_record(of, of.records.begin());
  of.owed.clear();
  of.walking.clear();
  update_work(of);
  note({.kind = MissedEntryKind::forgotten, .peer = peer});
}

bool MissedLog::owes(PeerNumber peer) const {
  const Peer& of = at(peer);
  return !of.records.empty() || !of.owed.empty() || !of.walking.empty();
}

void MissedLog::update_work(Peer& peer) {
  const bool owed = !peer.records.empty() || !peer.owed.empty() || !peer.walking.empty();
  if (owed == peer.work.is_set()) return;
  if (owed) {
    peer.work.set();
  } else {
    peer.work.reset();
  }
}

// False if there is a record that is as new.
bool MissedLog::set_record(Peer& peer, uint32_t slot, std::string_view key, Version version) {
  const auto found = peer.records.find(KeyLess::View(slot, key));
  if (found != peer.records.end()) {
    if (found->second >= version) return false;
    found->second = version;
    return true;
  }
  peer.records.emplace(std::pair(slot, std::string(key)), version);
  peer.bytes += record_overhead_bytes + key.size();
  record_bytes_ += record_overhead_bytes + key.size();
  return true;
}

void MissedLog::erase_record(Peer& peer, Records::iterator record) {
  const uint64_t bytes = record_overhead_bytes + record->first.second.size();
  peer.bytes -= bytes;
  record_bytes_ -= bytes;
  peer.records.erase(record);
}

void MissedLog::missed(PeerNumber peer, uint32_t slot, std::string_view key, Version version) {
  Peer& of = at(peer);
  if (handoff_test_faults.drop_missed_record) return;
  const bool walked =
      handoff_test_faults.walk_hides_new_writes && of.walking.covers(slot, version.hlc);
  if (of.owed.covers(slot, version.hlc) || walked) {
    ++counts_.covered;
    return;
  }
  if (key.size() > key_bytes_max) return owe(peer, slot, version.hlc);
  ++counts_.noted;
  if (!set_record(of, slot, key, version)) return;
  note({.kind = MissedEntryKind::missed,
        .peer = peer,
        .slot = slot,
        .key = key,
        .version = version});
  while (record_bytes_ > options_.record_bytes_max) degrade_largest();
  update_work(of);
}

void MissedLog::degrade_largest() {
  size_t largest = 0;
  for (size_t i = 1; i < peers_.size(); ++i) {
    if (peers_[i]->bytes > peers_[largest]->bytes) largest = i;
  }
  Peer& of = *peers_[largest];
  const auto number = static_cast<PeerNumber>(largest);
  while (!of.records.empty()) {
    const auto record = of.records.begin();
    const auto& [slot, key] = record->first;
    const Version version = record->second;
    if (!handoff_test_faults.forget_degraded) owe(number, slot, version.hlc);
    // Its own entry: a file that was begun meanwhile may hold the record.
    note({.kind = MissedEntryKind::replayed,
          .peer = number,
          .slot = slot,
          .key = key,
          .version = version});
    erase_record(of, record);
    ++counts_.degraded;
  }
  update_work(of);
}

void MissedLog::owe(PeerNumber peer, uint32_t slot, uint64_t since_hlc) {
  Peer& of = at(peer);
  if (!of.owed.add(slot, since_hlc)) return;
  ++counts_.slots_owed;
  note({.kind = MissedEntryKind::owed, .peer = peer, .slot = slot, .version = {since_hlc, 0}});
  update_work(of);
}

std::vector<MissedWrite> MissedLog::records_after(PeerNumber peer, uint32_t slot,
                                                  std::string_view key, size_t count) const {
  const Records& records = at(peer).records;
  std::vector<MissedWrite> out;
  size_t key_bytes = 0;
  for (auto record = records.upper_bound(KeyLess::View(slot, key));
       record != records.end() && out.size() < count && key_bytes < batch_key_bytes_max; ++record) {
    out.push_back({record->first.first, record->first.second, record->second});
    key_bytes += record->first.second.size();
  }
  return out;
}

void MissedLog::replayed(PeerNumber peer, uint32_t slot, std::string_view key, Version version) {
  Peer& of = at(peer);
  const auto record = of.records.find(KeyLess::View(slot, key));
  if (record == of.records.end() || record->second > version) return;
  ++counts_.replayed;
  note({.kind = MissedEntryKind::replayed,
        .peer = peer,
        .slot = slot,
        .key = key,
        .version = version});
  erase_record(of, record);
  update_work(of);
}

const OwedSlots* MissedLog::walk(PeerNumber peer) {
  Peer& of = at(peer);
  if (of.walking.empty()) {
    if (of.owed.empty()) return nullptr;
    std::swap(of.walking, of.owed);
    note({.kind = MissedEntryKind::walk, .peer = peer});
  }
  return &of.walking;
}

void MissedLog::end_walk(PeerNumber peer) {
  Peer& of = at(peer);
  of.walking.clear();
  ++counts_.walks;
  note({.kind = MissedEntryKind::walked, .peer = peer});
  update_work(of);
}

void MissedLog::set_watermark(uint64_t hlc) {
  if (hlc == watermark_) return;
  GYRE_ASSERT(!in_doubt_from_ || hlc < watermark_);
  watermark_ = hlc;
  watermark_max_ = std::max(watermark_max_, hlc);
  watermark_since_ = std::max(watermark_since_, hlc);
  note({.kind = MissedEntryKind::watermark, .version = {hlc, 0}});
}

uint64_t MissedLog::oldest_hlc() const {
  uint64_t oldest = in_doubt_from_.value_or(OwedSlots::never);
  for (const auto& peer : peers_) {
    oldest = std::min({oldest, peer->owed.since_min(), peer->walking.since_min()});
    for (const auto& record : peer->records) oldest = std::min(oldest, record.second.hlc);
  }
  return oldest;
}

// --- opening -------------------------------------------------------------------------------------

Task<Result<std::unique_ptr<MissedLog>>> MissedLog::open(std::string directory,
                                                         MissedLogOptions options) {
  std::unique_ptr<MissedLog> log(new MissedLog(directory, options));
  Result<void> done = co_await make_directories(directory);
  if (done) done = co_await log->read();
  if (!done) co_return fail(done.error());
  // Nothing is appended to what a crash may have left torn, and that this life began is durable
  // before it takes a write.
  done = co_await log->commit();
  if (!done && done.error().code != Errc::no_space) co_return fail(done.error());
  co_return log;
}

Task<Result<void>> MissedLog::read() {
  const std::string path = fmt::format("{}/{}", directory_, file_name);
  ++changed_;  // the file is written anew
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) {
    if (!options_.fresh) damaged(path + ": missing");
    co_return Result<void>{};
  }
  if (status->size_bytes > file_bytes_read_max) {
    damaged(fmt::format("{}: {} bytes are too many", path, status->size_bytes));
    co_return Result<void>{};
  }
  const Result<std::string> content = co_await read_file(path, status->size_bytes);
  if (!content) co_return fail(content.error());
  const Result<void> replayed = replay(*content);
  if (replayed) co_return Result<void>{};
  const Error error{replayed.error().code, 0, path + ": " + replayed.error().detail};
  if (error.code != Errc::corrupt) co_return fail(error);
  damaged(error.detail);
  co_return Result<void>{};
}

void MissedLog::damaged(std::string what) {
  damage_ = std::move(what);
  watermark_ = watermark_max_ = 0;
  in_doubt_from_ = 0;
}

Result<void> MissedLog::replay(std::string_view content) {
  MissedReader reader(content);
  std::vector<PeerNumber> numbers;
  bool clean = false;
  bool complete = false;
  Result<void> done;
  for (;;) {
    MissedEntry entry;
    const Result<MissedReader::Step> step = reader.next(entry);
    if (!step) done = fail(step.error());
    if (!step || *step != MissedReader::Step::entry) break;
    clean = entry.kind == MissedEntryKind::clean;
    complete |= entry.kind == MissedEntryKind::complete;
    if (entry.kind == MissedEntryKind::peer) {
      numbers.push_back(peer(entry.id));
    } else if (entry.peer < numbers.size() || entry.kind >= MissedEntryKind::watermark) {
      apply(entry, numbers);
    } else {
      done = fail(Errc::corrupt,
                  fmt::format("an entry names peer {}, which is not there", entry.peer));
      break;
    }
  }
  if (done && !complete) done = fail(Errc::corrupt, "the state that it begins with has no end");
  for (const auto& peer : peers_) {
    peer->owed.add(peer->walking);
    peer->walking.clear();
  }
  std::erase_if(peers_,
                [](const auto& peer) { return peer->records.empty() && peer->owed.empty(); });
  for (const auto& peer : peers_) update_work(*peer);
  while (record_bytes_ > options_.record_bytes_max) degrade_largest();
  counts_ = {};
  watermark_max_ = watermark_;
  if (!clean && !handoff_test_faults.trust_crashed) in_doubt_from_ = watermark_;
  return done;
}

void MissedLog::apply(const MissedEntry& entry, const std::vector<PeerNumber>& numbers) {
  if (entry.kind == MissedEntryKind::watermark) watermark_ = entry.version.hlc;
  if (entry.kind >= MissedEntryKind::watermark) return;
  Peer& of = at(numbers[entry.peer]);
  switch (entry.kind) {
    case MissedEntryKind::missed:
      set_record(of, entry.slot, entry.key, entry.version);
      break;
    case MissedEntryKind::replayed: {
      const auto record = of.records.find(KeyLess::View(entry.slot, entry.key));
      if (record != of.records.end() && record->second <= entry.version) erase_record(of, record);
      break;
    }
    case MissedEntryKind::owed:
      if (entry.version.hlc != OwedSlots::never) of.owed.add(entry.slot, entry.version.hlc);
      break;
    case MissedEntryKind::walk:
      of.walking.add(of.owed);
      of.owed.clear();
      break;
    case MissedEntryKind::walked:
      of.walking.clear();
      break;
    case MissedEntryKind::forgotten:
      while (!of.records.empty()) erase_record(of, of.records.begin());
      of.owed.clear();
      of.walking.clear();
      break;
    default:
      break;
  }
}

// --- the file ------------------------------------------------------------------------------------

Task<Result<void>> MissedLog::commit() {
  const uint64_t wanted = changed_;
  while (durable_ < wanted) {
    if (writing_) {
      if (!co_await written_.wait()) co_return fail(Errc::cancelled, "stopped before a commit");
      if (durable_ < wanted && attempted_ >= wanted) co_return fail(last_error_);
      continue;
    }
    writing_ = true;
    const Result<void> done = co_await attempt();
    writing_ = false;
    written_.set();
    written_.reset();
    if (!done) co_return done;
  }
  co_return Result<void>{};
}

Task<Result<void>> MissedLog::attempt() {
  attempted_ = changed_;
  const uint64_t attempt = attempted_;
  const uint64_t watermark = watermark_;
  watermark_since_ = 0;
  const bool long_file =
      file_bytes_ > std::max(options_.file_bytes_min, growth_before_roll * snapshot_bytes_);
  Result<void> done;
  if (roll_owed_ || long_file) {
    done = co_await roll();
  } else {
    done = co_await append(std::exchange(pending_, {}));
  }
  if (done) {
    durable_ = attempt;
    watermark_max_ = std::max(watermark, watermark_since_);
  } else {
    // What was to be written is lost to this file. The state has it: the next file begins with it.
    roll_owed_ = true;
    pending_.clear();
    last_error_ = done.error();
    ++counts_.failures;
  }
  co_return done;
}

Task<Result<void>> MissedLog::append(std::string entries) {
  std::string frame;
  append_missed_frame(frame, file_salt_, next_frame_, entries);
  const AlignedBuffer buffer(frame.size());
  std::memcpy(buffer.data(), frame.data(), frame.size());
  const uint16_t flags = handoff_test_faults.skip_sync ? 0 : flag_dsync;
  const Result<void> done =
      co_await file_.write_full(file_bytes_, {buffer.data(), frame.size()}, flags);
  if (!done) co_return done;
  file_bytes_ += frame.size();
  ++next_frame_;
  ++counts_.frames;
  co_return done;
}

// Changes that come while the new file is written are in its first part or not, as it happens. They
// follow in the next frame all the same, and making one again changes nothing.
Task<Result<void>> MissedLog::roll() {
  const std::string temporary = fmt::format("{}/{}", directory_, temporary_name);
  roll_owed_ = false;
  pending_.clear();
  Result<File> file = co_await File::open(
      temporary, flag_read | flag_write | flag_direct | flag_create | flag_truncate);
  if (!file) co_return fail(file.error());
  const uint64_t salt = Reactor::current().random();
  uint64_t bytes = 0;
  uint64_t frames = 0;
  Result<void> done = co_await write_state(*file, salt, bytes, frames);
  if (done && !handoff_test_faults.skip_sync) done = co_await file->sync();
  if (done) {
    done = co_await rename_file(temporary, fmt::format("{}/{}", directory_, file_name));
  }
  if (done) done = co_await sync_directory(directory_);
  if (!done) {
    static_cast<void>(co_await file->close());
    co_return done;
  }
  std::swap(file_, *file);
  file_salt_ = salt;
  file_bytes_ = snapshot_bytes_ = bytes;
  next_frame_ = frames;
  ++counts_.files;
  if (file->is_open()) static_cast<void>(co_await file->close());
  co_return done;
}

namespace {

// Entries that become frames of one file.
struct StateWriter {
  File& file;
  uint64_t salt;
  uint64_t bytes = 0;
  uint64_t frames = 0;
  std::string entries;

  Task<Result<void>> flush(size_t from_bytes) {
    if (entries.size() < from_bytes) co_return Result<void>{};
    std::string frame;
    append_missed_frame(frame, salt, frames, entries);
    entries.clear();
    const AlignedBuffer buffer(frame.size());
    std::memcpy(buffer.data(), frame.data(), frame.size());
    const Result<void> done = co_await file.write_full(bytes, {buffer.data(), frame.size()});
    bytes += frame.size();
    ++frames;
    co_return done;
  }
};

}  // namespace

Task<Result<void>> MissedLog::write_state(File& file, uint64_t salt, uint64_t& bytes,
                                          uint64_t& frames) {
  StateWriter out{.file = file, .salt = salt, .entries = {}};
  append_missed_entry(out.entries,
                      {.kind = MissedEntryKind::watermark, .version = {watermark_, 0}});
  const size_t peer_count = peers_.size();
  for (const auto& peer : peers_) {
    append_missed_entry(out.entries, {.kind = MissedEntryKind::peer, .id = peer->id});
  }
  Result<void> done;
  for (size_t i = 0; done && i < peer_count; ++i) {
    const auto number = static_cast<PeerNumber>(i);
    const auto append_owed = [&](uint32_t slot, uint64_t hlc) {
      append_missed_entry(
          out.entries,
          {.kind = MissedEntryKind::owed, .peer = number, .slot = slot, .version = {hlc, 0}});
    };
    at(number).walking.for_each(append_owed);
    if (!at(number).walking.empty()) {
      append_missed_entry(out.entries, {.kind = MissedEntryKind::walk, .peer = number});
    }
    at(number).owed.for_each(append_owed);
    done = co_await out.flush(state_frame_bytes);
    // Records come and go while a frame is written: the place is kept by its key.
    std::pair<uint32_t, std::string> last;
    for (bool more = !at(number).records.empty(), first = true; done && more; first = false) {
      const Records& records = at(number).records;
      auto record =
          first ? records.begin() : records.upper_bound(KeyLess::View(last.first, last.second));
      for (; record != records.end() && out.entries.size() < state_frame_bytes; ++record) {
        append_missed_entry(out.entries, {.kind = MissedEntryKind::missed,
                                          .peer = number,
                                          .slot = record->first.first,
                                          .key = record->first.second,
                                          .version = record->second});
      }
      if (record != records.begin()) last = std::prev(record)->first;
      more = record != records.end();
      done = co_await out.flush(state_frame_bytes);
    }
  }
  append_missed_entry(out.entries, {.kind = MissedEntryKind::complete});
  if (done) done = co_await out.flush(0);
  bytes = out.bytes;
  frames = out.frames;
  co_return done;
}

Task<Result<void>> MissedLog::close(bool clean) {
  Result<void> done = co_await commit();
  if (done && clean && !in_doubt_from_) {
    std::string entry;
    append_missed_entry(entry, {.kind = MissedEntryKind::clean});
    done = co_await append(std::move(entry));
  }
  if (file_.is_open()) static_cast<void>(co_await file_.close());
  co_return done;
}

}  // namespace gyre::cluster
