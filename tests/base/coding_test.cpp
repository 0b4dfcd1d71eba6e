#include "base/coding.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace gyre;

TEST_CASE("varints come back, at every width and at its edges") {
  std::vector<uint64_t> values = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
  for (unsigned bit = 0; bit < 64; ++bit) {
    values.push_back(uint64_t{1} << bit);
    values.push_back((uint64_t{1} << bit) - 1);
  }
  for (const uint64_t value : values) {
    std::string bytes;
    append_varint(bytes, value);
    CHECK(bytes.size() <= varint_bytes_max);
    uint64_t back = ~value;
    CHECK(get_varint(bytes.data(), bytes.data() + bytes.size(), back) ==
          bytes.data() + bytes.size());
    CHECK(back == value);
    // One byte short is no varint.
    CHECK(get_varint(bytes.data(), bytes.data() + bytes.size() - 1, back) == nullptr);
  }
}

TEST_CASE("a varint over 64 bits, or one that never ends, is refused") {
  uint64_t value = 0;
  const std::string over = std::string(9, '\xff') + "\x02";
  CHECK(get_varint(over.data(), over.data() + over.size(), value) == nullptr);
  const std::string endless(20, '\xff');
  CHECK(get_varint(endless.data(), endless.data() + endless.size(), value) == nullptr);
}

TEST_CASE("a decoder that ran short fails from then on, and gives zeros") {
  std::string bytes;
  append_fixed<uint32_t>(bytes, 7);
  append_varint(bytes, 3);
  bytes += "abc";
  Decoder whole(bytes);
  CHECK(whole.fixed<uint32_t>() == 7);
  CHECK(whole.prefixed() == "abc");
  CHECK(whole.ok());
  CHECK(whole.remaining() == 0);
  for (size_t size = 0; size < bytes.size(); ++size) {
    Decoder cut(std::string_view(bytes).substr(0, size));
    cut.fixed<uint32_t>();
    CHECK(cut.prefixed() != "abc");
    CHECK_FALSE(cut.ok());
    CHECK(cut.fixed<uint8_t>() == 0);
    CHECK(cut.bytes(0).empty());
    CHECK_FALSE(cut.ok());
  }
}

TEST_CASE("a length that is larger than any memory is refused, not added up") {
  std::string bytes;
  append_varint(bytes, UINT64_MAX);
  bytes += "abc";
  Decoder in(bytes);
  CHECK(in.prefixed().empty());
  CHECK_FALSE(in.ok());
}
