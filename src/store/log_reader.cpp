#include "store/log_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/assert.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {
constexpr uint64_t step_bytes = limits::io_alignment_bytes;
constexpr size_t none = std::numeric_limits<size_t>::max();
}  // namespace

LogReader::LogReader(const LogReaderOptions& options) : options_(options) {
  GYRE_ASSERT(options.window_bytes >= step_bytes && options.window_bytes % step_bytes == 0);
}

// --- the chain ---------------------------------------------------------------------------------

Result<void> LogReader::add_segment(uint64_t id, uint64_t size_bytes, std::string_view head,
                                    std::string name) {
  GYRE_ASSERT(state_ == State::start);
  GYRE_ASSERT(head.size() == std::min(size_bytes, step_bytes));
  if (!segments_.empty() && id <= segments_.back().id) {
    return fail(Errc::invalid, fmt::format("{}: log segment ids must ascend", name));
  }
  Segment segment{id, size_bytes, std::move(name)};
  FrameHeader header;
  if (decode_frame_header(head, options_.salt, header) && header.segment_id == id) {
    segment.base = header.position;
    segment.has_base = true;
  }
  segments_.push_back(std::move(segment));
  if (segments_.back().has_base && header.format_version != log_format_version) {
    return unsupported(header, segments_.size() - 1, 0);
  }
  return {};
}

// Rule 1, from the last segment to the first.
void LogReader::link() {
  uint64_t later_base = std::numeric_limits<uint64_t>::max();
  for (size_t i = segments_.size(); i-- > 0;) {
    Segment& segment = segments_[i];
    if (!segment.has_base || segment.base >= later_base) continue;
    if (later_base <= options_.start_position) break;
    segment.in_chain = true;
    later_base = segment.base;
  }
  if (!segments_.empty()) end_.segment_id_next = segments_.back().id + 1;
  end_.position = options_.start_position;

  const size_t first = next_in_chain(none);
  if (first != none && segments_[first].base <= options_.start_position) {
    enter(first);
    return;
  }
  // The beginning is missing: nothing can be read, and promises say whether that matters.
  for (Segment& segment : segments_) segment.in_chain = false;
  stop(false);
}

size_t LogReader::next_in_chain(size_t segment) const {
  for (size_t i = segment == none ? 0 : segment + 1; i < segments_.size(); ++i) {
    if (segments_[i].in_chain) return i;
  }
  return none;
}

void LogReader::enter(size_t segment) {
  const size_t after = next_in_chain(segment);
  current_ = segment;
  limit_ = after == none ? std::numeric_limits<uint64_t>::max() : segments_[after].base;
  offset_ = 0;
  state_ = State::reading;
}

// --- frames ------------------------------------------------------------------------------------

std::string_view LogReader::window_at(uint64_t offset) const {
  if (window_segment_ != current_ || offset < window_offset_) return {};
  const uint64_t skip = offset - window_offset_;
  return skip >= window_.size() ? std::string_view() : window_.substr(skip);
}

LogReader::Step LogReader::ask(uint64_t offset, size_t size_bytes) {
  const uint64_t left = segments_[current_].size_bytes - offset;
  const size_t size = std::max(size_bytes, options_.window_bytes);
  want_ = {current_, offset, static_cast<size_t>(std::min<uint64_t>(size, left))};
  return Step::yield_want;
}

void LogReader::supply(std::string_view bytes) {
  GYRE_ASSERT(bytes.size() >= want_.size_bytes);
  window_ = bytes;
  window_segment_ = want_.segment;
  window_offset_ = want_.offset_bytes;
}

bool LogReader::follows(const FrameHeader& header) const {
  if (header.position != segments_[current_].base + offset_) return false;
  if (!first_frame_ && header.frame_seq != frame_seq_ + 1) return false;
  return header.position + padded_frame_bytes(header.payload_bytes) <= limit_;
}

Result<LogReader::Step> LogReader::read_frame() {
  const Segment& segment = segments_[current_];
  if (segment.base + offset_ >= options_.stop_position) {
    drop_assemblies();
    state_ = State::finished;
    return Step::yield_end;
  }
  if (segment.base + offset_ == limit_) {
    enter(next_in_chain(current_));
    return Step::again;
  }
  if (offset_ >= segment.size_bytes) {
    stop(false);
    return Step::again;
  }
  const uint64_t left = segment.size_bytes - offset_;
  const std::string_view at = window_at(offset_);
  if (at.size() < std::min(left, step_bytes)) return ask(offset_, step_bytes);

  FrameHeader header;
  const bool whole = decode_frame_header(at, options_.salt, header);
  const bool ours = whole && header.segment_id == segment.id;
  if (ours && header.format_version != log_format_version) {
    return unsupported(header, current_, offset_);
  }
  if (!ours || !follows(header)) {
    stop(ours);
    return Step::again;
  }
  const size_t frame_bytes = log_header_bytes + header.payload_bytes;
  if (frame_bytes > left) {
    stop(true);
    return Step::again;
  }
  if (at.size() < frame_bytes) return ask(offset_, padded_frame_bytes(header.payload_bytes));
  const std::string_view payload = at.substr(log_header_bytes, header.payload_bytes);
  if (frame_payload_hash(payload, options_.salt) != header.payload_hash) {
    stop(true);
    return Step::again;
  }
  if (auto opened = open_frame(header, payload); !opened) return fail(std::move(opened.error()));
  return Step::again;
}

