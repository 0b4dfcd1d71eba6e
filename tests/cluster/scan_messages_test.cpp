#include "cluster/scan_messages.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace gyre;
using namespace gyre::cluster;

namespace {
std::string encoded(const ScanRequest& request) {
  char head[ScanRequest::head_bytes];
  request.encode_head(head);
  return std::string(head, sizeof head) + std::string(request.start) + std::string(request.end);
}
std::string page_of(const ScanEntry& entry) {
  std::string page;
  entry.append_to(page);
  return page;
}
bool is_entry(std::string_view page) {
  ScanEntry entry;
  return ScanEntry::take(page, entry);
}
}  // namespace

TEST_CASE("a question about a range comes as it went") {
  ScanRequest asked{.start = "a", .end = std::string_view("b\0", 2), .now_ms = 77};
  asked.slots.add(0);
  asked.slots.add(9);
  asked.slots.add(slot_count - 1);
  const std::string payload = encoded(asked);
  ScanRequest came;
  REQUIRE(ScanRequest::decode(payload, came));
  CHECK(came.start == asked.start);
  CHECK(came.end == asked.end);
  CHECK(came.now_ms == 77);
  CHECK_FALSE(came.keys_only);
  CHECK(came.slots == asked.slots);
  CHECK(came.slots.size() == 3);
  asked.keys_only = true;
  const std::string of_keys = encoded(asked);
  REQUIRE(ScanRequest::decode(of_keys, came));
  CHECK(came.keys_only);
  CHECK(came.end == asked.end);
  // Slot 9 is bit 1 of byte 1.
  CHECK(payload[16 + 1] == 2);
  for (size_t bytes = 0; bytes < payload.size(); ++bytes) {
    CHECK_FALSE(ScanRequest::decode(std::string_view(payload).substr(0, bytes), came));
  }
  CHECK_FALSE(ScanRequest::decode(payload + "x", came));
  CHECK_FALSE(ScanRequest::decode(encoded({.start = "", .end = "b"}), came));
  const std::string longest(limits::stored_key_bytes_max, 'k');
  CHECK(ScanRequest::decode(encoded({.start = longest + '\0', .end = longest}), came));
  CHECK_FALSE(ScanRequest::decode(encoded({.start = longest + "xx"}), came));
  CHECK_FALSE(ScanRequest::decode(encoded({.start = "a", .end = longest + 'x'}), came));
}

TEST_CASE("entries of a page come as they went, one after the other") {
  std::string page;
  ScanEntry{
      .kind = ScanKind::value, .key = "a", .version = {1, 2}, .value_bytes = 3, .value = "xyz"}
      .append_to(page);
  ScanEntry{.kind = ScanKind::dead, .key = "bb", .version = {3, 4}}.append_to(page);
  ScanEntry{.kind = ScanKind::long_value, .key = "c", .version = {5, 6}, .value_bytes = 70'000}
      .append_to(page);
  ScanEntry{.kind = ScanKind::passed, .key = std::string_view("d\0", 2)}.append_to(page);
  ScanEntry{.kind = ScanKind::value, .key = "e", .version = {7, 8}}.append_to(page);
  std::string_view rest = page;
  ScanEntry entry;
  REQUIRE(ScanEntry::take(rest, entry));
  CHECK(entry.kind == ScanKind::value);
  CHECK(entry.key == "a");
  CHECK(entry.version == Version{1, 2});
  CHECK(entry.value == "xyz");
  REQUIRE(ScanEntry::take(rest, entry));
  CHECK(entry.kind == ScanKind::dead);
  CHECK(entry.key == "bb");
  CHECK(entry.value.empty());
  REQUIRE(ScanEntry::take(rest, entry));
  CHECK(entry.kind == ScanKind::long_value);
  CHECK(entry.value_bytes == 70'000);
  CHECK(entry.value.empty());
  REQUIRE(ScanEntry::take(rest, entry));
  CHECK(entry.kind == ScanKind::passed);
  CHECK(entry.key == std::string_view("d\0", 2));
  REQUIRE(ScanEntry::take(rest, entry));
  CHECK(entry.key == "e");
  CHECK(entry.value.empty());
  CHECK(rest.empty());
}

TEST_CASE("an entry that makes no sense is none") {
  const ScanEntry sound{
      .kind = ScanKind::value, .key = "key", .version = {1, 2}, .value_bytes = 3, .value = "xyz"};
  const std::string page = page_of(sound);
  CHECK(is_entry(page));
  for (size_t bytes = 0; bytes < page.size(); ++bytes) {
    CHECK_FALSE(is_entry(std::string_view(page).substr(0, bytes)));
  }
  const auto with = [](std::string bytes, size_t at, char byte) {
    bytes[at] = byte;
    return bytes;
  };
  CHECK_FALSE(is_entry(with(page, 0, 0)));
  CHECK_FALSE(is_entry(with(page, 0, 5)));
  CHECK_FALSE(is_entry(with(page, 1, 0)));  // no key
  CHECK_FALSE(is_entry(with(page, 3, 1)));  // a key over the longest
  CHECK_FALSE(is_entry(with(page, 0, 2)));  // dead, with a value
  ScanEntry bare = sound;
  bare.version = {};
  CHECK_FALSE(is_entry(page_of(bare)));
  CHECK_FALSE(is_entry(page_of({.kind = ScanKind::passed, .key = "k", .version = {1, 1}})));
}
