#include "store/value_buffer.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

using namespace gyre;

namespace {

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 251);
  return text;
}

size_t pieces(const ValueBuffer& buffer) {
  size_t count = 0;
  buffer.for_each_piece([&](std::string_view piece) {
    CHECK_FALSE(piece.empty());
    ++count;
  });
  return count;
}

}  // namespace

TEST_CASE("what is appended in any pieces comes out again") {
  for (const size_t total : {0u, 1u, 100u, 65535u, 65536u, 65537u, 200'000u, 3'000'000u}) {
    for (const size_t piece : {1000u, 65536u, 1u << 20}) {
      for (const bool expected : {false, true}) {
        const std::string bytes = pattern(total);
        ValueBuffer buffer;
        if (expected) buffer.expect(total);
        for (size_t at = 0; at < total; at += piece)
          buffer.append(std::string_view(bytes).substr(at, piece));
        REQUIRE(buffer.size() == total);
        CHECK(buffer.to_string() == bytes);
        CHECK(buffer.contiguous() == (pieces(buffer) <= 1));
        if (total <= ValueBuffer::contiguous_bytes_max) CHECK(buffer.view() == bytes);
        // Exact if the length was known, else at most doubled or one long chunk too much.
        const size_t overhead = pieces(buffer) * ValueBuffer::piece_overhead_bytes;
        if (expected && piece > 1000) CHECK(buffer.allocated_bytes() == total + overhead);
        CHECK(buffer.allocated_bytes() <=
              total + std::min(total, ValueBuffer::long_chunk_bytes) + overhead);
      }
    }
  }
}

TEST_CASE("no piece of a long value is longer than a long chunk") {
  ValueBuffer buffer(pattern(5u << 20));
  size_t longest = 0;
  buffer.for_each_piece([&](std::string_view piece) { longest = std::max(longest, piece.size()); });
  CHECK(longest == ValueBuffer::long_chunk_bytes);
}

TEST_CASE("expecting a length allocates nothing") {
  ValueBuffer buffer;
  buffer.expect(1u << 30);
  CHECK(buffer.allocated_bytes() == 0);
  buffer.append("x");
  CHECK(buffer.allocated_bytes() < 128u << 10);
}

TEST_CASE("more than expected is taken too") {
  ValueBuffer buffer;
  buffer.expect(10);
  const std::string bytes = pattern(150'000);
  buffer.append(bytes.substr(0, 10));
  buffer.append(bytes.substr(10));
  CHECK(buffer.to_string() == bytes);
}

TEST_CASE("a moved-from buffer is empty, the target has the bytes without copying") {
  ValueBuffer from(pattern(100'000));
  const char* data = nullptr;
  from.for_each_piece([&](std::string_view piece) {
    if (data == nullptr) data = piece.data();
  });
  ValueBuffer to = std::move(from);
  CHECK(from.empty());
  CHECK(from.allocated_bytes() == 0);
  bool same = false;
  to.for_each_piece([&](std::string_view piece) { same |= piece.data() == data; });
  CHECK(same);
  ValueBuffer assigned("old");
  assigned = std::move(to);
  CHECK(assigned.to_string() == pattern(100'000));
}

TEST_CASE("a shared handle outlives the other one") {
  ValueBuffer reader;
  {
    ValueBuffer owner(pattern(300'000));
    reader = owner.share();
  }
  CHECK(reader.to_string() == pattern(300'000));
  reader.append("more");  // alone again
  CHECK(reader.size() == 300'004);
}

TEST_CASE("a reader copies out across pieces in steps of any size") {
  const std::string bytes = pattern(700'001);
  const ValueBuffer buffer(bytes);
  for (const size_t step : {1000u, 65536u, 333'333u}) {
    ValueBuffer::Reader reader(buffer);
    std::string out(bytes.size(), '\0');
    for (size_t at = 0; at < out.size(); at += step)
      reader.read(&out[at], std::min(step, out.size() - at));
    CHECK(out == bytes);
    CHECK(reader.next(1).empty());
  }
}
