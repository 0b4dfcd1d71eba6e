// The table's parsers. The first byte of an input chooses which one reads the rest: whole tables
// would end at the first checksum, so each structure is also offered past its checksum.
#include <algorithm>
#include <string_view>

#include "../store/table_support.hpp"
#include "base/hash.hpp"
#include "fuzz.hpp"
#include "store/value_file.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr size_t decoded_bytes_max = 1 << 16;

void try_block(std::string_view bytes) {
  const auto block = BlockView::open(bytes);
  if (!block) return;
  BlockCursor cursor(*block);
  std::vector<OwnedEntry> entries;
  size_t key_bytes = 0;
  for (cursor.seek_to_first(); cursor.valid(); cursor.next()) {
    const Entry& entry = cursor.entry();
    entries.push_back({std::string(entry.key), entry.kind, entry.version, entry.expire_at_ms,
                       std::string(entry.value)});
    key_bytes += entry.key.size();
    if (key_bytes > decoded_bytes_max) return;
  }
  // Lookups agree with the walk only if a builder could have made the block.
  bool in_order = !cursor.failed();
  for (size_t i = 1; i < entries.size(); ++i) in_order &= entries[i - 1].key < entries[i].key;
  for (const OwnedEntry& entry : entries) {
    Entry found;
    const auto is_there = block->find(entry.key, found);
    cursor.seek(entry.key);
    FUZZ_CHECK(is_there || is_there.error().code == Errc::corrupt);
    if (is_there && *is_there && in_order) FUZZ_CHECK(found.key == entry.key);
  }
  // So does the walk back, where the restarts are a builder's too.
  size_t left = entries.size();
  size_t steps = 0;
  for (cursor.seek_to_last(); cursor.valid(); cursor.prev()) {
    FUZZ_CHECK(++steps <= bytes.size());
    if (in_order && left != 0) FUZZ_CHECK(cursor.key() == entries[--left].key);
  }
}

void try_partition(std::string_view bytes) {
  const auto partition = PartitionView::open(bytes, 1 << 20);
  if (!partition) return;
  const bool good = partition->blocks().check().has_value();
  for (uint32_t i = 0; i < std::min(partition->blocks().size(), 100u); ++i) {
    const auto entry = partition->blocks().entry(i);
    if (!entry) continue;
    FUZZ_CHECK(entry->handle.end() <= 1 << 20);
    partition->may_contain(bloom_hash(entry->separator));
    const auto place = partition->blocks().lower_bound(entry->separator);
    if (good) FUZZ_CHECK(place && *place == i);
  }
}

void try_top_index(std::string_view bytes) {
  TableFooter footer;
  footer.top_index.offset = 1 << 20;
  auto top = TopIndex::open(std::string(bytes), footer);
  if (!top) return;
  const TopIndex moved = std::move(*top);
  BlockHandle handle;
  FUZZ_CHECK(moved.find_partition("key", handle).has_value());
}

void try_small_structures(std::string_view bytes) {
  static_cast<void>(parse_footer(bytes, bytes.size(), test_file_number).has_value());
  if (const auto properties = TableProperties::decode(bytes)) {
    FUZZ_CHECK(TableProperties::decode(properties->encode()).value() == *properties);
  }
  if (const auto handle = LargeHandle::decode(bytes, 1 << 30)) {
    FUZZ_CHECK(handle->list_offset() + handle->list_bytes() <= 1 << 30);
  }
  for (const uint64_t file_bytes : {uint64_t{4096}, uint64_t{1} << 20}) {
    const auto footer = parse_value_footer(bytes, file_bytes, test_file_number);
    if (footer) FUZZ_CHECK(footer->content_bytes + value_footer_bytes <= file_bytes);
  }
  for (const Kind kind : {Kind::separate, Kind::separate_large}) {
    const auto value = separate_value({"key", kind, {}, 0, bytes});
    if (!value) continue;
    FUZZ_CHECK(value->file_number != 0 && value->stored_bytes <= value->end_offset);
    std::string_view rest = bytes;
    FUZZ_CHECK(take_value_file_number(rest).value() == value->file_number);
    if (kind == Kind::separate) {
      FUZZ_CHECK(!decode_block_value(rest, value->end_offset - 1) || value->end_offset == 0);
    }
  }
}

