#include "store/table_format.hpp"

#include <fmt/format.h>
#include <lz4.h>

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/hash.hpp"
#include "base/limits.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr std::string_view footer_magic = "GyreTabl";
constexpr size_t footer_checked_bytes = 72;
constexpr uint8_t checksum_type_xxh3 = 1;
constexpr uint64_t u32_max = 0xffffffff;

}  // namespace

// --- blocks --------------------------------------------------------------------------------------

TableOptions TableOptions::at_level(unsigned level) const {
  TableOptions out = *this;
  const bool is_upper = level + 1 < limits::table_level_count;
  if (is_upper && bloom_bits_per_key != 0) {
    out.bloom_bits_per_key = std::max(bloom_bits_per_key, bloom_bits_per_key_upper);
  }
  return out;
}

bool is_plausible(const BlockHandle& handle, uint64_t limit) {
  if (handle.raw_bytes == 0 || handle.stored_bytes == 0) return false;
  if (handle.offset > limit || handle.stored_bytes > limit - handle.offset) return false;
  if (handle.codec == Codec::none) return handle.stored_bytes == handle.raw_bytes;
  return handle.codec == Codec::lz4 && handle.stored_bytes < handle.raw_bytes;
}

std::string_view encode_block(std::string_view raw, Codec codec, std::string& scratch,
                              BlockHandle& handle) {
  GYRE_ASSERT(raw.size() <= u32_max);
  std::string_view stored = raw;
  handle.codec = Codec::none;
  if (codec == Codec::lz4 && raw.size() <= LZ4_MAX_INPUT_SIZE) {
    // Room for exactly the size that is worth it: the compressor gives up as soon as it is full.
    const size_t room = raw.size() - (raw.size() + 7) / 8;
    if (scratch.size() < room) scratch.resize(room);
    const int size = LZ4_compress_default(raw.data(), scratch.data(), static_cast<int>(raw.size()),
                                          static_cast<int>(room));
    if (size > 0) {
      stored = {scratch.data(), static_cast<size_t>(size)};
      handle.codec = Codec::lz4;
    }
  }
  handle.raw_bytes = static_cast<uint32_t>(raw.size());
  handle.stored_bytes = static_cast<uint32_t>(stored.size());
  handle.checksum = hash64(stored);
  return stored;
}

Result<void> decode_block(std::string_view stored, const BlockHandle& handle, char* out) {
  const bool good = hash64(stored) == handle.checksum || store_test_faults.trust_blocks;
  if (stored.size() != handle.stored_bytes || !good) {
    return fail(Errc::corrupt, fmt::format("block at offset {} ({} bytes) fails its checksum",
                                           handle.offset, handle.stored_bytes));
  }
  if (handle.codec == Codec::none && handle.raw_bytes == stored.size()) {
    std::memcpy(out, stored.data(), stored.size());
    return {};
  }
  const int size = handle.codec != Codec::lz4 || stored.size() > LZ4_MAX_INPUT_SIZE ||
                           handle.raw_bytes > LZ4_MAX_INPUT_SIZE
                       ? -1
                       : LZ4_decompress_safe(stored.data(), out, static_cast<int>(stored.size()),
                                             static_cast<int>(handle.raw_bytes));
  if (size < 0 || static_cast<uint32_t>(size) != handle.raw_bytes) {
    return fail(Errc::corrupt, fmt::format("block at offset {} does not decompress to {} bytes",
                                           handle.offset, handle.raw_bytes));
  }
  return {};
}

// --- footer --------------------------------------------------------------------------------------

namespace {

void append_footer_handle(std::string& out, const BlockHandle& handle) {
  append_fixed(out, handle.offset);
  append_fixed(out, handle.stored_bytes);
  append_fixed(out, handle.raw_bytes);
  append_fixed(out, handle.checksum);
}

BlockHandle take_footer_handle(Decoder& in) {
  BlockHandle handle;
  handle.offset = in.fixed<uint64_t>();
  handle.stored_bytes = in.fixed<uint32_t>();
  handle.raw_bytes = in.fixed<uint32_t>();
  handle.checksum = in.fixed<uint64_t>();
  return handle;
}

}  // namespace

void append_footer(std::string& out, const TableFooter& footer) {
  const size_t start = out.size();
  append_footer_handle(out, footer.top_index);
  append_footer_handle(out, footer.properties);
  append_fixed(out, footer.file_number);
  append_fixed(out, footer.format_version);
  append_fixed(out, checksum_type_xxh3);
  append_fixed(out, static_cast<uint8_t>(footer.top_index.codec));
  append_fixed(out, static_cast<uint8_t>(footer.properties.codec));
  append_fixed(out, uint8_t{0});
  append_fixed(out, uint64_t{0});
  append_fixed(out, hash64(std::string_view(out).substr(start), footer.file_number));
  out.append(footer_magic);
  GYRE_ASSERT(out.size() - start == table_footer_bytes);
}

