// Payloads of the peer RPC: what is encoded comes back, and anything cut, longer or out of range is
// no message.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cluster/handoff_messages.hpp"
#include "cluster/modify_messages.hpp"
#include "cluster/replica_messages.hpp"

using namespace gyre;
using namespace gyre::cluster;

namespace {

// No prefix of a message is one, nor is it with a byte more.
template <class Decode>
void check_strict(const std::string& payload, Decode decode) {
  CHECK(decode(payload));
  for (size_t size = 0; size < payload.size(); ++size) {
    CHECK_FALSE(decode(std::string_view(payload).substr(0, size)));
  }
  CHECK_FALSE(decode(payload + '\0'));
}

std::string encode(const PutRequest& put) {
  char head[PutRequest::head_bytes];
  put.encode_head(head);
  return std::string(head, sizeof head).append(put.key).append(put.value);
}

}  // namespace

TEST_CASE("a write carries its replicas, its coordinator and whether it is a repair") {
  for (const bool repair : {false, true}) {
    for (const bool tombstone : {false, true}) {
      const PutRequest put{.tombstone = tombstone,
                           .repair = repair,
                           .from = 5,
                           .coordinator = 0xabcd,
                           .version = {7, 9},
                           .expire_at_ms = tombstone ? 0u : 77u,
                           .as_of = repair ? 0x0102030405060708u : 0u,
                           .key = "key",
                           .value = tombstone ? "" : "value"};
      const std::string payload = encode(put);
      PutRequest again;
      REQUIRE(PutRequest::decode(payload, again));
      CHECK(again.tombstone == tombstone);
      CHECK(again.repair == repair);
      CHECK(again.from == 5);
      CHECK(again.coordinator == 0xabcd);
      CHECK(again.version == put.version);
      CHECK(again.expire_at_ms == put.expire_at_ms);
      CHECK(again.as_of == put.as_of);
      CHECK(again.key == put.key);
      CHECK(again.value == put.value);
    }
  }
}

TEST_CASE("a write with replicas out of range, an unknown kind or a tombstone's value is none") {
  PutRequest put{.version = {1, 1}, .key = "k", .value = "v"};
  PutRequest again;
  REQUIRE(PutRequest::decode(encode(put), again));
  for (const int from : {0, 6, 255}) {
    put.from = static_cast<uint8_t>(from);
    CHECK_FALSE(PutRequest::decode(encode(put), again));
  }
  put.from = 1;
  std::string payload = encode(put);
  payload[0] = 3;
  CHECK_FALSE(PutRequest::decode(payload, again));
  payload[0] = 2;
  CHECK_FALSE(PutRequest::decode(payload, again));
  put.version = {};
  CHECK_FALSE(PutRequest::decode(encode(put), again));
  put = {.version = {1, 1}, .as_of = 1, .key = "k", .value = "v"};  // only a repair was read before
  CHECK_FALSE(PutRequest::decode(encode(put), again));
  put.repair = true;
  CHECK(PutRequest::decode(encode(put), again));
}

TEST_CASE("notices come back as they were, and nothing like them does") {
  Notices notices;
  notices.confirmed = {{1, {2, 3}}, {UINT64_MAX, {4, 5}}};
  notices.missed = {{"one", {6, 7}, {1, 2}, 2}, {std::string(300, 'x'), {8, 9}, {3}, 1}};
  Notices again;
  REQUIRE(Notices::decode(notices.encode(), again));
  REQUIRE(again.confirmed.size() == 2);
  CHECK(again.confirmed[1].shard_hash == UINT64_MAX);
  CHECK(again.confirmed[1].version == Version{4, 5});
  REQUIRE(again.missed.size() == 2);
  CHECK(again.missed[0].key == "one");
  CHECK(again.missed[0].count == 2);
  CHECK(again.missed[0].nodes[1] == 2);
  CHECK(again.missed[1].version == Version{8, 9});
  check_strict(notices.encode(), [](std::string_view bytes) {
    Notices out;
    return Notices::decode(bytes, out);
  });
  std::string many = notices.encode();
  many[3] = '\x7f';  // a count that would take gigabytes
  CHECK_FALSE(Notices::decode(many, again));
}

