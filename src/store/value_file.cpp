#include "store/value_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/hash.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr std::string_view footer_magic = "GyreValu";
constexpr size_t footer_checked_bytes = 40;

}  // namespace

// --- footer --------------------------------------------------------------------------------------

void append_value_footer(std::string& out, const ValueFooter& footer) {
  const size_t start = out.size();
  append_fixed(out, footer.value_count);
  append_fixed(out, footer.content_bytes);
  append_fixed(out, footer.content_hash);
  append_fixed(out, footer.file_number);
  append_fixed(out, footer.format_version);
  append_fixed(out, uint32_t{0});
  append_fixed(out, hash64(std::string_view(out).substr(start), footer.file_number));
  out.append(footer_magic);
  GYRE_ASSERT(out.size() - start == value_footer_bytes);
}

Result<ValueFooter> parse_value_footer(std::string_view tail, uint64_t file_bytes,
                                       uint64_t file_number) {
  const auto bad = [&](std::string_view what) {
    return fail(Errc::corrupt, fmt::format("value file of {} bytes: {}", file_bytes, what));
  };
  if (tail.size() < value_footer_bytes || tail.size() > file_bytes ||
      file_bytes % limits::io_alignment_bytes != 0) {
    return bad("too short, or no multiple of 4096");
  }
  tail.remove_prefix(tail.size() - value_footer_bytes);
  if (tail.substr(48) != footer_magic) return bad("no magic number at its end");
  Decoder in(tail);
  ValueFooter footer;
  footer.value_count = in.fixed<uint64_t>();
  footer.content_bytes = in.fixed<uint64_t>();
  footer.content_hash = in.fixed<uint64_t>();
  footer.file_number = in.fixed<uint64_t>();
  footer.format_version = in.fixed<uint32_t>();
  const auto zero = in.fixed<uint32_t>();
  if (in.fixed<uint64_t>() != hash64(tail.substr(0, footer_checked_bytes), footer.file_number)) {
    return bad("its footer fails its checksum");
  }
  if (footer.format_version == 0 || footer.format_version > value_format_version) {
    return fail(Errc::unsupported,
                fmt::format("value file format version {}, this program knows 1 to {}",
                            footer.format_version, value_format_version));
  }
  if (footer.file_number != file_number) {
    return bad(fmt::format("belongs to file {}, not {}", footer.file_number, file_number));
  }
  const uint64_t room = file_bytes - value_footer_bytes;
  if (zero != 0 || footer.content_bytes > room ||
      room - footer.content_bytes >= limits::io_alignment_bytes) {
    return bad("its footer names another size");
  }
  return footer;
}

// --- handles -------------------------------------------------------------------------------------

std::string encode_block_value(uint64_t file_number, const BlockHandle& handle) {
  std::string out;
  append_varint(out, file_number);
  append_varint(out, handle.offset);
  append_varint(out, handle.stored_bytes);
  append_varint(out, handle.raw_bytes);
  append_fixed(out, static_cast<uint8_t>(handle.codec));
  append_fixed(out, handle.checksum);
  return out;
}

std::string encode_large_value(uint64_t file_number, const LargeHandle& handle) {
  std::string out;
  append_varint(out, file_number);
  return out + handle.encode();
}

Result<uint64_t> take_value_file_number(std::string_view& encoded) {
  uint64_t number = 0;
  const char* const end = encoded.data() + encoded.size();
  const char* const rest = get_varint(encoded.data(), end, number);
  if (rest == nullptr || number == 0) {
    return fail(Errc::corrupt,
                fmt::format("malformed handle of a separate value ({} bytes)", encoded.size()));
  }
  encoded.remove_prefix(static_cast<size_t>(rest - encoded.data()));
  return number;
}

Result<BlockHandle> decode_block_value(std::string_view encoded, uint64_t limit) {
  Decoder in(encoded);
  BlockHandle handle;
  handle.offset = in.varint();
  const uint64_t stored_bytes = in.varint();
  const uint64_t raw_bytes = in.varint();
  const auto codec = in.fixed<uint8_t>();
  handle.checksum = in.fixed<uint64_t>();
  constexpr uint64_t size_max = limits::table_block_value_bytes_max;
  if (!in.ok() || in.remaining() != 0 || stored_bytes > size_max || raw_bytes > size_max ||
      !is_known_codec(codec)) {
    return fail(Errc::corrupt,
                fmt::format("malformed handle of a separate value ({} bytes)", encoded.size()));
  }
  handle.stored_bytes = static_cast<uint32_t>(stored_bytes);
  handle.raw_bytes = static_cast<uint32_t>(raw_bytes);
  handle.codec = static_cast<Codec>(codec);
  if (!is_plausible(handle, limit)) {
    return fail(Errc::corrupt, fmt::format("separate value at offset {} ({} bytes) passes offset "
                                           "{}, or its sizes contradict each other",
                                           handle.offset, handle.stored_bytes, limit));
  }
  return handle;
}

