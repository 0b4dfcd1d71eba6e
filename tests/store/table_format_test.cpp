#include "store/table_format.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "table_support.hpp"

namespace gyre {
using namespace test;

namespace {

TableFooter some_footer() {
  TableFooter footer;
  footer.file_number = 7;
  footer.top_index = {100, 50, 50, Codec::none, 0x1111};
  footer.properties = {150, 30, 30, Codec::none, 0x2222};
  return footer;
}

std::string encoded(const TableFooter& footer) {
  std::string out;
  append_footer(out, footer);
  return out;
}

}  // namespace

TEST_CASE("a block is compressed only if that saves an eighth") {
  TestRandom random(6);
  std::string scratch;
  BlockHandle handle;
  const std::string repetitive(8000, 'x');
  const std::string_view packed = encode_block(repetitive, Codec::lz4, scratch, handle);
  CHECK(handle.codec == Codec::lz4);
  CHECK(packed.size() < 200);
  std::string raw(handle.raw_bytes, '\0');
  REQUIRE(decode_block(packed, handle, raw.data()));
  CHECK(raw == repetitive);

  const std::string noise = random.bytes(8000);
  const std::string_view stored = encode_block(noise, Codec::lz4, scratch, handle);
  CHECK(handle.codec == Codec::none);
  CHECK(stored.data() == noise.data());

  // 7 bytes of noise in 8 leave no eighth to save, 6 in 8 do.
  for (const auto& [noisy, expected] : {std::pair{7200u, Codec::none}, {6000u, Codec::lz4}}) {
    const std::string mixed = random.bytes(noisy) + std::string(8000 - noisy, 'x');
    encode_block(mixed, Codec::lz4, scratch, handle);
    CHECK(handle.codec == expected);
  }
}

TEST_CASE("a block that was changed, cut or is another one fails its checksum") {
  std::string scratch;
  BlockHandle handle;
  const std::string raw = "some bytes that are a block, block, block, block, block, block";
  std::string stored(encode_block(raw, Codec::none, scratch, handle));
  handle.offset = 4711;
  std::string out(handle.raw_bytes, '\0');
  REQUIRE(decode_block(stored, handle, out.data()));
  CHECK_FALSE(decode_block(std::string_view(stored).substr(1), handle, out.data()));
  stored[3] ^= 1;
  const auto decoded = decode_block(stored, handle, out.data());
  REQUIRE_FALSE(decoded);
  CHECK(decoded.error().code == Errc::corrupt);
  CHECK(decoded.error().detail.find("4711") != std::string::npos);
}

TEST_CASE("a block that does not decompress to the size promised is refused") {
  std::string scratch;
  BlockHandle handle;
  const std::string stored(encode_block(std::string(1000, 'a'), Codec::lz4, scratch, handle));
  for (const uint32_t raw_bytes : {999u, 1001u, 100u, 100000u}) {
    BlockHandle wrong = handle;
    wrong.raw_bytes = raw_bytes;
    std::vector<char> out(raw_bytes);
    CHECK_FALSE(decode_block(stored, wrong, out.data()));
  }
}

TEST_CASE("a footer survives its round trip, and no bit of it may change") {
  const std::string bytes = encoded(some_footer());
  REQUIRE(bytes.size() == table_footer_bytes);
  const auto footer = parse_footer(bytes, 180 + 88, 7);
  REQUIRE(footer);
  CHECK(footer->top_index == some_footer().top_index);
  CHECK(footer->properties == some_footer().properties);
  CHECK(parse_footer("in front of it" + bytes, 180 + 88, 7));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    const auto parsed = parse_footer(changed, 180 + 88, 7);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::corrupt);
  }
}

TEST_CASE("a footer of another file, of a shorter file or of a later version is refused") {
  const std::string bytes = encoded(some_footer());
  CHECK_FALSE(parse_footer(bytes, 180 + 88, 8));
  CHECK_FALSE(parse_footer(bytes, 180 + 87, 7));
  CHECK_FALSE(parse_footer(std::string_view(bytes).substr(1), 180 + 88, 7));
  CHECK_FALSE(parse_footer("", 0, 7));
  std::string later = bytes;
  put_fixed(later.data() + 56, table_format_version + 1);
  put_fixed(later.data() + 72, hash64(std::string_view(later).substr(0, 72), 7));
  const auto parsed = parse_footer(later, 180 + 88, 7);
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Errc::unsupported);
}

TEST_CASE("properties survive their round trip, cut ones are refused") {
  TableProperties properties;
  properties.entry_count = 1000;
  properties.tombstone_count = 10;
  properties.data_block_count = 8;
  properties.tombstone_dense_block_count = 4;
  properties.large_count = 3;
  properties.raw_key_bytes = 12345;
  properties.raw_value_bytes = uint64_t{1} << 40;
  properties.smallest_key = std::string("\0a", 2);
  properties.largest_key = std::string(3000, '\xff');
  properties.version_min = {5, ~uint64_t{0}};
  properties.version_max = {~uint64_t{0}, 6};
  properties.tombstone_hlc_min = 77;
  properties.expire_at_ms_min = 88;
  properties.expire_at_ms_max = 880;
  properties.expiring_count = 9;
  properties.log_sequence_max = 99;
  properties.created_ms = test_created_ms;
  properties.options.codec = Codec::none;
  properties.options.chunk_bytes = 4096;
  const std::string bytes = properties.encode();
  const auto decoded = TableProperties::decode(bytes);
  REQUIRE(decoded);
  CHECK(*decoded == properties);
  CHECK(decoded->largest_key == properties.largest_key);
  CHECK(decoded->version_max == properties.version_max);
  CHECK(decoded->log_sequence_max == 99);
  CHECK(decoded->tombstone_dense_block_count == 4);
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK_FALSE(TableProperties::decode(std::string_view(bytes).substr(0, size)));
  }
  CHECK_FALSE(TableProperties::decode(bytes + "x"));
}

