#include "store/write_record.hpp"

#include <doctest/doctest.h>

#include <string>

#include "base/limits.hpp"

using namespace gyre;

namespace {

constexpr uint64_t first_seq = 100;

LogEntry sample(LogEntryType type) {
  LogEntry entry;
  entry.type = type;
  entry.record_id = 300;
  entry.seq = 107;
  entry.kind = Kind::value;
  entry.version = {0x1122334455667788, 0x99aabbccddeeff00};
  entry.expire_at_ms = 1'700'000'000'123;
  entry.key_bytes = 3;
  entry.value_bytes = 9;
  return entry;
}

std::string encoded(const LogEntry& entry, std::string_view part) {
  std::string bytes(log_entry_overhead_bytes_max, '\0');
  char* end = encode_entry_head(bytes.data(), entry, first_seq, part.size());
  bytes.resize(static_cast<size_t>(end - bytes.data()));
  return bytes.append(part);
}

bool decodes(std::string_view bytes, LogEntry& entry) {
  Decoder in(bytes);
  return decode_entry(in, first_seq, entry);
}

std::string_view part_of(LogEntryType type) {
  return type == LogEntryType::whole ? "keyvalue-data" : "keyval";
}

}  // namespace

TEST_CASE("every type of entry comes back as it was written") {
  for (const auto type :
       {LogEntryType::whole, LogEntryType::first, LogEntryType::middle, LogEntryType::last}) {
    LogEntry in = sample(type);
    in.value_bytes = 10;
    const std::string_view part = part_of(type);
    LogEntry out;
    const std::string bytes = encoded(in, part);
    Decoder decoder(bytes);
    REQUIRE(decode_entry(decoder, first_seq, out));
    CHECK(decoder.remaining() == 0);
    CHECK(out.type == type);
    CHECK(out.part == part);
    if (type != LogEntryType::whole) CHECK(out.record_id == 300);
    if (type == LogEntryType::whole || type == LogEntryType::last) CHECK(out.seq == 107);
    if (type == LogEntryType::whole || type == LogEntryType::first) {
      CHECK(out.kind == Kind::value);
      CHECK(out.version == in.version);
      CHECK(out.expire_at_ms == in.expire_at_ms);
      CHECK(out.key_bytes == 3);
      CHECK(out.value_bytes == 10);
    }
  }
}

TEST_CASE("an entry that is cut anywhere is refused") {
  for (const auto type :
       {LogEntryType::whole, LogEntryType::first, LogEntryType::middle, LogEntryType::last}) {
    LogEntry in = sample(type);
    in.value_bytes = 10;
    const std::string bytes = encoded(in, part_of(type));
    LogEntry out;
    for (size_t size = 0; size < bytes.size(); ++size)
      CHECK_FALSE(decodes(bytes.substr(0, size), out));
  }
}

TEST_CASE("an entry of no known type or kind is refused") {
  LogEntry in = sample(LogEntryType::whole);
  in.value_bytes = 10;
  std::string bytes = encoded(in, part_of(LogEntryType::whole));
  LogEntry out;
  REQUIRE(decodes(bytes, out));
  for (const int tag : {0x00, 0x10, 0x15, 0x1f, 0x01, 0x31, 0x41, 0xf1, 0x13, 0x14}) {
    bytes[0] = static_cast<char>(tag);
    CAPTURE(tag);
    CHECK_FALSE(decodes(bytes, out));
  }
}

TEST_CASE("an entry over a limit is refused before anything is made of its size") {
  LogEntry out;
  LogEntry in = sample(LogEntryType::first);
  in.key_bytes = limits::key_bytes_max + 1;
  CHECK_FALSE(decodes(encoded(in, "part"), out));
  in = sample(LogEntryType::first);
  in.value_bytes = limits::value_bytes_max_hard + 1;
  CHECK_FALSE(decodes(encoded(in, "part"), out));
  in.value_bytes = limits::value_bytes_max_hard;
  CHECK(decodes(encoded(in, "part"), out));
}

TEST_CASE("a part is never empty, and a first part never everything") {
  LogEntry out;
  LogEntry in = sample(LogEntryType::first);
  CHECK_FALSE(decodes(encoded(in, ""), out));
  CHECK_FALSE(decodes(encoded(in, "123456789012"), out));
  CHECK(decodes(encoded(in, "12345678901"), out));
  CHECK_FALSE(decodes(encoded(sample(LogEntryType::middle), ""), out));
  CHECK_FALSE(decodes(encoded(sample(LogEntryType::last), ""), out));
}

TEST_CASE("a seq that runs over 64 bits is refused") {
  LogEntry in = sample(LogEntryType::last);
  in.seq = ~uint64_t{0};
  const std::string bytes = encoded(in, "x");
  LogEntry out;
  Decoder ok(bytes);
  CHECK(decode_entry(ok, first_seq, out));
  Decoder over(bytes);
  CHECK_FALSE(decode_entry(over, first_seq + 1, out));
}

TEST_CASE("the head of an entry stays within what is reserved for it") {
  LogEntry in = sample(LogEntryType::first);
  in.record_id = in.expire_at_ms = in.key_bytes = in.value_bytes = ~uint64_t{0};
  std::string bytes(200, '\0');
  const char* end = encode_entry_head(bytes.data(), in, first_seq, ~size_t{0});
  CHECK(static_cast<size_t>(end - bytes.data()) <= log_entry_overhead_bytes_max);
}