void try_compressed(std::string_view bytes) {
  BlockHandle handle;
  handle.codec = Codec::lz4;
  handle.stored_bytes = static_cast<uint32_t>(bytes.size());
  handle.raw_bytes = static_cast<uint32_t>(std::min(bytes.size() * 3 + 1, decoded_bytes_max));
  handle.checksum = hash64(bytes);
  std::vector<char> out(handle.raw_bytes);
  if (decode_block(bytes, handle, out.data())) try_block({out.data(), out.size()});
}

void try_table(std::string_view bytes) {
  const auto table = TableReader::open(bytes);
  if (!table) return;
  const auto all = table->scan();
  if (!all) return;
  FUZZ_CHECK(all->size() == table->properties().entry_count);
  for (const OwnedEntry& entry : *all) FUZZ_CHECK(table->get(entry.key).value() == entry);
}

// The input is a recipe for a table, which must read back.
void try_round_trip(std::string_view bytes) {
  TestRandom random(hash64(bytes));
  TableOptions options;
  const auto byte = [&](size_t i) -> uint32_t {
    return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0;
  };
  options.block_bytes_target = byte(0) * 4;
  options.restart_interval = byte(1) % 20 + 1;
  options.partition_blocks_max = byte(2) % 20 + 1;
  options.large_value_bytes_min = byte(3);
  options.chunk_bytes = byte(4) + 1;
  options.bloom_bits_per_key = byte(5) % 17;
  options.codec = byte(6) % 2 == 0 ? Codec::none : Codec::lz4;
  const auto entries = random_entries(random, byte(7) + 1, byte(8) % 12 + 1, byte(9));
  const std::string file = build_table(options, entries);
  FUZZ_CHECK(TableReader::open(file).value().scan().value() == entries);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0:
      try_block(bytes);
      break;
    case 1:
      try_partition(bytes);
      break;
    case 2:
      try_top_index(bytes);
      break;
    case 3:
      try_small_structures(bytes);
      break;
    case 4:
      try_compressed(bytes);
      break;
    case 5:
      try_table(bytes);
      break;
    case 6:
      try_round_trip(bytes);
      break;
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  TestRandom random(1);
  const auto entries = random_entries(random, 30, 6, 40);
  BlockBuilder block(4);
  for (const OwnedEntry& entry : entries) block.add(entry.view());
  const std::string raw(block.finish());

  BloomBuilder bloom(10);
  IndexBuilder index;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    bloom.add(bloom_hash(entries[i].key));
    index.add(entries[i].key, {i * 100, 50, 90, Codec::lz4, random.next()});
  }
  IndexBuilder top = index;
  std::string partition;
  append_partition(partition, bloom, index);
  std::string top_index;
  top.finish(top_index);

  TableOptions options;
  options.block_bytes_target = 200;
  options.partition_blocks_max = 2;
  options.large_value_bytes_min = 35;
  options.chunk_bytes = 16;
  TableProperties properties;
  const std::string table = build_table(options, entries, &properties);
  std::string scratch;
  BlockHandle handle;
  const std::string packed(encode_block(std::string(500, 'x') + raw, Codec::lz4, scratch, handle));

  std::vector<std::string> seeds;
  const std::string bodies[] = {raw,    partition, top_index,       properties.encode(),
                                packed, table,     random.bytes(12)};
  for (size_t i = 0; i < std::size(bodies); ++i) {
    seeds.push_back(std::string(1, static_cast<char>(i)) + bodies[i]);
  }
  seeds.push_back('\3' + table.substr(table.size() - table_footer_bytes));
  seeds.push_back('\3' + LargeHandle{1000, 5000, 64, 1}.encode());
  seeds.push_back('\3' + encode_large_value(7, {1000, 5000, 64, 1}));
  seeds.push_back('\3' + encode_block_value(7, {1000, 500, 600, Codec::lz4, 3}));
  std::string value_footer;
  append_value_footer(value_footer, {3, 4000, 5, test_file_number});
  seeds.push_back('\3' + value_footer);
  properties.value_references = {{2, 3, 100, 200}, {9, 1, 5, 5}};
  seeds.push_back('\3' + properties.encode());
  return seeds;
}
