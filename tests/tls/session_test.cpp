#include "tls/session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "tls_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using tls::Context;
using tls::Role;
using tls::Session;
using tls::Settings;

namespace {

constexpr uint64_t now_us = 1'700'000'000'000'000;

const TestTrust& trust() {
  static const TestTrust made;
  return made;
}

Settings client_settings() {
  return {.authorities = trust().authority.certificate(),
          .remedies = {"name another", "trust another", "show one", "ask elsewhere"}};
}
Settings server_settings() {
  return {.role = Role::server,
          .certificate = trust().server.certificate(),
          .key = trust().server.key()};
}

std::unique_ptr<Context> make(const Settings& settings) {
  auto made = Context::make(settings);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().detail));
  return std::move(*made);
}

// Two sessions, and what is on its way between them.
struct Pair {
  explicit Pair(const Settings& client_with = client_settings(),
                const Settings& server_with = server_settings(),
                std::string_view name = "redis.test", uint64_t wall_us = now_us)
      : client_context(make(client_with)),
        server_context(make(server_with)),
        client(*client_context, name, wall_us),
        server(*server_context, "", wall_us) {}

  // Everything that has come is taken, in pieces of `piece`. What fails ends it.
  std::string take(Session& session, std::string& wire, bool& ready) {
    std::string plaintext;
    const std::string bytes = std::exchange(wire, "");
    for (size_t at = 0; at <= bytes.size();) {
      const std::string_view next = std::string_view(bytes).substr(at, piece);
      session.supply(next);
      at += std::max<size_t>(next.size(), 1);
      if (!ready) {
        Result<bool> done = session.handshake();
        if (!done) {
          failure = done.error().detail;
          return plaintext;
        }
        ready = *done;
      }
      while (ready) {
        Result<std::string_view> got = session.read();
        if (!got) {
          failure = got.error().detail;
          return plaintext;
        }
        if (got->empty()) break;
        plaintext += *got;
      }
      CHECK(session.unread().empty());
    }
    return plaintext;
  }
  void move_output() {
    to_server += client.output();
    client.output_taken();
    to_client += server.output();
    server.output_taken();
  }
  // Until nothing is on its way, or something has failed.
  void run() {
    for (int turn = 0; turn < 20 && failure.empty(); ++turn) {
      client_got += take(client, to_client, client_ready);
      move_output();
      if (!failure.empty()) break;
      server_got += take(server, to_server, server_ready);
      move_output();
      if (to_client.empty() && to_server.empty() && turn > 0) break;
    }
  }
  void send(Session& from, std::string_view bytes) {
    while (!bytes.empty()) {
      REQUIRE(from.write(bytes.substr(0, tls::record_bytes_max)));
      bytes.remove_prefix(std::min(bytes.size(), tls::record_bytes_max));
      move_output();
    }
  }

  std::unique_ptr<Context> client_context;
  std::unique_ptr<Context> server_context;
  Session client;
  Session server;
  size_t piece = SIZE_MAX;
  std::string to_client;
  std::string to_server;
  bool client_ready = false;
  bool server_ready = false;
  std::string client_got;
  std::string server_got;
  std::string failure;
};

std::string pattern(size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  for (size_t i = 0; i < size_bytes; ++i) bytes[i] = static_cast<char>(i * 131 + i / 251);
  return bytes;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("what is written comes out at the other side, however it was cut on its way") {
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{1500}, SIZE_MAX}) {
    CAPTURE(piece);
    Pair pair;
    pair.piece = piece;
    pair.run();
    REQUIRE(pair.failure == "");
    CHECK(pair.client.version() == "TLSv1.3");
    const size_t most = piece == 1 ? 40'000 : 1u << 20;
    for (size_t size = 1; size <= most; size = size * 5 + 3) {
      const std::string question = pattern(size);
      const std::string answer = pattern(size / 2 + 1);
      pair.client_got.clear();
      pair.server_got.clear();
      pair.send(pair.client, question);
      if (size > 64) CHECK(pair.to_server.find(question.substr(0, 64)) == std::string::npos);
      pair.run();
      pair.send(pair.server, answer);
      pair.run();
      REQUIRE(pair.failure == "");
      CHECK(pair.server_got == question);
      CHECK(pair.client_got == answer);
    }
  }
}

TEST_CASE("a side that ends says so, and the other one can tell that from a cut") {
  Pair pair;
  pair.run();
  pair.send(pair.server, "last words");
  pair.server.close();
  pair.move_output();
  pair.run();
  CHECK(pair.client_got == "last words");
  CHECK(pair.client.ended());
  CHECK_FALSE(pair.server.ended());
}