TEST_CASE("a large value's handle must lie before the block that names it") {
  const LargeHandle handle{1000, 100, 30, 0xabc};
  CHECK(handle.chunk_count() == 4);
  CHECK(handle.chunk_size_bytes(3) == 10);
  CHECK(handle.list_offset() == 1100);
  const std::string bytes = handle.encode();
  CHECK(LargeHandle::decode(bytes, 1132).value() == handle);
  CHECK_FALSE(LargeHandle::decode(bytes, 1131));
  CHECK_FALSE(LargeHandle::decode(bytes, 10));
  CHECK_FALSE(LargeHandle::decode(bytes + "x", 2000));
  CHECK_FALSE(LargeHandle::decode(std::string_view(bytes).substr(0, bytes.size() - 1), 2000));
  CHECK_FALSE(LargeHandle::decode(LargeHandle{0, 100, 0, 0}.encode(), 2000));
  CHECK_FALSE(LargeHandle::decode(LargeHandle{~uint64_t{0}, 100, 1, 0}.encode(), ~uint64_t{0}));
  CHECK_FALSE(LargeHandle::decode(LargeHandle{0, ~uint64_t{0}, 1, 0}.encode(), ~uint64_t{0}));
}

TEST_CASE("a footer's bytes are what format versions 1 to 3 say") {
  TableFooter footer = some_footer();
  CHECK(hash64(encoded(footer)) == 5998167230880558157u);  // golden
  footer.format_version = 2;
  CHECK(hash64(encoded(footer)) == 13328702059127317499u);  // golden
  footer.format_version = 1;
  CHECK(hash64(encoded(footer)) == 18416580359477499548u);  // golden
  const auto parsed = parse_footer(encoded(footer), 180 + 88, 7);
  REQUIRE(parsed);
  CHECK(parsed->format_version == 1);
}

TEST_CASE("properties of version 1 have no last expiry: the first stands for it") {
  TableProperties properties;
  properties.entry_count = 5;
  properties.smallest_key = "a";
  properties.largest_key = "b";
  properties.expire_at_ms_min = properties.expire_at_ms_max = 77;
  properties.expiring_count = 2;
  std::string bytes = properties.encode();
  bytes.resize(bytes.size() - 3);  // the last expiry, 77, and what version 3 added
  CHECK_FALSE(TableProperties::decode(bytes));
  CHECK_FALSE(TableProperties::decode(bytes, 2));
  const auto decoded = TableProperties::decode(bytes, 1);
  REQUIRE(decoded);
  CHECK(decoded->expire_at_ms_max == 77);
  properties.expire_at_ms_max = 76;
  CHECK_FALSE(TableProperties::decode(properties.encode()));
}

TEST_CASE("properties name value files in order, and no more values than there are entries") {
  TableProperties properties;
  properties.entry_count = 5;
  properties.smallest_key = "a";
  properties.largest_key = "b";
  properties.value_references = {{3, 2, 500, 800}, {7, 3, 10, 10}};
  const auto decoded = TableProperties::decode(properties.encode());
  REQUIRE(decoded);
  CHECK(decoded->value_references == properties.value_references);
  const auto is_refused = [&](std::vector<ValueReference> references) {
    properties.value_references = std::move(references);
    return !TableProperties::decode(properties.encode());
  };
  CHECK(is_refused({{3, 2, 500, 800}, {3, 3, 10, 10}}));  // twice
  CHECK(is_refused({{7, 2, 500, 800}, {3, 3, 10, 10}}));
  CHECK(is_refused({{0, 2, 500, 800}}));
  CHECK(is_refused({{3, 0, 500, 800}}));
  CHECK(is_refused({{3, 2, 801, 800}}));  // more than the file has up to there
  CHECK(is_refused({{3, 2, 500, 800}, {7, 4, 10, 10}}));
}

TEST_CASE("properties of versions 1 and 2 know no tombstone-dense blocks and no value files") {
  TableProperties properties;
  properties.entry_count = 5;
  properties.tombstone_count = 3;
  properties.data_block_count = 2;
  properties.tombstone_dense_block_count = 1;
  properties.smallest_key = "a";
  properties.largest_key = "b";
  std::string bytes = properties.encode();
  CHECK(TableProperties::decode(bytes)->tombstone_dense_block_count == 1);
  bytes.pop_back();  // no value files
  CHECK_FALSE(TableProperties::decode(bytes));
  bytes.pop_back();  // one dense block
  CHECK_FALSE(TableProperties::decode(bytes));
  const auto decoded = TableProperties::decode(bytes, 2);
  REQUIRE(decoded);
  CHECK(decoded->tombstone_dense_block_count == 0);
  properties.tombstone_dense_block_count = 3;  // of 2 blocks
  CHECK_FALSE(TableProperties::decode(properties.encode()));
}

}  // namespace gyre
