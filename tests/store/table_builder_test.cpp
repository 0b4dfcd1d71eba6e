#include "store/table_builder.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/hash.hpp"
#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

TableOptions tiny_options() {
  TableOptions options;
  options.block_bytes_target = 200;
  options.restart_interval = 3;
  options.partition_blocks_max = 3;
  options.large_value_bytes_min = 300;
  options.chunk_bytes = 128;
  return options;
}

void check_round_trip(const TableOptions& options, const std::vector<OwnedEntry>& entries,
                      TestRandom& random, int probes = 50) {
  TableProperties written;
  const std::string file = build_table(options, entries, &written);
  const auto table = TableReader::open(file);
  REQUIRE(table);
  CHECK(table->properties() == written);
  const auto all = table->scan();
  REQUIRE(all);
  REQUIRE(*all == entries);
  for (const OwnedEntry& entry : entries) {
    const auto found = table->get(entry.key);
    REQUIRE(found);
    REQUIRE(found->has_value());
    REQUIRE(**found == entry);
  }
  for (int probe = 0; probe < probes; ++probe) {
    const std::string key = random.key(8);
    const auto expected =
        std::lower_bound(entries.begin(), entries.end(), key,
                         [](const OwnedEntry& a, const std::string& b) { return a.key < b; });
    const auto found = table->get(key);
    REQUIRE(found);
    CHECK(found->has_value() == (expected != entries.end() && expected->key == key));
    CHECK(table->scan(key).value() == std::vector<OwnedEntry>(expected, entries.end()));
  }
}

}  // namespace

TEST_CASE("a table gives back what went in, whatever its options") {
  TestRandom random(10);
  for (int round = 0; round < 60; ++round) {
    TableOptions options;
    options.block_bytes_target = static_cast<uint32_t>(1 + random.below(round % 2 ? 300 : 9000));
    options.restart_interval = static_cast<uint32_t>(1 + random.below(20));
    options.partition_blocks_max = static_cast<uint32_t>(1 + random.below(20));
    options.partition_bytes_target = 1 + random.below(5000);
    options.large_value_bytes_min = random.below(400);
    options.chunk_bytes = static_cast<uint32_t>(1 + random.below(100));
    options.bloom_bits_per_key = static_cast<uint32_t>(random.below(17));
    options.codec = random.below(2) == 0 ? Codec::none : Codec::lz4;
    check_round_trip(options, random_entries(random, 1 + random.below(400), 8, 200), random);
  }
}

TEST_CASE("tables of one entry: an empty key, a tombstone, a 2 MiB key, an empty extent") {
  TestRandom random(11);
  TableOptions options;
  check_round_trip(options, {{"", Kind::value, {1, 1}, 0, ""}}, random);
  check_round_trip(options, {{"k", Kind::tombstone, {1, 1}, 0, ""}}, random);
  check_round_trip(options, {{std::string(2 << 20, 'k'), Kind::value, {1, 1}, 9, "v"}}, random);
  options.large_value_bytes_min = 0;
  check_round_trip(options, {{"k", Kind::value, {1, 1}, 0, ""}}, random);
}

TEST_CASE("every block holds one entry when the target is one byte") {
  TestRandom random(12);
  TableOptions options;
  options.block_bytes_target = 1;
  options.partition_blocks_max = 1;
  const auto entries = random_entries(random, 60, 5, 50);
  check_round_trip(options, entries, random);
  TableProperties properties;
  build_table(options, entries, &properties);
  CHECK(properties.data_block_count == entries.size());
  CHECK(properties.partition_count == entries.size());
}

TEST_CASE("long keys with common prefixes stay within what readers accept") {
  TestRandom random(13);
  std::vector<OwnedEntry> entries;
  const std::string prefix(1 << 20, 'p');
  for (int i = 0; i < 5; ++i) {
    entries.push_back({prefix + static_cast<char>('a' + i) + prefix,
                       Kind::value,
                       {1, static_cast<uint64_t>(i)},
                       0,
                       "value"});
    entries.back().key.resize(2 << 20);
  }
  check_round_trip(TableOptions(), entries, random, 3);
}

