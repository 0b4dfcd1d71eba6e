#include "cluster/handoff/missed_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

namespace {

constexpr size_t checksum_offset = 32;

uint64_t checksum(std::string_view header, std::string_view payload) {
  return hash64(payload, hash64(header.substr(0, checksum_offset)));
}

uint64_t aligned(uint64_t bytes) {
  return (bytes + missed_frame_alignment_bytes - 1) / missed_frame_alignment_bytes *
         missed_frame_alignment_bytes;
}

bool has_key(MissedEntryKind kind) {
  return kind == MissedEntryKind::missed || kind == MissedEntryKind::replayed;
}
bool has_peer(MissedEntryKind kind) {
  return kind >= MissedEntryKind::missed && kind <= MissedEntryKind::forgotten;
}

bool parse(Decoder& in, MissedEntry& out) {
  out = {};
  const auto kind = in.fixed<uint8_t>();
  if (kind < static_cast<uint8_t>(MissedEntryKind::peer) ||
      kind > static_cast<uint8_t>(MissedEntryKind::complete)) {
    return false;
  }
  out.kind = static_cast<MissedEntryKind>(kind);
  if (out.kind == MissedEntryKind::peer) {
    const std::string_view id = in.bytes(out.id.size());
    if (in.ok()) std::memcpy(out.id.data(), id.data(), id.size());
  }
  if (has_peer(out.kind)) {
    const uint64_t peer = in.varint();
    if (peer >= no_peer) return false;
    out.peer = static_cast<PeerNumber>(peer);
  }
  if (has_key(out.kind) || out.kind == MissedEntryKind::owed) {
    const uint64_t slot = in.varint();
    if (slot >= slot_count) return false;
    out.slot = static_cast<uint32_t>(slot);
  }
  if (has_key(out.kind)) out.key = in.prefixed();
  if (has_key(out.kind) || out.kind == MissedEntryKind::owed ||
      out.kind == MissedEntryKind::watermark) {
    out.version.hlc = in.fixed<uint64_t>();
  }
  if (has_key(out.kind)) out.version.origin = in.fixed<uint64_t>();
  return in.ok();
}

}  // namespace

void append_missed_entry(std::string& out, const MissedEntry& entry) {
  append_fixed(out, static_cast<uint8_t>(entry.kind));
  if (entry.kind == MissedEntryKind::peer) {
    out.append(reinterpret_cast<const char*>(entry.id.data()), entry.id.size());
  }
  if (has_peer(entry.kind)) append_varint(out, entry.peer);
  if (has_key(entry.kind) || entry.kind == MissedEntryKind::owed) append_varint(out, entry.slot);
  if (has_key(entry.kind)) {
    append_varint(out, entry.key.size());
    out += entry.key;
  }
  if (has_key(entry.kind) || entry.kind == MissedEntryKind::owed ||
      entry.kind == MissedEntryKind::watermark) {
    append_fixed(out, entry.version.hlc);
  }
  if (has_key(entry.kind)) append_fixed(out, entry.version.origin);
}

void append_missed_frame(std::string& out, uint64_t salt, uint64_t number,
                         std::string_view entries) {
  GYRE_ASSERT(entries.size() <= missed_frame_bytes_max);
  std::string header(missed_magic);
  append_fixed(header, missed_format_version);
  append_fixed(header, uint16_t{0});
  append_fixed(header, static_cast<uint32_t>(entries.size()));
  append_fixed(header, uint32_t{0});
  append_fixed(header, salt);
  append_fixed(header, number);
  append_fixed(header, checksum(header, entries));
  const uint64_t end = out.size() + aligned(header.size() + entries.size());
  out += header;
  out += entries;
  out.resize(end, '\0');
}

std::string_view MissedReader::frame_at(uint64_t offset, uint64_t& number, uint64_t& salt) const {
  if (offset > file_.size() || file_.size() - offset < missed_frame_header_bytes) return {};
  const std::string_view header = file_.substr(offset, missed_frame_header_bytes);
  if (!header.starts_with(missed_magic)) return {};
  const auto size = get_fixed<uint32_t>(header.data() + 8);
  if (size > missed_frame_bytes_max || size > file_.size() - offset - header.size()) return {};
  const std::string_view payload = file_.substr(offset + header.size(), size);
  if (get_fixed<uint64_t>(header.data() + checksum_offset) != checksum(header, payload)) return {};
  salt = get_fixed<uint64_t>(header.data() + 16);
  number = get_fixed<uint64_t>(header.data() + 24);
  return payload;
}

bool MissedReader::has_later_frame_behind(uint64_t offset) const {
  uint64_t number = 0;
  uint64_t salt = 0;
  for (offset += missed_frame_alignment_bytes; offset < file_.size();
       offset += missed_frame_alignment_bytes) {
    const std::string_view frame = frame_at(offset, number, salt);
    if (frame.data() != nullptr && salt == salt_ && number > next_frame_) return true;
  }
  return false;
}

Result<MissedReader::Step> MissedReader::next(MissedEntry& out) {
  while (entries_.empty()) {
    const std::string_view rest = file_.substr(std::min<uint64_t>(offset_, file_.size()));
    if (next_frame_ == 0 && rest.size() >= 6 && rest.starts_with(missed_magic) &&
        get_fixed<uint16_t>(rest.data() + 4) > missed_format_version) {
      return fail(Errc::unsupported,
                  fmt::format("at offset {}: format version {}, this program knows {}", offset_,
                              get_fixed<uint16_t>(rest.data() + 4), missed_format_version));
    }
    uint64_t number = 0;
    uint64_t salt = 0;
    const std::string_view frame = frame_at(offset_, number, salt);
    if (frame.data() == nullptr || number != next_frame_ || (number != 0 && salt != salt_)) {
      if (next_frame_ == 0) {
        return fail(Errc::corrupt, "at offset 0: the first frame is damaged");
      }
      if (has_later_frame_behind(offset_)) {
        return fail(Errc::corrupt,
                    fmt::format("at offset {}: frame {} is damaged", offset_, next_frame_));
      }
      const bool zeros =
          std::all_of(rest.begin(), rest.end(), [](char byte) { return byte == '\0'; });
      return zeros ? Step::clean_end : Step::torn_tail;
    }
    salt_ = salt;
    ++next_frame_;
    offset_ += aligned(missed_frame_header_bytes + frame.size());
    entries_ = frame;
  }
  Decoder in(entries_);
  if (!parse(in, out)) {
    return fail(Errc::corrupt, fmt::format("frame {}: an entry makes no sense", next_frame_ - 1));
  }
  entries_.remove_prefix(entries_.size() - in.remaining());
  return Step::entry;
}

}  // namespace gyre::cluster