Result<SeparateValue> separate_value(const Entry& entry) {
  GYRE_ASSERT(is_separate(entry.kind));
  std::string_view rest = entry.value;
  const Result<uint64_t> number = take_value_file_number(rest);
  if (!number) return fail(number.error());
  if (entry.kind == Kind::separate_large) {
    const Result<LargeHandle> handle = LargeHandle::decode(rest, ~uint64_t{0});
    if (!handle) return fail(handle.error());
    return SeparateValue{*number, handle->size_bytes, handle->size_bytes + handle->list_bytes(),
                         handle->list_offset() + handle->list_bytes()};
  }
  const Result<BlockHandle> handle = decode_block_value(rest, ~uint64_t{0});
  if (!handle) return fail(handle.error());
  return SeparateValue{*number, handle->raw_bytes, handle->stored_bytes, handle->end()};
}

// --- the file ------------------------------------------------------------------------------------

ValueFile::ValueFile(TableHost& host, File file, const ValueFooter& footer, uint64_t file_bytes)
    : BlockFile(host, std::move(file), FileKind::values, footer.file_number, file_bytes),
      footer_(footer) {
  set_data_end(footer.content_bytes);
  host.value_files_[file_number()] = this;
}

ValueFile::~ValueFile() {
  host().value_files_.erase(file_number());
}

namespace {

struct OpenedValues {
  File file;
  ValueFooter footer;
  uint64_t file_bytes = 0;
};

Task<Result<OpenedValues>> open_values(std::string path, ValueReference reference,
                                       std::string named_by) {
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) {
    co_return fail(missing_file(
        path, fmt::format("{} names {} values of it", named_by, reference.value_count)));
  }
  const uint64_t file_bytes = status->size_bytes;
  if (file_bytes < reference.end_offset) {
    co_return fail(short_file(
        path, file_bytes, fmt::format("{} names values up to {}", named_by, reference.end_offset)));
  }
  Result<File> file = co_await File::open(path, flag_read | flag_direct);
  if (!file) co_return fail(file.error());
  constexpr size_t tail_bytes = limits::io_alignment_bytes;
  AlignedBuffer tail(tail_bytes);
  const uint64_t begin = file_bytes < tail_bytes ? 0 : io_align_down(file_bytes - tail_bytes);
  const Result<size_t> got = co_await file->read_full(begin, {tail.data(), tail_bytes});
  Result<ValueFooter> footer = fail(Errc::io);
  if (got) {
    footer = parse_value_footer({tail.data(), *got}, file_bytes, reference.file_number);
  } else {
    footer = fail(got.error());
  }
  if (footer && footer->content_bytes < reference.end_offset) {
    footer =
        fail(Errc::corrupt, fmt::format("{} names values up to {}, but it has {} bytes of them",
                                        named_by, reference.end_offset, footer->content_bytes));
  }
  if (!footer) {
    static_cast<void>(co_await file->close());
    co_return fail(error_at(path, footer.error()));
  }
  co_return OpenedValues{std::move(*file), *footer, file_bytes};
}

}  // namespace

Task<Result<ValueFileRef>> ValueFile::open(TableHost& host, ValueReference reference,
                                           std::string named_by) {
  ValueFileRef known = host.open_value_file(reference.file_number);
  if (!known) {
    Result<OpenedValues> opened =
        co_await open_values(join_path(host.directory(), value_file_name(reference.file_number)),
                             reference, std::move(named_by));
    if (!opened) co_return fail(opened.error());
    known = host.open_value_file(reference.file_number);  // somebody else may have been quicker
    if (known) {
      static_cast<void>(co_await opened->file.close());
      co_return known;
    }
    known = ValueFileRef(
        new ValueFile(host, std::move(opened->file), opened->footer, opened->file_bytes));
  }
  if (known->content_bytes() < reference.end_offset) {
    co_return fail(known->in_file(
        Error::of(Errc::corrupt,
                  fmt::format("{} names values up to {}", named_by, reference.end_offset)),
        known->content_bytes()));
  }
  co_return known;
}

// --- what is live --------------------------------------------------------------------------------

void ValueFile::count(int64_t sign) {
  ValueFileTotals& all = host().value_totals_;
  const auto move = [sign](uint64_t& total, uint64_t by) {
    total += static_cast<uint64_t>(sign) * by;
  };
  if (tables_ == 0) return;
  move(all.files, 1);
  move(all.bytes, footer_.content_bytes);
  move(all.live_bytes, live_bytes_);
  if (!is_sparse()) return;
  move(all.sparse_files, 1);
  move(all.sparse_live_bytes, live_bytes_);
}

void ValueFile::add(const ValueReference& reference) {
  count(-1);
  ++tables_;
  live_bytes_ += reference.value_bytes;
  count(1);
}

void ValueFile::remove(const ValueReference& reference) {
  GYRE_ASSERT(tables_ != 0 && live_bytes_ >= reference.value_bytes);
  count(-1);
  --tables_;
  live_bytes_ -= reference.value_bytes;
  count(1);
  if (tables_ == 0 || store_test_faults.drop_values_early) mark_obsolete();
}

}  // namespace gyre
