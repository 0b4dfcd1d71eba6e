// Arbitrary bytes as what nodes ask each other about keys, commands and ranges: nothing is read beyond them, and
// what is taken for a message is written again as the same bytes.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "cluster/modify_messages.hpp"
#include "cluster/replica_messages.hpp"
#include "cluster/scan_messages.hpp"
#include "fuzz.hpp"

namespace {

using namespace gyre::cluster;

template <class Message, size_t head_bytes>
std::string head_of(const Message& message) {
  char head[head_bytes];
  message.encode_head(head);
  return std::string(head, sizeof head);
}

void check_keys(std::string_view payload) {
  PutRequest put;
  if (PutRequest::decode(payload, put)) {
    const std::string head = head_of<PutRequest, PutRequest::head_bytes>(put);
    FUZZ_CHECK(head + std::string(put.key) + std::string(put.value) == payload);
  }
  PutReply stored;
  if (PutReply::decode(payload, stored)) {
    char bytes[PutReply::bytes];
    stored.encode(bytes);
    FUZZ_CHECK(std::string_view(bytes, sizeof bytes) == payload);
  }
  GetRequest get;
  if (GetRequest::decode(payload, get)) {
    const std::string head = head_of<GetRequest, GetRequest::head_bytes>(get);
    FUZZ_CHECK(head + std::string(get.key) == payload);
  }
  GetReply found;
  if (GetReply::decode(payload, found)) {
    const std::string head = head_of<GetReply, GetReply::head_bytes>(found);
    FUZZ_CHECK(head + std::string(found.value) == payload);
  }
}

void check_commands(std::string_view payload) {
  ModifyRequest modify;
  if (ModifyRequest::decode(payload, modify)) FUZZ_CHECK(modify.encode() == payload);
  ModifyReply reply;
  if (ModifyReply::decode(payload, reply)) {
    const std::string head = head_of<ModifyReply, ModifyReply::head_bytes>(reply);
    FUZZ_CHECK(head + std::string(reply.answer) == payload);
  }
}

void check_range(std::string_view payload) {
  ScanRequest scan;
  if (!ScanRequest::decode(payload, scan)) return;
  const std::string head = head_of<ScanRequest, ScanRequest::head_bytes>(scan);
  FUZZ_CHECK(head + std::string(scan.start) + std::string(scan.end) == payload);
}

void check_page(std::string_view page) {
  while (!page.empty()) {
    const std::string_view before = page;
    ScanEntry entry;
    if (!ScanEntry::take(page, entry)) return;
    std::string again;
    entry.append_to(again);
    FUZZ_CHECK(again == before.substr(0, before.size() - page.size()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto exact = std::make_unique<char[]>(size);
  std::copy_n(reinterpret_cast<const char*>(data), size, exact.get());
  const std::string_view bytes(exact.get(), size);
  check_keys(bytes);
  check_commands(bytes);
  check_range(bytes);
  check_page(bytes);
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const gyre::Version version{77, 88};
  std::vector<std::string> seeds;
  seeds.push_back(head_of<PutRequest, PutRequest::head_bytes>(
                      {.from = 3, .version = version, .expire_at_ms = 9, .key = "key"}) +
                  "keyvalue");
  char stored[PutReply::bytes];
  PutReply{.outcome = WriteOutcome::superseded, .newest = version}.encode(stored);
  seeds.emplace_back(stored, sizeof stored);
  seeds.push_back(
      head_of<GetRequest, GetRequest::head_bytes>({.value_bytes_max = 100, .key = "key"}) + "key");
  seeds.push_back(head_of<GetReply, GetReply::head_bytes>(
                      {.state = ReadState::live, .version = version, .value_bytes = 5}) +
                  "value");
  seeds.push_back(
      ModifyRequest{.kind = 4, .number = 7, .key = "key", .words = {"a", "b"}}.encode());
  seeds.push_back(head_of<ModifyReply, ModifyReply::head_bytes>(
                      {.outcome = ModifyOutcome::done, .changed = true}) +
                  ":1\r\n");
  ScanRequest scan{.start = "from", .end = "to", .now_ms = 99};
  scan.slots.add(5);
  seeds.push_back(head_of<ScanRequest, ScanRequest::head_bytes>(scan) + "fromto");
  scan.keys_only = true;
  seeds.push_back(head_of<ScanRequest, ScanRequest::head_bytes>(scan) + "fromto");
  std::string page;
  ScanEntry{
      .kind = ScanKind::value, .key = "a", .version = version, .value_bytes = 5, .value = "value"}
      .append_to(page);
  ScanEntry{.kind = ScanKind::dead, .key = "b", .version = version}.append_to(page);
  ScanEntry{.kind = ScanKind::long_value, .key = "c", .version = version, .value_bytes = 70'000}
      .append_to(page);
  ScanEntry{.kind = ScanKind::passed, .key = "d"}.append_to(page);
  seeds.push_back(page);
  return seeds;
}