TEST_CASE("a large value passes through the builder in pieces and is not held") {
  TableOptions options;
  options.chunk_bytes = 1000;
  TableBuilder builder(options, test_file_number);
  std::string file;
  const auto drain = [&] {
    file.append(builder.pending());
    builder.consume(builder.pending().size());
  };
  builder.add({"a", Kind::value, {1, 1}, 0, "small"});
  TestRandom random(14);
  const std::string value = random.bytes(1'000'500);
  builder.begin_large({"b", Kind::value, {2, 2}, 77, {}}, value.size());
  size_t memory_max = 0;
  for (size_t at = 0; at < value.size();) {
    const size_t size = std::min<size_t>(value.size() - at, random.below(4000));
    builder.add_large_bytes(std::string_view(value).substr(at, size));
    memory_max = std::max(memory_max, builder.memory_bytes());
    drain();
    at += size;
  }
  builder.end_large();
  builder.add({"c", Kind::tombstone, {3, 3}, 0, {}});
  builder.finish(test_created_ms, 1);
  drain();
  CHECK(memory_max < 64u << 10);
  CHECK(builder.file_bytes() == file.size());

  const auto table = TableReader::open(file);
  REQUIRE(table);
  const OwnedEntry expected{"b", Kind::value, {2, 2}, 77, value};
  const auto found = table->get("b");
  REQUIRE(found);
  CHECK((*found).value() == expected);
  CHECK(table->properties().large_count == 1);
  CHECK(table->properties().raw_value_bytes == 5 + value.size());
  CHECK(table->scan()->size() == 3);
}

TEST_CASE("properties say what is inside") {
  const std::vector<OwnedEntry> entries = {
      {"a", Kind::value, {50, 1}, 900, "xx"}, {"b", Kind::tombstone, {40, 2}, 0, ""},
      {"c", Kind::tombstone, {30, 3}, 0, ""}, {"dd", Kind::value, {60, 0}, 800, "yyy"},
      {"e", Kind::value, {20, 9}, 0, ""},
  };
  TableProperties properties;
  const std::string file = build_table(TableOptions(), entries, &properties);
  CHECK(properties.entry_count == 5);
  CHECK(properties.tombstone_count == 2);
  CHECK(properties.raw_key_bytes == 6);
  CHECK(properties.raw_value_bytes == 5);
  CHECK(properties.smallest_key == "a");
  CHECK(properties.largest_key == "e");
  CHECK(properties.version_min == Version{20, 9});
  CHECK(properties.version_max == Version{60, 0});
  CHECK(properties.tombstone_hlc_min == 30);
  CHECK(properties.expire_at_ms_min == 800);
  CHECK(properties.expiring_count == 2);
  CHECK(properties.log_sequence_max == 42);
  CHECK(properties.created_ms == test_created_ms);
}

TEST_CASE("blocks of which half or more are tombstones are counted") {
  TableOptions options;
  options.codec = Codec::none;
  // A block ends with the entry that passes its target: here with every large one.
  options.block_bytes_target = 500;
  const std::string closes(500, 'v');
  const auto value = [](std::string key, std::string bytes) {
    return OwnedEntry{std::move(key), Kind::value, {1, 1}, 0, std::move(bytes)};
  };
  const auto tombstone = [](std::string key) {
    return OwnedEntry{std::move(key), Kind::tombstone, {1, 1}, 0, ""};
  };
  TableProperties properties;
  build_table(options, {value("a1", "x"), tombstone("a2"), value("a3", closes)}, &properties);
  CHECK(properties.tombstone_dense_block_count == 0);
  build_table(options,
              {tombstone("b1"), value("b2", closes),                   // half
               value("c1", closes),                                    // none
               tombstone("d1"), tombstone("d2"), value("d3", closes),  // most
               tombstone("e1"), value("e2", "x"), tombstone("e3"), value("e4", "x"),
               value("e5", closes), tombstone("f1")},  // all
              &properties);
  CHECK(properties.data_block_count == 5);
  CHECK(properties.tombstone_count == 6);
  CHECK(properties.tombstone_dense_block_count == 3);
  // A block that closes behind a large value counts it, too.
  options.large_value_bytes_min = 100;
  build_table(options, {tombstone("g1"), value("g2", closes), value("g3", closes)}, &properties);
  CHECK(properties.data_block_count == 1);
  CHECK(properties.tombstone_dense_block_count == 0);
}

