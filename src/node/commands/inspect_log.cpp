// Log segments under `gyre inspect`: the frames of one segment as recovery would read them, and
// what the promises say about its end (log_reader.hpp has the rules). The segments beside it are
// looked at for where the next one begins and what it promises.
#include <fmt/format.h>

#include <algorithm>

#include <gyre/time.hpp>

#include "base/coding.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"
#include "store/data_directory.hpp"
#include "store/log_format.hpp"
#include "store/write_record.hpp"

namespace gyre {

namespace {

constexpr uint64_t step_bytes = limits::io_alignment_bytes;

class LogInspection {
 public:
  LogInspection(InspectedFile& in, uint64_t salt) : in_(in), salt_(salt) {}

  Task<Result<void>> run();

 private:
  Task<Result<bool>> find_base();
  Task<Result<void>> look_at_neighbours();
  Task<Result<bool>> frame();
  void take_entries(const FrameHeader& header, std::string_view payload);
  void print_frame(const FrameHeader& header);
  void print_entry(const LogEntry& entry);
  Task<Result<void>> look_behind_the_end(bool begun);
  void summarize();

  InspectedFile& in_;
  uint64_t salt_;
  uint64_t id_ = 0;
  uint64_t base_ = 0;
  uint64_t next_base_ = UINT64_MAX;  // of the segments behind
  uint64_t next_promise_ = 0;        // the greatest in their first frames
  bool given_up_ = false;
  uint64_t offset_ = 0;
  FrameHeader last_;
  uint64_t frames_ = 0;
  uint64_t frame_bytes_ = 0;
  uint64_t payload_bytes_ = 0;
  uint64_t entries_[5] = {};  // by LogEntryType
  uint64_t values_ = 0;
  uint64_t tombstones_ = 0;
  uint64_t seq_first_ = 0;
  uint64_t seq_last_ = 0;
};

// The segment's first header says where the segment begins. False if there is none.
Task<Result<bool>> LogInspection::find_base() {
  Result<std::string> head = co_await in_.read(0, std::min(in_.size_bytes, step_bytes));
  if (!head) co_return fail(head.error());
  FrameHeader header;
  const bool whole = decode_frame_header(*head, salt_, header);
  if (whole && header.format_version != log_format_version) {
    co_return fail(Errc::unsupported,
                   fmt::format("{} has log format {}, this program reads {}: use a newer gyre",
                               in_.path, header.format_version, log_format_version));
  }
  id_ = in_.name.kind == FileKind::log ? in_.name.number : header.segment_id;
  in_.print("segment", std::to_string(id_));
  in_.print("size", fmt::format("{} bytes", format_number(in_.size_bytes)));
  if (whole && header.segment_id == id_) {
    base_ = header.position;
    in_.print("begins at", fmt::format("position {}", base_));
    co_return true;
  }
  if (whole) {
    in_.print("frames", fmt::format("none yet: the file was segment {} before", header.segment_id));
  } else if (head->find_first_not_of('\0') == std::string::npos) {
    in_.print("frames", "none yet");
  } else {
    in_.print("frames", "none: it begins with something else than a whole frame");
  }
  co_return false;
}

Task<Result<void>> LogInspection::look_at_neighbours() {
  Result<std::vector<DirEntry>> entries = co_await list_directory(in_.directory);
  if (!entries) co_return fail(entries.error());
  for (const DirEntry& entry : *entries) {
    const FileName name = parse_file_name(entry.name);
    if (entry.is_directory || name.kind != FileKind::log || name.number <= id_) continue;
    Result<File> file = co_await File::open(join_path(in_.directory, entry.name), flag_read);
    if (!file) continue;  // recycled at this moment
    char head[step_bytes];
    Result<size_t> size = co_await file->read_full(0, head);
    static_cast<void>(co_await file->close());
    FrameHeader header;
    if (!size || !decode_frame_header({head, *size}, salt_, header) ||
        header.segment_id != name.number) {
      continue;
    }
    if (header.position <= base_) given_up_ = true;
    next_base_ = std::min(next_base_, header.position);
    next_promise_ = std::max(next_promise_, header.synced_position);
  }
  co_return Result<void>{};
}

// Reads the frame at offset_ if it is good.
Task<Result<bool>> LogInspection::frame() {
  const uint64_t position = base_ + offset_;
  if (offset_ + log_header_bytes > in_.size_bytes || position >= next_base_) co_return false;
  Result<std::string> head =
      co_await in_.read(offset_, std::min(step_bytes, in_.size_bytes - offset_));
  if (!head) co_return fail(head.error());
  FrameHeader header;
  if (!decode_frame_header(*head, salt_, header)) co_return false;
  const uint64_t size = padded_frame_bytes(header.payload_bytes);
  if (header.format_version != log_format_version || header.segment_id != id_ ||
      header.position != position || (frames_ > 0 && header.frame_seq != last_.frame_seq + 1) ||
      size > in_.size_bytes - offset_ || size > next_base_ - position) {
    co_return false;
  }
  std::string payload = head->substr(log_header_bytes, header.payload_bytes);
  if (payload.size() < header.payload_bytes) {
    Result<std::string> rest =
        co_await in_.read(offset_ + head->size(), header.payload_bytes - payload.size());
    if (!rest) co_return fail(rest.error());
    payload += *rest;
  }
  if (payload.size() != header.payload_bytes ||
      frame_payload_hash(payload, salt_) != header.payload_hash) {
    co_return false;
  }
  if (in_.records) print_frame(header);
  take_entries(header, payload);
  last_ = header;
  ++frames_;
  frame_bytes_ += size;
  payload_bytes_ += header.payload_bytes;
  offset_ += size;
  co_return true;
}

void LogInspection::take_entries(const FrameHeader& header, std::string_view payload) {
  Decoder decoder(payload);
  for (uint32_t i = 0; i < header.entries; ++i) {
    LogEntry entry;
    if (!decode_entry(decoder, header.first_seq, entry)) {
      in_.damaged(offset_, fmt::format("entry {} of the frame makes no sense", i));
      return;
    }
    ++entries_[static_cast<size_t>(entry.type)];
    if (entry.type == LogEntryType::whole || entry.type == LogEntryType::first) {
      ++(entry.kind == Kind::tombstone ? tombstones_ : values_);
    }
    if (entry.type == LogEntryType::whole || entry.type == LogEntryType::last) {
      if (seq_first_ == 0) seq_first_ = entry.seq;
      seq_last_ = entry.seq;
    }
    if (in_.records) print_entry(entry);
  }
  if (decoder.remaining() != 0) in_.damaged(offset_, "the frame holds more than its entries");
}

// Behind the end only promises count: they tell a crash in mid-write from lost bytes.
Task<Result<void>> LogInspection::look_behind_the_end(bool begun) {
  uint64_t end = base_ + offset_;
  if (end >= next_base_) co_return Result<void>{};  // the log goes on in the next segment
  if (begun && next_promise_ > end) {
    in_.damaged(offset_, fmt::format("the frame at position {} is damaged or missing, but a later "
                                     "segment says that everything before position {} was durable",
                                     end, next_promise_));
    co_return Result<void>{};
  }
  for (uint64_t at = offset_ + step_bytes; at + log_header_bytes <= in_.size_bytes;
       at += step_bytes) {
    Result<std::string> head = co_await in_.read(at, log_header_bytes);
    if (!head) co_return fail(head.error());
    FrameHeader header;
    if (!decode_frame_header(*head, salt_, header) || header.segment_id != id_) continue;
    if (!begun) end = header.position - at;  // the first frame is what is missing
    if (header.synced_position > end) {
      in_.damaged(offset_, fmt::format("the frame at position {} is damaged, but the frame at "
                                       "offset {} says that everything before position {} was "
                                       "durable",
                                       end, at, header.synced_position));
      break;
    }
    co_await maybe_yield();
  }
  co_return Result<void>{};
}

Task<Result<void>> LogInspection::run() {
  in_.report->text += fmt::format("log segment {}\n", in_.path);
  Result<bool> begun = co_await find_base();
  if (!begun) co_return fail(begun.error());
  if (*begun) {
    if (Result<void> looked = co_await look_at_neighbours(); !looked) co_return looked;
  }
  if (given_up_) {
    in_.print("given up",
              "an earlier recovery went on at or before its beginning: nothing in it "
              "is read any more");
  }
  while (*begun) {
    Result<bool> more = co_await frame();
    if (!more) co_return fail(more.error());
    if (!*more) break;
    if (Result<void> done = co_await in_.report->flush_if_long(); !done) co_return done;
    co_await maybe_yield();
  }
  if (!given_up_) {
    if (Result<void> looked = co_await look_behind_the_end(*begun); !looked) co_return looked;
  }
  if (*begun) summarize();
  co_return Result<void>{};
}

// --- text ---------------------------------------------------------------------------------------

void LogInspection::print_frame(const FrameHeader& header) {
  in_.report->text +=
      fmt::format("    frame {} at offset {}, position {}: {} entries, {} bytes, promises {}{}\n",
                  header.frame_seq, offset_, header.position, header.entries, header.payload_bytes,
                  header.synced_position, header.reopened() ? ", reopened here" : "");
}

void LogInspection::print_entry(const LogEntry& entry) {
  std::string line = "      ";
  switch (entry.type) {
    case LogEntryType::whole:
      line += fmt::format("seq {}", entry.seq);
      break;
    case LogEntryType::first:
      line += fmt::format("record {} begins", entry.record_id);
      break;
    case LogEntryType::middle:
      line += fmt::format("record {} goes on, {} bytes", entry.record_id, entry.part.size());
      break;
    case LogEntryType::last:
      line += fmt::format("record {} ends as seq {}", entry.record_id, entry.seq);
      break;
  }
  if (entry.type == LogEntryType::whole || entry.type == LogEntryType::first) {
    line += "  " + printable(entry.part.substr(0, entry.key_bytes));
    line += entry.kind == Kind::tombstone
                ? std::string("  tombstone")
                : fmt::format("  value of {} bytes", format_number(entry.value_bytes));
    line += "  " + format_version(entry.version);
    if (entry.expire_at_ms != 0) line += "  expires " + format_time_ms(entry.expire_at_ms);
  }
  in_.report->text += line + "\n";
}

void LogInspection::summarize() {
  in_.print("frames", fmt::format("{}, {} with padding, {} of payload", format_number(frames_),
                                  format_bytes(frame_bytes_), format_bytes(payload_bytes_)));
  in_.print("entries", fmt::format("{} whole records, {} in parts ({} begun, {} ended here)",
                                   format_number(entries_[1]),
                                   format_number(entries_[2] + entries_[3] + entries_[4]),
                                   format_number(entries_[2]), format_number(entries_[4])));
  in_.print("writes", fmt::format("{} values, {} tombstones", format_number(values_),
                                  format_number(tombstones_)));
  if (seq_last_ != 0) in_.print("sequence", fmt::format("{} to {}", seq_first_, seq_last_));
  if (frames_ > 0) {
    in_.print("last promise",
              fmt::format("everything before position {} is durable", last_.synced_position));
  }
  const uint64_t end = base_ + offset_;
  in_.print("ends at", fmt::format("offset {}, position {}{}", offset_, end,
                                   end >= next_base_ ? ", where the next segment begins" : ""));
}

std::string parent_of(const std::string& directory) {
  const size_t slash = directory.rfind('/');
  const std::string name = directory.substr(slash + 1);  // all of it where there is no slash
  if (name.empty() || name == "." || name == "..") return directory + "/..";
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : directory.substr(0, slash);
}

// The salt of the log whose shard directory this is.
Task<Result<uint64_t>> find_salt(const InspectedFile& in) {
  constexpr std::string_view prefix = "shard-";
  const std::string where = parent_of(in.directory);
  const std::string shard = in.directory.substr(in.directory.rfind('/') + 1);
  Result<DataDirectory> directory = co_await DataDirectory::read(where);
  if (!directory) {
    co_return fail(
        directory.error().code,
        fmt::format("{} can't be checked: a log's checksums are salted with the identity "
                    "of its data directory, and {}/GYRE can't be used ({}). Inspect the "
                    "segment where it lies, in shard-NNN of its data directory",
                    in.path, where, directory.error().message()));
  }
  uint32_t number = 0;
  const bool named = shard.starts_with(prefix);
  for (char c : named ? std::string_view(shard).substr(prefix.size()) : std::string_view()) {
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  if (named && directory->shard_path(number).ends_with("/" + shard)) {
    co_return directory->log_salt(number);
  }
  // Inside the shard's directory its name is not in the path: the right salt is the one that fits.
  Result<std::string> head = co_await in.read(0, std::min(in.size_bytes, step_bytes));
  if (!head) co_return fail(head.error());
  for (uint32_t shard_index = 0; shard_index < directory->shard_count(); ++shard_index) {
    FrameHeader header;
    if (decode_frame_header(*head, directory->log_salt(shard_index), header)) {
      co_return directory->log_salt(shard_index);
    }
  }
  co_return directory->log_salt(0);
}

}  // namespace

Task<Result<void>> inspect_log(InspectedFile& in) {
  Result<uint64_t> salt = co_await find_salt(in);
  if (!salt) co_return fail(salt.error());
  LogInspection inspection(in, *salt);
  co_return co_await inspection.run();
}

}  // namespace gyre
