// The format of value files: footer and handles; and writing and reading them.
#include "store/value_file.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/coding.hpp"
#include "base/io_alignment.hpp"
#include "shard_rig.hpp"
#include "store/table_verifier.hpp"
#include "store/table_writer.hpp"
#include "store/value_verifier.hpp"
#include "store/value_writer.hpp"

namespace gyre::test {
namespace {

std::string encoded(const ValueFooter& footer) {
  std::string out;
  append_value_footer(out, footer);
  return out;
}

const ValueFooter some_footer{
    .value_count = 3, .content_bytes = 5'000, .content_hash = 77, .file_number = 12};

TEST_CASE("a footer of a value file is read back, from the end of what it is given") {
  const std::string tail = std::string(500, 'x') + encoded(some_footer);
  const auto parsed = parse_value_footer(tail, 8192, 12);
  REQUIRE(parsed);
  CHECK(parsed->value_count == 3);
  CHECK(parsed->content_bytes == 5'000);
  CHECK(parsed->content_hash == 77);
  CHECK(parsed->file_number == 12);
  CHECK(hash64(encoded(some_footer)) == 17578293545934237904u);  // golden
}

TEST_CASE("a footer with any bit changed, of another file or size, is refused") {
  const std::string good = encoded(some_footer);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    CHECK_FALSE(parse_value_footer(bad, 8192, 12));
  }
  CHECK_FALSE(parse_value_footer(good, 8192, 13));
  CHECK_FALSE(parse_value_footer(good, 4096, 12));   // ends before its content
  CHECK_FALSE(parse_value_footer(good, 12288, 12));  // a block too many
  CHECK_FALSE(parse_value_footer(good, 8191, 12));
  CHECK_FALSE(parse_value_footer(good.substr(1), 8192, 12));
  ValueFooter later = some_footer;
  later.format_version = 2;
  CHECK(parse_value_footer(encoded(later), 8192, 12).error().code == Errc::unsupported);
}

TEST_CASE("handles of separate values are read back, and nonsense is refused") {
  const BlockHandle handle{.offset = 300,
                           .stored_bytes = 200,
                           .raw_bytes = 400,
                           .codec = Codec::lz4,
                           .checksum = 0x1234567890abcdef};
  const std::string bytes = encode_block_value(1'000, handle);
  CHECK(bytes.size() <= value_handle_bytes_max);
  std::string_view rest = bytes;
  CHECK(take_value_file_number(rest).value() == 1'000);
  CHECK(decode_block_value(rest, 500).value() == handle);
  CHECK_FALSE(decode_block_value(rest, 499));
  CHECK_FALSE(decode_block_value(std::string(rest) + "x", 500));
  for (size_t size = 0; size < rest.size(); ++size) {
    CHECK_FALSE(decode_block_value(rest.substr(0, size), 500));
  }
  const auto block = separate_value({"k", Kind::separate, {}, 0, bytes});
  REQUIRE(block);
  CHECK(block->file_number == 1'000);
  CHECK(block->raw_bytes == 400);
  CHECK(block->stored_bytes == 200);
  CHECK(block->end_offset == 500);

  const LargeHandle large{
      .offset = 64, .size_bytes = 2'500, .chunk_bytes = 1'000, .list_checksum = 5};
  const auto extent =
      separate_value({"k", Kind::separate_large, {}, 0, encode_large_value(9, large)});
  REQUIRE(extent);
  CHECK(extent->raw_bytes == 2'500);
  CHECK(extent->stored_bytes == 2'524);
  CHECK(extent->end_offset == 2'588);

  std::string_view none;
  CHECK_FALSE(take_value_file_number(none));
  std::string zero;
  append_varint(zero, 0);
  std::string_view file_zero = zero;
  CHECK_FALSE(take_value_file_number(file_zero));
}

// --- files ---------------------------------------------------------------------------------------

const std::string shard_directory = "shard";

struct World {
  explicit World(size_t cache_bytes = 1u << 20)
      : cache(cache_bytes), host(shard_directory, cache) {}
  BlockCache cache;
  TableHost host;
};

struct Numbers {
  uint64_t next = 1;
};

ValueWriter writer_of(Numbers& numbers, uint64_t file_bytes_max = 1u << 20) {
  return ValueWriter(
      {.directory = shard_directory, .chunk_bytes = 1'000, .file_bytes_max = file_bytes_max},
      [&numbers] { return numbers.next++; });
}

Task<std::string> read_value(TableHost& host, const WrittenValue& written) {
  const ValueReference reference{written.place.file_number, 1, written.place.stored_bytes,
                                 written.place.end_offset};
  Result<ValueFileRef> file = co_await ValueFile::open(host, reference, "a table");
  if (!file) co_return "error: " + file.error().message();
  std::string_view rest = written.encoded;
  static_cast<void>(take_value_file_number(rest));
  if (written.kind == Kind::separate) {
    const Result<BlockHandle> handle = decode_block_value(rest, (*file)->data_end());
    if (!handle) co_return "error: " + handle.error().message();
    const Result<BlockPin> pin = co_await (*file)->load_block(*handle);
    co_return pin ? std::string(pin->bytes()) : "error: " + pin.error().message();
  }
  Result<LargeReader> reader = LargeReader::open(*file, rest);
  if (!reader) co_return "error: " + reader.error().message();
  std::string all;
  for (;;) {
    const Result<std::string_view> piece = co_await reader->next();
    if (!piece) co_return "error: " + piece.error().message();
    if (piece->empty()) co_return all;
    all += *piece;
  }
}

Task<void> write_and_read(uint64_t file_bytes_max, uint64_t files) {
  CO_OK(co_await make_directories(shard_directory));
  Numbers numbers;
  ValueWriter writer = writer_of(numbers, file_bytes_max);
  std::vector<std::string> values;
  std::vector<WrittenValue> written;
  size_t memory_max = 0;
  for (uint64_t i = 1; i < 60; ++i) {
    values.push_back(i % 7 == 3 ? noise(i, 1'000 * i)
                                : noise(i, i * 50) + std::string(i * 20, 'r'));
    Result<WrittenValue> value = i % 7 == 3 ? co_await writer.add_large(buffer_of(values.back()))
                                            : co_await writer.add(values.back());
    CO_OK(value);
    written.push_back(std::move(*value));
    memory_max = std::max(memory_max, writer.memory_bytes());
  }
  CO_OK(co_await writer.finish());
  CO_CHECK(memory_max <= ValueWriter::memory_bytes_expected);
  CO_CHECK(numbers.next == files + 1);
  World world;
  for (size_t i = 0; i < values.size(); ++i) {
    CO_CHECK(co_await read_value(world.host, written[i]) == values[i]);
  }
  uint64_t bytes = 0;
  for (uint64_t number = 1; number < numbers.next; ++number) {
    const auto status = co_await file_status(join_path(shard_directory, value_file_name(number)));
    CO_OK(status);
    CO_CHECK(status->exists);
    bytes += status->size_bytes;
  }
  CO_CHECK(bytes == writer.written_bytes());
  co_await world.host.drain();
}

TEST_CASE("values come back from one file, or from as many as they fill") {
  for (const auto& [file_bytes_max, files] :
       {std::pair<uint64_t, uint64_t>{1u << 20, 1}, {1, 59}}) {
    ShardRig rig;
    CHECK(rig.live(write_and_read(file_bytes_max, files)) == LifeEnd::finished);
  }
}

Task<void> give_up() {
  CO_OK(co_await make_directories(shard_directory));
  Numbers numbers;
  ValueWriter writer = writer_of(numbers, 1'000);
  for (unsigned i = 0; i < 5; ++i) CO_OK(co_await writer.add(noise(i, 600)));
  co_await writer.abandon();
  CO_CHECK(!co_await writer.add("value"));
  CO_CHECK(!co_await writer.finish());
  const auto left = co_await list_directory(shard_directory);
  CO_OK(left);
  CO_CHECK(left->empty());
}

TEST_CASE("a writer that is given up leaves none of its files") {
  ShardRig rig;
  CHECK(rig.live(give_up()) == LifeEnd::finished);
}

// Whether each byte that is changed is found by the check of the whole file, and by whoever reads
// the value there.
Task<void> change_bytes(sim::Disk& disk) {
  CO_OK(co_await make_directories(shard_directory));
  Numbers numbers;
  ValueWriter writer = writer_of(numbers);
  const std::string small = noise(1, 700);
  const std::string large = noise(2, 2'500);
  const Result<WrittenValue> first = co_await writer.add(small);
  CO_OK(first);
  const Result<WrittenValue> second = co_await writer.add_large(buffer_of(large));
  CO_OK(second);
  CO_OK(co_await writer.finish());
  const std::string path = join_path(shard_directory, value_file_name(1));
  struct Counter final : TableVerifier::Observer {
    uint64_t places = 0;
    void damaged(uint64_t, std::string_view) override { ++places; }
  };
  for (uint64_t offset = 0; offset < 4096; ++offset) {
    CO_CHECK(disk.corrupt(path, offset, 0x20));
    World world(0);
    Result<File> file = co_await File::open(path, flag_read);
    CO_OK(file);
    Counter counter;
    CO_OK(co_await verify_value_file(*file, 4096, 1, counter));
    CO_OK(co_await file->close());
    const bool is_padding =
        offset >= second->place.end_offset && offset < 4096 - value_footer_bytes;
    CO_CHECK((counter.places != 0) == !is_padding);
    const std::string read_small = co_await read_value(world.host, *first);
    const std::string read_large = co_await read_value(world.host, *second);
    CO_CHECK((read_small == small || read_small.starts_with("error: ")));
    CO_CHECK((read_large == large || read_large.starts_with("error: ")));
    if (offset < second->place.end_offset) CO_CHECK((read_small != small || read_large != large));
    CO_CHECK(disk.corrupt(path, offset, 0x20));
    co_await world.host.drain();
  }
}

TEST_CASE("every changed byte of a value file is noticed") {
  ShardRig rig;
  CHECK(rig.live(change_bytes(rig.disk())) == LifeEnd::finished);
}

// A source of values for a check that reads them, and how much it read at once.
struct ValueSourceOf final : TableVerifier::Observer {
  const File* values = nullptr;
  uint64_t content_bytes = 0;
  uint64_t bytes_max = 0;
  uint64_t bytes = 0;
  std::vector<std::string> notes;
  void damaged(uint64_t, std::string_view what) override { notes.emplace_back(what); }
  std::optional<ValueSource> value_source(uint64_t) override {
    return ValueSource{values, content_bytes, true};
  }
  Task<Result<void>> after_block(uint64_t bytes_read) override {
    bytes_max = std::max(bytes_max, bytes_read);
    bytes += bytes_read;
    co_return Result<void>{};
  }
};

Task<void> check_values_of_table(sim::Disk& disk) {
  constexpr uint64_t large_bytes = 3'000'000;
  CO_OK(co_await make_directories(shard_directory));
  Numbers numbers;
  ValueWriter writer({.directory = shard_directory, .file_bytes_max = 8u << 20},
                     [&numbers] { return numbers.next++; });
  const Result<WrittenValue> small = co_await writer.add(noise(1, 20'000));
  CO_OK(small);
  const Result<WrittenValue> large = co_await writer.add_large(buffer_of(noise(2, large_bytes)));
  CO_OK(large);
  CO_OK(co_await writer.finish());
  auto table = co_await TableWriter::create(shard_directory, 2, {});
  CO_OK(table);
  static_cast<void>(
      (*table)->add_separate({"a", small->kind, {1, 1}, 0, small->encoded}, small->place));
  static_cast<void>(
      (*table)->add_separate({"b", large->kind, {2, 1}, 0, large->encoded}, large->place));
  const Result<TableRecord> record = co_await (*table)->finish(1, 1);
  CO_OK(record);

  const auto check = [&]() -> Task<ValueSourceOf> {
    ValueSourceOf source;
    Result<File> values =
        co_await File::open(join_path(shard_directory, value_file_name(1)), flag_read);
    Result<File> file =
        co_await File::open(join_path(shard_directory, table_file_name(2)), flag_read);
    if (!values || !file) co_return source;
    source.values = &*values;
    source.content_bytes = large->place.end_offset;
    {
      TableVerifier verifier(*file, source);
      const Result<bool> opened = co_await verifier.open(record->size_bytes, 2);
      const Result<void> done = co_await verifier.check(&*record);
      if (!opened || !done) source.notes.emplace_back("not checked to its end");
    }
    static_cast<void>(co_await values->close());
    static_cast<void>(co_await file->close());
    co_return source;
  };
  const ValueSourceOf sound = co_await check();
  CO_CHECK(sound.notes.empty());
  CO_CHECK(sound.bytes >= large_bytes + 20'000);
  CO_CHECK(sound.bytes_max <= TableVerifier::window_bytes);

  // In its first chunk, one between, its last, and its list of checksums.
  const std::string path = join_path(shard_directory, value_file_name(1));
  const uint64_t begin = large->place.end_offset - large->place.stored_bytes;
  for (const uint64_t offset :
       {begin, begin + 1'000'000, begin + large_bytes - 1, large->place.end_offset - 1}) {
    CO_CHECK(disk.corrupt(path, offset, 0x20));
    const ValueSourceOf damaged = co_await check();
    CO_REQUIRE(damaged.notes.size() == 1);
    CO_CHECK(damaged.notes[0].starts_with("the value of 'b', at offset "));
    CO_CHECK(disk.corrupt(path, offset, 0x20));
  }
  Result<File> file = co_await File::open(path, flag_read | flag_write);
  CO_OK(file);
  CO_OK(co_await file->truncate(begin + 4096));
  CO_OK(co_await file->close());
  const ValueSourceOf cut = co_await check();
  CO_REQUIRE(cut.notes.size() == 1);
  CO_CHECK(cut.notes[0].ends_with(": the file ends before it"));
}

TEST_CASE("a check of a table reads large values piece by piece, and tells which is damaged") {
  ShardRig rig;
  CHECK(rig.live(check_values_of_table(rig.disk())) == LifeEnd::finished);
}

}  // namespace
}  // namespace gyre::test