Result<void> LogReader::open_frame(const FrameHeader& header, std::string_view payload) {
  if (header.first_seq < seq_min_) return corrupt("a frame's first seq goes back", offset_);
  if (header.reopened()) drop_assemblies();
  header_ = header;
  payload_ = Decoder(payload);
  entries_left_ = header.entries;
  seq_min_ = header.first_seq;
  frame_seq_ = header.frame_seq;
  first_frame_ = false;
  ++end_.frames;
  state_ = State::in_frame;
  return {};
}

// --- entries -----------------------------------------------------------------------------------

Result<LogReader::Step> LogReader::read_entry() {
  if (entries_left_ == 0) {
    if (payload_.remaining() != 0) return corrupt("a frame holds more than its entries", offset_);
    offset_ += padded_frame_bytes(header_.payload_bytes);
    end_.position = std::max(end_.position, segments_[current_].base + offset_);
    state_ = State::reading;
    return Step::again;
  }
  LogEntry entry;
  if (!decode_entry(payload_, header_.first_seq, entry))
    return corrupt("an entry is malformed", offset_);
  --entries_left_;
  if (entry.type == LogEntryType::whole || entry.type == LogEntryType::last) {
    if (entry.seq < seq_min_) return corrupt("a record's seq goes back", offset_);
    seq_min_ = entry.seq + 1;
    ++end_.records;
  }
  if (entry.type == LogEntryType::whole || entry.type == LogEntryType::first) {
    end_.version_max = std::max(end_.version_max, entry.version);
  }
  switch (entry.type) {
    case LogEntryType::whole:
      return yield(entry);
    case LogEntryType::first:
      return begin_assembly(entry);
    case LogEntryType::middle:
    case LogEntryType::last:
      return extend_assembly(entry);
  }
  return corrupt("an entry has no type", offset_);
}

LogReader::Step LogReader::yield(const LogEntry& entry) {
  if (entry.seq <= options_.skip_through_seq) return Step::again;
  record_.seq = entry.seq;
  record_.kind = entry.kind;
  record_.version = entry.version;
  record_.expire_at_ms = entry.expire_at_ms;
  record_.key = entry.part.substr(0, entry.key_bytes);
  record_.assembled = false;
  record_.value = entry.part.substr(entry.key_bytes);
  record_.value_buffer.clear();
  record_.position = header_.position;
  return Step::yield_record;
}

Result<LogReader::Step> LogReader::begin_assembly(const LogEntry& entry) {
  for (const Assembly& other : assemblies_) {
    if (other.record_id == entry.record_id) return corrupt("a record begins twice", offset_);
  }
  if (assemblies_.size() >= log_unfinished_records_max)
    return corrupt("too many records are unfinished", offset_);
  assemblies_.push_back({entry.record_id,
                         entry.kind,
                         entry.version,
                         entry.expire_at_ms,
                         entry.key_bytes,
                         entry.value_bytes,
                         {},
                         {}});
  return extend_assembly(entry);
}

Result<LogReader::Step> LogReader::extend_assembly(const LogEntry& entry) {
  const auto found = std::find_if(assemblies_.begin(), assemblies_.end(), [&](const Assembly& a) {
    return a.record_id == entry.record_id;
  });
  if (found == assemblies_.end()) {
    // It began before the first segment that is still there, and is in a table already.
    if (entry.type == LogEntryType::middle || entry.seq <= options_.skip_through_seq)
      return Step::again;
    return corrupt("the beginning of a record is missing", offset_);
  }
  Assembly& assembly = *found;
  if (entry.part.size() > assembly.body_bytes() - assembly.bytes()) {
    return corrupt("a record is longer than it said", offset_);
  }
  if (options_.check_only) {
    assembly.checked_bytes += entry.part.size();
    if (entry.type != LogEntryType::last) return Step::again;
    if (assembly.bytes() != assembly.body_bytes())
      return corrupt("a record is shorter than it said", offset_);
    assemblies_.erase(found);
    return Step::again;
  }
  assembly_bytes_ += entry.part.size();
  if (assembly_bytes_ > options_.assembly_bytes_max) {
    return fail(
        Errc::overloaded,
        fmt::format("{}: at offset {} unfinished records take more than {} bytes; give the node as "
                    "much memory as it had when it wrote them",
                    segments_[current_].name, offset_, options_.assembly_bytes_max));
  }
  const size_t to_key =
      std::min(entry.part.size(), static_cast<size_t>(assembly.key_bytes) - assembly.key.size());
  assembly.key.append(entry.part.substr(0, to_key));
  assembly.value.append(entry.part.substr(to_key));
  if (entry.type != LogEntryType::last) return Step::again;

  if (assembly.bytes() != assembly.body_bytes())
    return corrupt("a record is shorter than it said", offset_);
  assembly_bytes_ -= assembly.bytes();
  record_key_ = std::move(assembly.key);
  record_ = {entry.seq,
             assembly.kind,
             assembly.version,
             assembly.expire_at_ms,
             record_key_,
             true,
             {},
             std::move(assembly.value),
             header_.position};
  assemblies_.erase(found);
  return entry.seq <= options_.skip_through_seq ? Step::again : Step::yield_record;
}