TEST_CASE("a certificate has to be valid, for this name, and signed by who is trusted") {
  const TestCertificate other({.name = "other authority", .is_authority = true});
  const TestCertificate expired(
      {.name = "server", .alternatives = "DNS:redis.test", .until_s = now_us / 1'000'000 - 1},
      &trust().authority);
  const TestCertificate early(
      {.name = "server", .alternatives = "DNS:redis.test", .from_s = now_us / 1'000'000 + 1},
      &trust().authority);
  const TestCertificate last_second({.name = "server",
                                     .alternatives = "DNS:*.redis.test",
                                     .from_s = now_us / 1'000'000,
                                     .until_s = now_us / 1'000'000 + 1},
                                    &trust().authority);
  const TestCertificate by_name_only({.name = "redis.test"}, &trust().authority);
  const TestCertificate self_signed({.name = "redis.test", .alternatives = "DNS:redis.test"});
  const TestCertificate forged({.name = "server", .alternatives = "DNS:redis.test"}, &other);
  struct Case {
    const TestCertificate& shown;
    std::string name;
    std::string complaint;  // none: accepted
    const TestCertificate* trusted = nullptr;
  };
  const Case cases[] = {
      {trust().server, "redis.test", ""},
      {trust().server, "REDIS.test", ""},
      {trust().server, "10.0.0.2", ""},
      {last_second, "a.redis.test", ""},
      {by_name_only, "redis.test", ""},
      {self_signed, "redis.test", "", &self_signed},
      {trust().server, "redis.test.", "is not for"},
      {trust().server, "edis.test",
       "the certificate is not for 'edis.test' but for 'redis.test', "
       "10.0.0.2; name another"},
      {trust().server, "10.0.0.3", "is not for '10.0.0.3'"},
      {last_second, "a.b.redis.test", "is not for"},
      {last_second, "redis.test", "is not for"},
      {expired, "redis.test", "has expired"},
      {early, "redis.test", "is not valid yet"},
      {trust().server, "", "no name"},
      {trust().server, std::string("redis.test\0.other", 17), "no name"},
      {forged, "redis.test",
       "is signed by 'CN = other authority', which is not trusted; "
       "trust another"},
      {self_signed, "redis.test", "is signed by 'CN = redis.test', which is not trusted"},
      {trust().server, "redis.test", "is signed by 'CN = test authority'", &other},
  };
  for (const Case& one : cases) {
    CAPTURE(one.name);
    CAPTURE(one.complaint);
    Settings client = client_settings();
    if (one.trusted != nullptr) client.authorities = one.trusted->certificate();
    Settings server = server_settings();
    server.certificate = one.shown.certificate();
    server.key = one.shown.key();
    {
      Pair pair(client, server, one.name);
      pair.run();
      CHECK(pair.client_ready == one.complaint.empty());
      if (one.complaint.empty()) {
        CHECK(pair.failure == "");
      } else {
        CHECK_MESSAGE(has(pair.failure, one.complaint), pair.failure);
        CHECK_FALSE(pair.server_ready);
      }
    }
    client.verify = false;
    Pair unsure(client, server, one.name);
    unsure.run();
    CHECK(unsure.client_ready);
    CHECK(unsure.failure == "");
  }
}

TEST_CASE("a server that wants a certificate of the client tells who has none, or a wrong one") {
  const TestCertificate mine({.name = "client"}, &trust().authority);
  const TestCertificate stranger({.name = "stranger"});
  Settings server = server_settings();
  server.authorities = trust().authority.certificate();
  const auto outcome = [&](const TestCertificate* shown) {
    Settings client = client_settings();
    if (shown != nullptr) {
      client.certificate = shown->certificate();
      client.key = shown->key();
    }
    Pair pair(client, server);
    pair.run();
    const std::string at_server = pair.failure;
    // The client has ended its handshake, and learns of it from what comes then.
    pair.failure.clear();
    pair.client_got = pair.take(pair.client, pair.to_client, pair.client_ready);
    return std::pair(at_server, pair.failure);
  };
  CHECK(outcome(&mine) == std::pair(std::string(), std::string()));
  const auto [without_server, without] = outcome(nullptr);
  CHECK(has(without_server, "a certificate of the client is wanted"));
  CHECK_MESSAGE(has(without, "a certificate of the client is wanted, and there is none; show one"),
                without);
  const auto [wrong_server, wrong] = outcome(&stranger);
  CHECK(has(wrong_server, "not trusted"));
  CHECK_MESSAGE(has(wrong, "does not trust who signed our certificate"), wrong);
}