Result<TableFooter> parse_footer(std::string_view tail, uint64_t table_bytes,
                                 uint64_t file_number) {
  const auto bad = [&](std::string_view what) {
    return fail(
        Errc::corrupt,
        fmt::format("table footer at offset {}: {}",
                    table_bytes - std::min<uint64_t>(table_bytes, table_footer_bytes), what));
  };
  if (tail.size() < table_footer_bytes || tail.size() > table_bytes) {
    return bad(fmt::format("a table of {} bytes is too short", table_bytes));
  }
  tail.remove_prefix(tail.size() - table_footer_bytes);
  if (tail.substr(80) != footer_magic) return bad("no magic number");
  Decoder in(tail);
  TableFooter footer;
  footer.top_index = take_footer_handle(in);
  footer.properties = take_footer_handle(in);
  footer.file_number = in.fixed<uint64_t>();
  footer.format_version = in.fixed<uint32_t>();
  const auto checksum_type = in.fixed<uint8_t>();
  const auto top_index_codec = in.fixed<uint8_t>();
  const auto properties_codec = in.fixed<uint8_t>();
  const auto zero = in.fixed<uint8_t>() | in.fixed<uint64_t>();
  // The checksum's place and kind are promised for every version of the format.
  if (in.fixed<uint64_t>() != hash64(tail.substr(0, footer_checked_bytes), footer.file_number)) {
    return bad("checksum mismatch");
  }
  if (footer.format_version == 0 || footer.format_version > table_format_version) {
    return fail(Errc::unsupported,
                fmt::format("table format version {}, this program knows 1 to {}",
                            footer.format_version, table_format_version));
  }
  if (footer.file_number != file_number) {
    return bad(fmt::format("belongs to file {}, not {}", footer.file_number, file_number));
  }
  if (checksum_type != checksum_type_xxh3 || zero != 0 || !is_known_codec(top_index_codec) ||
      !is_known_codec(properties_codec)) {
    return bad("unknown checksum or codec");
  }
  footer.top_index.codec = static_cast<Codec>(top_index_codec);
  footer.properties.codec = static_cast<Codec>(properties_codec);
  const uint64_t footer_offset = table_bytes - table_footer_bytes;
  if (!is_plausible(footer.top_index, footer.properties.offset) ||
      !is_plausible(footer.properties, footer_offset)) {
    return bad("top index or properties outside the file");
  }
  return footer;
}

// --- properties ----------------------------------------------------------------------------------

std::string TableProperties::encode() const {
  std::string out;
  for (const uint64_t number : {entry_count, tombstone_count, large_count, raw_key_bytes,
                                raw_value_bytes, data_block_count, partition_count}) {
    append_varint(out, number);
  }
  for (const std::string* key : {&smallest_key, &largest_key}) {
    append_varint(out, key->size());
    out.append(*key);
  }
  for (const uint64_t number : {version_min.hlc, version_min.origin, version_max.hlc,
                                version_max.origin, tombstone_hlc_min}) {
    append_fixed(out, number);
  }
  for (const uint64_t number : {expire_at_ms_min, expiring_count, log_sequence_max, created_ms}) {
    append_varint(out, number);
  }
  for (const uint64_t number :
       {uint64_t{options.block_bytes_target}, uint64_t{options.restart_interval},
        uint64_t{options.partition_blocks_max}, options.partition_bytes_target,
        options.large_value_bytes_min, uint64_t{options.chunk_bytes},
        uint64_t{options.bloom_bits_per_key}, static_cast<uint64_t>(options.codec)}) {
    append_varint(out, number);
  }
  append_varint(out, expire_at_ms_max);
  append_varint(out, tombstone_dense_block_count);
  append_varint(out, value_references.size());
  for (const ValueReference& reference : value_references) {
    for (const uint64_t number : {reference.file_number, reference.value_count,
                                  reference.value_bytes, reference.end_offset}) {
      append_varint(out, number);
    }
  }
  return out;
}

namespace {

// In order, without doubles, and no more than there are entries for.
bool take_value_references(Decoder& in, TableProperties& out) {
  const uint64_t count = in.varint();
  if (count > out.entry_count || count > in.remaining()) return false;
  out.value_references.reserve(count);
  uint64_t last_number = 0;
  uint64_t values = 0;
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    ValueReference reference;
    for (uint64_t* field : {&reference.file_number, &reference.value_count, &reference.value_bytes,
                            &reference.end_offset}) {
      *field = in.varint();
    }
    if (reference.file_number <= last_number || reference.value_count == 0 ||
        reference.value_count > out.entry_count - values ||
        reference.value_bytes > reference.end_offset) {
      return false;
    }
    last_number = reference.file_number;
    values += reference.value_count;
    out.value_references.push_back(reference);
  }
  return true;
}

}  // namespace

