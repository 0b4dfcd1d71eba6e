// `gyre proxy` before a real Redis that speaks TLS, with certificates made here.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../tls/test_certificate.hpp"
#include "http_client.hpp"
#include "node_process.hpp"
#include "proxy_process.hpp"
#include "redis_process.hpp"

using namespace gyre::test;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto patience = std::chrono::seconds(60);

// An authority, what it has signed for Redis and for the proxy, and somebody else, as files.
class Files {
 public:
  Files() : path_(make_temporary_directory()) {
    const TestCertificate authority({.name = "test authority", .is_authority = true});
    const TestCertificate server(
        {.name = "redis", .alternatives = "DNS:localhost,DNS:redis.test,IP:127.0.0.1"}, &authority);
    const TestCertificate named({.name = "redis", .alternatives = "DNS:redis.test"}, &authority);
    const TestCertificate expired(
        {.name = "redis", .alternatives = "IP:127.0.0.1", .until_s = 1'700'000'000}, &authority);
    const TestCertificate client({.name = "gyre proxy"}, &authority);
    const TestCertificate stranger({.name = "stranger", .is_authority = true});
    write("authority", authority);
    write("server", server);
    write("named", named);
    write("expired", expired);
    write("client", client);
    write("stranger", stranger);
    std::ofstream(path("password")) << "hunter2\n";
  }
  ~Files() { remove_directory(path_); }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  void write(const std::string& name, const TestCertificate& certificate) const {
    std::ofstream(path(name + ".crt")) << certificate.certificate();
    std::ofstream(path(name + ".key")) << certificate.key();
  }
  std::string path_;
};

const Files& files() {
  static const Files made;
  return made;
}

// It is reached with TLS on one port and without on another.
struct TlsRedis {
  explicit TlsRedis(const std::string& certificate = "server", std::vector<std::string> more = {})
      : tls_port(listening_port_of_new_socket()),
        redis(arguments(tls_port, certificate, std::move(more))),
        direct(redis.port()) {}

  static std::vector<std::string> arguments(uint16_t tls_port, const std::string& certificate,
                                            std::vector<std::string> more) {
    std::vector<std::string> words = {"--tls-port",         std::to_string(tls_port),
                                      "--tls-cert-file",    files().path(certificate + ".crt"),
                                      "--tls-key-file",     files().path(certificate + ".key"),
                                      "--tls-ca-cert-file", files().path("authority.crt")};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  uint16_t tls_port;
  RedisProcess redis;
  RedisClient direct;
};

std::vector<std::string> trusting(std::vector<std::string> more = {}) {
  std::vector<std::string> flags = {"--redis-tls", "--redis-ca", files().path("authority.crt")};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

void until(const std::function<bool()>& holds) {
  const auto end = Clock::now() + patience;
  while (!holds() && Clock::now() < end) {
  }
  CHECK(holds());
}

// What /readyz says is wrong.
std::string trouble_of(const ProxyProcess& proxy) {
  HttpClient client(proxy.port());
  std::string body;
  until([&] {
    body = client.get("/readyz").body;
    return body.find("connecting") == std::string::npos;
  });
  CHECK(client.get("/v1/entity?id=k").status == 503);
  return body;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Reads, changes behind its back, writes, transactions and blocking commands, large values, losses.
void check_use(TlsRedis& tls, const ProxyProcess& proxy) {
  CHECK_MESSAGE(has(proxy.ready_line(), " coherent "), proxy.error_output());
  HttpClient http(proxy.port());
  RedisClient client(proxy.resp_port());
  const auto get = [&](const std::string& key) { return http.get("/v1/entity?id=" + key).body; };
  CHECK(client.run({"SET", "k", "1"}) == "OK");
  CHECK(get("k") == "1");
  tls.direct.run({"SET", "k", "2"});
  until([&] { return get("k") == "2"; });
  CHECK(http.get("/v1/entity?id=k").header("cache-status") == "gyre; hit");
  const std::string large = random_bytes(1, 3'000'000);
  CHECK(client.run({"SET", "large", large}) == "OK");
  CHECK(get("large") == large);
  CHECK(client.run({"MULTI"}) == "OK");
  CHECK(client.run({"INCR", "k"}) == "QUEUED");
  CHECK(client.run({"EXEC"}) == "3\n");
  CHECK(get("k") == "3");
  CHECK(client.run({"BLPOP", "list", "0.01"}) == "(nil)");
  std::vector<std::vector<std::string>> commands;
  for (int i = 0; i < 500; ++i) commands.push_back({"INCR", "n"});
  const std::vector<std::string> replies = client.pipeline(commands);
  CHECK(replies.back() == "500");
  CHECK(has(http.get("/stats").body, "\"tls\":true"));
}

}  // namespace

TEST_CASE("a Redis behind TLS is as coherent as one without, also with a password") {
  TlsRedis tls("server", {"--tls-auth-clients", "no", "--requirepass", "hunter2"});
  tls.direct.run({"AUTH", "hunter2"});
  const ProxyProcess proxy(tls.tls_port,
                           trusting({"--redis-password-file", files().path("password")}));
  check_use(tls, proxy);
  // A connection that is lost is made anew, with another handshake.
  HttpClient http(proxy.port());
  tls.direct.run({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  tls.direct.run({"SET", "k", "after"});
  until([&] { return http.get("/v1/entity?id=k").body == "after"; });
  CHECK_FALSE(has(proxy.error_output(), "hunter"));
}

TEST_CASE(
    "a Redis that wants a certificate gets it, and one that speaks TLS 1.2 only is spoken to") {
  TlsRedis tls("server", {"--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2"});
  {
    const ProxyProcess proxy(tls.tls_port,
                             trusting({"--redis-cert", files().path("client.crt"), "--redis-key",
                                       files().path("client.key"), "--redis-host", "localhost"}));
    check_use(tls, proxy);
  }
  const ProxyProcess without(tls.tls_port, trusting());
  const std::string trouble = trouble_of(without);
  CHECK_MESSAGE(has(trouble, "--redis-cert and --redis-key name one's files"), trouble);
}

TEST_CASE("without the certificate that Redis wants the proxy says so, in TLS 1.3 too") {
  TlsRedis tls("server", {"--tls-auth-clients", "yes"});
  const ProxyProcess proxy(tls.tls_port, trusting());
  const std::string trouble = trouble_of(proxy);
  CHECK_MESSAGE(has(trouble,
                    "a certificate of the client is wanted, and there is none; "
                    "--redis-cert and --redis-key name one's files"),
                trouble);
}

TEST_CASE("who is not trusted, has expired or goes by another name is not told the password") {
  const auto trouble = [](TlsRedis& tls, std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--redis-password-file", files().path("password")});
    return trouble_of(ProxyProcess(tls.tls_port, flags));
  };
  TlsRedis tls("server", {"--tls-auth-clients", "no"});
  std::string said = trouble(tls, {"--redis-tls", "--redis-ca", files().path("stranger.crt")});
  CHECK_MESSAGE(has(said,
                    "is signed by 'CN = test authority', which is not trusted; --redis-ca "
                    "names a file with who is"),
                said);
  said = trouble(tls, trusting({"--redis-server-name", "other.test"}));
  CHECK_MESSAGE(has(said,
                    "is not for 'other.test' but for 'localhost', 'redis.test', 127.0.0.1; "
                    "--redis-server-name tells which of these is meant"),
                said);
  TlsRedis expired("expired", {"--tls-auth-clients", "no"});
  said = trouble(expired, trusting());
  CHECK_MESSAGE(has(said, "has expired"), said);
  TlsRedis named("named", {"--tls-auth-clients", "no"});
  said = trouble(named, trusting());
  CHECK_MESSAGE(has(said, "is not for '127.0.0.1' but for 'redis.test'"), said);
  {
    ProxyProcess proxy(named.tls_port, trusting({"--redis-server-name", "redis.test"}));
    check_use(named, proxy);
  }
  {
    ProxyProcess proxy(expired.tls_port, {"--redis-tls", "--redis-tls-insecure"});
    check_use(expired, proxy);
    CHECK(has(proxy.error_output(), "--redis-tls-insecure trusts whoever answers"));
  }
}

TEST_CASE("TLS where there is none, and none where there is, are told apart") {
  TlsRedis tls("server", {"--tls-auth-clients", "no"});
  std::string said = trouble_of(ProxyProcess(tls.tls_port, {}));
  CHECK_MESSAGE(has(said, "does it expect TLS (--redis-tls)?"), said);
  const ProxyProcess wrong(tls.redis.port(), trusting());
  until([&] {
    said = HttpClient(wrong.port()).get("/readyz").body;
    return has(said, "TLS handshake");
  });
  CHECK_MESSAGE(has(said, "TLS?"), said);
}

TEST_CASE("files that are not there, or not what they should be, refuse the start") {
  const auto refused = [](const std::vector<std::string>& flags) {
    NodeProcess proxy({"--admin", "off"}, false);
    proxy.command = "proxy";
    proxy.flags.insert(proxy.flags.end(), flags.begin(), flags.end());
    CHECK(proxy.start_refused().code == 1);
    return proxy.error_output();
  };
  std::string said = refused({"--redis-tls", "--redis-ca", files().path("nothing")});
  CHECK_MESSAGE(has(said, "--redis-ca " + files().path("nothing")), said);
  said = refused({"--redis-tls", "--redis-ca", files().path("password")});
  CHECK_MESSAGE(has(said, "there is no certificate (PEM)"), said);
  said = refused(trusting(
      {"--redis-cert", files().path("client.crt"), "--redis-key", files().path("server.key")}));
  CHECK_MESSAGE(has(said, "the private key is not the certificate's"), said);
  CHECK_FALSE(has(said, "PRIVATE KEY"));
}