TEST_CASE("offers and their answers come back as they were") {
  const std::vector<KeyVersion> entries = {{"a", {1, 2}}, {std::string("\0\n", 2), {3, 4}}};
  std::vector<KeyVersion> again;
  REQUIRE(decode_offer(encode_offer(entries), again));
  REQUIRE(again.size() == 2);
  CHECK(again[1].key == entries[1].key);
  CHECK(again[1].version == entries[1].version);
  check_strict(encode_offer(entries), [](std::string_view bytes) {
    std::vector<KeyVersion> out;
    return decode_offer(bytes, out);
  });
  const std::vector<bool> lacks = {true, false, true};
  std::vector<bool> lacked;
  REQUIRE(decode_offer_reply(encode_offer_reply(lacks), lacked));
  CHECK(lacked == lacks);
  CHECK_FALSE(decode_offer_reply("\2", lacked));
}

TEST_CASE("joins and their answers come back as they were") {
  JoinRequest request{.state = JoinState::rebuilding};
  request.known[0] = 7;
  request.known[15] = 0xff;
  JoinRequest again;
  REQUIRE(JoinRequest::decode(request.encode(), again));
  CHECK(again.state == request.state);
  CHECK(again.known == request.known);
  check_strict(request.encode(), [](std::string_view bytes) {
    JoinRequest out;
    return JoinRequest::decode(bytes, out);
  });
  const JoinReply reply{.verdict = JoinVerdict::other, .owes = true};
  JoinReply replied;
  REQUIRE(JoinReply::decode(reply.encode(), replied));
  CHECK(replied.verdict == reply.verdict);
  CHECK(replied.owes);
  check_strict(reply.encode(), [](std::string_view bytes) {
    JoinReply out;
    return JoinReply::decode(bytes, out);
  });
  std::string odd = reply.encode();
  odd[1] = 2;
  CHECK_FALSE(JoinReply::decode(odd, replied));
}

TEST_CASE("a command that reads and writes carries what it means and its words") {
  const ModifyRequest modify{.kind = 200,
                             .protocol = 3,
                             .hops = 2,
                             .flags = 0x01020304,
                             .number = -5,
                             .expire_at_ms = 77,
                             .value_bytes_max = 1u << 20,
                             .key = "key",
                             .words = {"a", "", "word"}};
  const std::string payload = modify.encode();
  ModifyRequest again;
  check_strict(payload,
               [&](std::string_view bytes) { return ModifyRequest::decode(bytes, again); });
  REQUIRE(ModifyRequest::decode(payload, again));
  CHECK(again.kind == 200);
  CHECK(again.protocol == 3);
  CHECK(again.hops == 2);
  CHECK(again.flags == 0x01020304);
  CHECK(again.number == -5);
  CHECK(again.expire_at_ms == 77);
  CHECK(again.value_bytes_max == 1u << 20);
  CHECK(again.key == "key");
  CHECK(again.words == modify.words);
}

TEST_CASE("a command of another version, protocol or way, or without a key, is none") {
  ModifyRequest again;
  const std::string payload = ModifyRequest{.key = "key", .words = {}}.encode();
  REQUIRE(ModifyRequest::decode(payload, again));
  CHECK_FALSE(ModifyRequest::is_other_version(payload));
  std::string other = payload;
  other[0] = 2;
  CHECK_FALSE(ModifyRequest::decode(other, again));
  CHECK(ModifyRequest::is_other_version(other));
  for (const auto& [offset, byte] : {std::pair{2, 1}, {2, 4}, {3, 0}, {3, 3}}) {
    other = payload;
    other[static_cast<size_t>(offset)] = static_cast<char>(byte);
    CHECK_FALSE(ModifyRequest::decode(other, again));
  }
  other = payload;
  ModifyRequest::set_hops(other, 2);
  REQUIRE(ModifyRequest::decode(other, again));
  CHECK(again.hops == 2);
  CHECK_FALSE(ModifyRequest::decode(ModifyRequest{.words = {}}.encode(), again));
}

TEST_CASE("the answer to a command says whether it changed the key only if it was carried out") {
  char head[ModifyReply::head_bytes];
  ModifyReply{.outcome = ModifyOutcome::done, .changed = true, .answer = ":1"}.encode_head(head);
  const std::string payload = std::string(head, sizeof head) + ":1";
  ModifyReply again;
  REQUIRE(ModifyReply::decode(payload, again));
  CHECK(again.outcome == ModifyOutcome::done);
  CHECK(again.changed);
  CHECK(again.answer == ":1");
  for (size_t size = 0; size < sizeof head; ++size) {
    CHECK_FALSE(ModifyReply::decode(std::string_view(payload).substr(0, size), again));
  }
  for (const auto& [offset, byte] : {std::pair{0, 0}, {0, 4}, {0, 2}, {1, 2}, {2, 1}, {7, 1}}) {
    std::string other = payload;
    other[static_cast<size_t>(offset)] = static_cast<char>(byte);
    CHECK_FALSE(ModifyReply::decode(other, again));
  }
}