Result<TableProperties> TableProperties::decode(std::string_view bytes, uint32_t format_version) {
  Decoder in(bytes);
  TableProperties out;
  bool in_range = true;
  const auto small = [&](uint32_t& field) {
    const uint64_t number = in.varint();
    in_range = in_range && number <= u32_max;
    field = static_cast<uint32_t>(number);
  };
  for (uint64_t* field :
       {&out.entry_count, &out.tombstone_count, &out.large_count, &out.raw_key_bytes,
        &out.raw_value_bytes, &out.data_block_count, &out.partition_count}) {
    *field = in.varint();
  }
  out.smallest_key = in.prefixed();
  out.largest_key = in.prefixed();
  for (uint64_t* field : {&out.version_min.hlc, &out.version_min.origin, &out.version_max.hlc,
                          &out.version_max.origin, &out.tombstone_hlc_min}) {
    *field = in.fixed<uint64_t>();
  }
  for (uint64_t* field :
       {&out.expire_at_ms_min, &out.expiring_count, &out.log_sequence_max, &out.created_ms}) {
    *field = in.varint();
  }
  small(out.options.block_bytes_target);
  small(out.options.restart_interval);
  small(out.options.partition_blocks_max);
  out.options.partition_bytes_target = in.varint();
  out.options.large_value_bytes_min = in.varint();
  small(out.options.chunk_bytes);
  small(out.options.bloom_bits_per_key);
  const uint64_t codec = in.varint();
  out.expire_at_ms_max = format_version == 1 ? out.expire_at_ms_min : in.varint();
  if (format_version >= 3) out.tombstone_dense_block_count = in.varint();
  if (format_version >= 3 && in.ok()) in_range = take_value_references(in, out) && in_range;
  if (!in.ok() || in.remaining() != 0 || !in_range || codec > 0xff ||
      !is_known_codec(static_cast<uint8_t>(codec))) {
    return fail(Errc::corrupt, fmt::format("malformed table properties ({} bytes)", bytes.size()));
  }
  out.options.codec = static_cast<Codec>(codec);
  if (out.expire_at_ms_max < out.expire_at_ms_min || out.smallest_key > out.largest_key ||
      out.version_min > out.version_max || out.tombstone_count > out.entry_count ||
      out.large_count > out.entry_count ||
      out.tombstone_dense_block_count > std::min(out.data_block_count, out.tombstone_count)) {
    return fail(Errc::corrupt, "table properties contradict themselves");
  }
  return out;
}

// --- large values --------------------------------------------------------------------------------

std::string LargeHandle::encode() const {
  std::string out;
  append_varint(out, offset);
  append_varint(out, size_bytes);
  append_varint(out, chunk_bytes);
  append_fixed(out, list_checksum);
  return out;
}

Result<LargeHandle> LargeHandle::decode(std::string_view bytes, uint64_t limit) {
  Decoder in(bytes);
  LargeHandle handle;
  handle.offset = in.varint();
  handle.size_bytes = in.varint();
  const uint64_t chunk_bytes = in.varint();
  handle.list_checksum = in.fixed<uint64_t>();
  if (!in.ok() || in.remaining() != 0 || chunk_bytes == 0 ||
      chunk_bytes > limits::table_chunk_bytes_max) {
    return fail(Errc::corrupt,
                fmt::format("malformed handle of a large value ({} bytes)", bytes.size()));
  }
  handle.chunk_bytes = static_cast<uint32_t>(chunk_bytes);
  const bool extent_fits = handle.offset <= limit && handle.size_bytes <= limit - handle.offset;
  if (!extent_fits || handle.chunk_count() > (limit - handle.list_offset()) / 8) {
    return fail(Errc::corrupt, fmt::format("large value at offset {} ({} bytes) passes offset {}",
                                           handle.offset, handle.size_bytes, limit));
  }
  return handle;
}

Result<void> check_large_list(const LargeHandle& handle, std::string_view list) {
  if (list.size() != handle.list_bytes() || hash64(list) != handle.list_checksum) {
    return fail(Errc::corrupt, fmt::format("chunk checksums at offset {} fail their checksum",
                                           handle.list_offset()));
  }
  return {};
}

Result<void> check_large_chunk(const LargeHandle& handle, std::string_view list, uint64_t index,
                               std::string_view chunk) {
  GYRE_ASSERT(list.size() == handle.list_bytes() && index < handle.chunk_count());
  if (chunk.size() != handle.chunk_size_bytes(index) ||
      hash64(chunk) != get_fixed<uint64_t>(list.data() + index * 8)) {
    return fail(Errc::corrupt, fmt::format("chunk at offset {} of a large value of {} bytes fails "
                                           "its checksum",
                                           handle.chunk_offset(index), handle.size_bytes));
  }
  return {};
}

}  // namespace gyre