TEST_CASE("an answer that is no TLS is told from one that is") {
  for (const std::string_view answer :
       {"-ERR unknown command\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "+PONG\r\n",
        "\0\0\0\0\0\0"}) {
    CAPTURE(answer);
    Pair pair;
    CHECK_FALSE(*pair.client.handshake());
    pair.client.output_taken();
    pair.client.supply(answer.size() < 5 ? std::string_view("\0\0\0\0\0\0", 6) : answer);
    const Result<bool> done = pair.client.handshake();
    REQUIRE_FALSE(done);
    CHECK_MESSAGE(has(done.error().detail, "what came is not TLS; ask elsewhere"),
                  done.error().detail);
  }
}

TEST_CASE("a byte that is changed on its way is never a wrong plaintext") {
  size_t noticed = 0;
  size_t handshakes = 0;
  for (size_t at = 0; at < 1200; at += 17) {
    Pair pair;
    static_cast<void>(pair.client.handshake());
    pair.move_output();
    static_cast<void>(pair.take(pair.server, pair.to_server, pair.server_ready));
    pair.move_output();
    if (at >= pair.to_client.size()) break;
    ++handshakes;
    pair.to_client[at] = static_cast<char>(pair.to_client[at] ^ (1 << (at % 8)));
    static_cast<void>(pair.take(pair.client, pair.to_client, pair.client_ready));
    // A length that was made larger waits for more.
    noticed += !pair.client_ready;
  }
  CHECK(handshakes > 30);
  CHECK(noticed == handshakes);
  const std::string words = pattern(500);
  for (size_t at = 0; at < 500; at += 3) {
    Pair pair;
    pair.run();
    pair.send(pair.server, words);
    REQUIRE(pair.to_client.size() > 500);
    pair.to_client[at] = static_cast<char>(pair.to_client[at] ^ 1);
    pair.run();
    CHECK(pair.client_got == "");
  }
}

TEST_CASE("keys are changed after so many records, and nobody notices") {
  Settings client = client_settings();
  client.records_per_key = 4;
  Pair pair(client);
  pair.run();
  std::string sent;
  for (int i = 0; i < 50; ++i) {
    const std::string words = pattern(static_cast<size_t>(i) * 37 + 1);
    pair.send(pair.client, words);
    sent += words;
    pair.run();
    pair.send(pair.server, words);
    pair.run();
    REQUIRE(pair.failure == "");
  }
  CHECK(pair.client.key_updates() == 12);
  CHECK(pair.server_got == sent);
  CHECK(pair.client_got == sent);
}

TEST_CASE("ciphertext is kept when the buffer it came in has to go") {
  Pair pair;
  pair.run();
  pair.send(pair.server, "one");
  pair.send(pair.server, "two");
  std::string buffer = std::exchange(pair.to_client, "");
  pair.client.supply(buffer);
  CHECK(*pair.client.read() == "one");
  pair.client.keep_unread();
  std::ranges::fill(buffer, 'x');
  CHECK(*pair.client.read() == "two");
  CHECK(*pair.client.read() == "");
}

TEST_CASE("texts that are no certificates, or no pair, are refused with the reason") {
  const TestCertificate other({.name = "other"});
  const auto complaint = [](const Settings& settings) {
    auto made = Context::make(settings);
    return made ? std::string("none") : made.error().detail;
  };
  Settings settings = client_settings();
  settings.authorities = "hello";
  CHECK(complaint(settings) == "there is no certificate (PEM)");
  settings.authorities = client_settings().authorities + "-----BEGIN CERTIFICATE-----\nAAAA\n";
  CHECK(has(complaint(settings), "a certificate can't be read"));
  settings = client_settings();
  settings.authorities += other.certificate() + "and a comment\n";
  CHECK(complaint(settings) == "none");
  settings = client_settings();
  settings.certificate = other.certificate();
  settings.key = trust().server.key();
  CHECK(has(complaint(settings), "the private key is not the certificate's"));
  settings.key = other.key_with_password("secret");
  CHECK(has(complaint(settings), "the private key can't be read (PEM, without a password)"));
  settings.key = "hello";
  CHECK(has(complaint(settings), "the private key can't be read"));
  settings.certificate = "hello";
  CHECK(complaint(settings) == "there is no certificate (PEM)");
}

TEST_CASE("with a generator that repeats itself, a connection does byte for byte") {
  const auto bytes_of = [](uint64_t seed) {
    const RepeatableRandom random(seed);
    Pair pair;
    static_cast<void>(pair.client.handshake());
    std::string all(pair.client.output());
    pair.run();
    pair.send(pair.client, "words");
    all += pair.to_server;
    pair.send(pair.server, "more");
    return all + pair.to_client;
  };
  static_cast<void>(trust());  // whose keys are drawn once
  const std::string once = bytes_of(1);
  CHECK(once.size() > 200);
  CHECK(bytes_of(1) == once);
  CHECK(bytes_of(2) != once);
}