void LogReader::drop_assemblies() {
  end_.unfinished += assemblies_.size();
  assemblies_.clear();
  assembly_bytes_ = 0;
}

// --- behind the end ----------------------------------------------------------------------------

void LogReader::stop(bool torn) {
  if (store_test_faults.read_behind_gap && state_ == State::reading &&
      offset_ + step_bytes < segments_[current_].size_bytes) {
    offset_ += step_bytes;
    first_frame_ = true;
    return;
  }
  end_.torn = torn;
  end_segment_ = current_;
  end_offset_ = offset_;
  drop_assemblies();
  offset_ += step_bytes;
  if (next_in_chain(none) == none) offset_ = 0;  // nothing was read: look at everything
  state_ = State::scanning;
}

Result<LogReader::Step> LogReader::scan() {
  for (;;) {
    if (current_ >= segments_.size()) return finish();
    if (offset_ >= segments_[current_].size_bytes) {
      ++current_;
      offset_ = 0;
      continue;
    }
    const std::string_view at = window_at(offset_);
    const uint64_t left = segments_[current_].size_bytes - offset_;
    if (at.size() < std::min<uint64_t>(left, log_header_bytes)) return ask(offset_, step_bytes);
    FrameHeader header;
    if (decode_frame_header(at, options_.salt, header) &&
        header.segment_id == segments_[current_].id) {
      if (header.format_version != log_format_version)
        return unsupported(header, current_, offset_);
      if (auto judged = judge(header); !judged) return fail(std::move(judged.error()));
    }
    offset_ += step_bytes;
  }
}

// Rule 3 for one header behind the end.
Result<void> LogReader::judge(const FrameHeader& header) {
  uint64_t not_read = end_.position;
  if (current_ != end_segment_ || next_in_chain(none) == none) {
    const Segment& segment = segments_[current_];
    if (!segment.has_base && header.position < offset_) return {};
    const uint64_t base = segment.has_base ? segment.base : header.position - offset_;
    not_read = std::min(not_read, std::max(base, options_.start_position));
  }
  if (header.synced_position <= not_read || store_test_faults.ignore_promises) return {};

  const Segment& bad = segments_[end_segment_];
  return fail(
      Errc::corrupt,
      fmt::format("{}: the log frame at offset {} (position {}) is damaged or missing, but {} says "
                  "at offset {} "
                  "that everything before position {} was durable: acknowledged writes are lost",
                  bad.name, end_offset_, not_read, segments_[current_].name, offset_,
                  header.synced_position));
}

Result<LogReader::Step> LogReader::finish() {
  if (end_.position < options_.promised_position && !store_test_faults.ignore_promises) {
    return fail(
        Errc::corrupt,
        fmt::format(
            "{}: the log ends at offset {} (position {}), but the manifest says that everything "
            "before position {} was durable: acknowledged writes are lost",
            segments_.empty() ? "log" : segments_[end_segment_].name, end_offset_, end_.position,
            options_.promised_position));
  }
  end_.frame_seq_next = frame_seq_ + 1;
  end_.seq_next = std::max({end_.seq_next, seq_min_, options_.skip_through_seq + 1});
  state_ = State::finished;
  return Step::yield_end;
}

unexpected<Error> LogReader::unsupported(const FrameHeader& header, size_t segment,
                                         uint64_t offset) const {
  return fail(
      Errc::unsupported,
      fmt::format("{}: the log frame at offset {} has format version {}, this program reads {}",
                  segments_[segment].name, offset, header.format_version, log_format_version));
}

unexpected<Error> LogReader::corrupt(std::string_view what, uint64_t offset) const {
  return fail(Errc::corrupt, fmt::format("{}: log frame at offset {}: its checksum holds, but {}",
                                         segments_[current_].name, offset, what));
}

// --- the loop ----------------------------------------------------------------------------------

Result<LogReader::Event> LogReader::next() {
  for (;;) {
    Result<Step> step = Step::again;
    switch (state_) {
      case State::start:
        link();
        break;
      case State::reading:
        step = read_frame();
        break;
      case State::in_frame:
        step = read_entry();
        break;
      case State::scanning:
        step = scan();
        break;
      case State::finished:
        step = Step::yield_end;
        break;
      case State::failed:
        GYRE_ASSERT(!"next() after an error");
        break;
    }
    if (!step) {
      state_ = State::failed;
      return fail(std::move(step.error()));
    }
    switch (*step) {
      case Step::again:
        break;
      case Step::yield_want:
        return Event::want;
      case Step::yield_record:
        return Event::record;
      case Step::yield_end:
        return Event::end;
    }
  }
}

}  // namespace gyre