TEST_CASE("without tombstones and expiries the properties say none") {
  TableProperties properties;
  build_table(TableOptions(), {{"a", Kind::value, {50, 1}, 0, "xx"}}, &properties);
  CHECK(properties.tombstone_hlc_min == no_tombstone_hlc);
  CHECK(properties.expire_at_ms_min == 0);
  CHECK(properties.tombstone_dense_block_count == 0);
}

TEST_CASE("the estimate of the file's size is near the truth before finish") {
  TestRandom random(15);
  TableOptions options;
  options.codec = Codec::none;
  TableBuilder builder(options, test_file_number);
  for (int i = 0; i < 5000; ++i) {
    std::string key = std::to_string(100000 + i);
    builder.add({key, Kind::value, {1, 1}, 0, "a value of some length"});
  }
  const uint64_t estimate = builder.estimated_file_bytes();
  builder.finish(test_created_ms, 1);
  CHECK(estimate <= builder.file_bytes());
  CHECK(estimate + 1000 > builder.file_bytes());
}

TEST_CASE("blocks and partitions have the sizes that were asked for") {
  TableOptions options;
  options.codec = Codec::none;
  TableBuilder builder(options, test_file_number);
  const std::string value(100, 'v');
  for (int i = 0; i < 50000; ++i) {
    builder.add({"key" + std::to_string(100000 + i), Kind::value, {1, 1}, 0, value});
    builder.consume(builder.pending().size());
  }
  builder.finish(test_created_ms, 1);
  const TableProperties& properties = builder.properties();
  const uint64_t data_bytes = properties.entry_count * 125;
  CHECK(properties.data_block_count > data_bytes / 9000);
  CHECK(properties.data_block_count < data_bytes / 7000);
  CHECK(properties.partition_count == (properties.data_block_count + 255) / 256);
}

TEST_CASE("a table cut at any byte is refused") {
  TestRandom random(17);
  const std::string file = build_table(tiny_options(), random_entries(random, 60, 6, 60));
  for (size_t size = 0; size < file.size(); ++size) {
    const auto table = TableReader::open(std::string_view(file).substr(0, size));
    REQUIRE_FALSE(table);
    CHECK(table.error().code == Errc::corrupt);
  }
}

TEST_CASE("data blocks that traded places are noticed") {
  // Two blocks of one size: a disk that mixes up their addresses passes any checksum kept inside.
  TableOptions options;
  options.block_bytes_target = 1;
  options.codec = Codec::none;
  const std::vector<OwnedEntry> entries = {{"a", Kind::value, {1, 1}, 0, "one"},
                                           {"b", Kind::value, {1, 1}, 0, "two"}};
  std::string file = build_table(options, entries);
  const size_t size = 3 + 1 + 16 + 1 + 3 + 8;
  REQUIRE(TableReader::open(file)->scan().value() == entries);
  std::swap_ranges(file.begin(), file.begin() + size, file.begin() + size);
  const auto table = TableReader::open(file);
  REQUIRE(table);
  CHECK_FALSE(table->get("a"));
  CHECK_FALSE(table->get("b"));
}

TEST_CASE("the bytes of a table are what format version 3 says") {
  TestRandom random(18);
  TableOptions options = tiny_options();
  options.codec = Codec::none;  // the library's output may change, our bytes may not
  auto entries = random_entries(random, 200, 8, 400);
  const std::string file = build_table(options, entries);
  CHECK(file.size() == 34753);                 // golden
  CHECK(hash64(file) == 642497456959521520u);  // golden
}

}  // namespace gyre
