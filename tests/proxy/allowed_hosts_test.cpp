#include "proxy/allowed_hosts.hpp"

#include <doctest/doctest.h>

#include <string_view>

using gyre::proxy::AllowedHosts;

namespace {

constexpr std::string_view ours[] = {
    "localhost",  "localhost:8000", "LocalHost:8000", "localhost.",       "a.localhost:1",
    "127.0.0.1",  "127.0.0.1:8000", "127.1.2.3",      "192.168.0.7:8000", "0.0.0.0",
    "[::1]:8000", "[::1]",          "[fe80::1]:8000", "255.255.255.255",  "",
};
constexpr std::string_view foreign[] = {
    "attacker.example",
    "attacker.example:8000",
    "localhost.attacker.example",
    "xlocalhost",
    "127.0.0.1.example:80",
    "127.0.0.1.",
    "127.0.0",
    "127.0.0.1.1",
    "256.0.0.1",
    "1.2.3.x",
    "2130706433",
    "0x7f000001",
    "127.0.0.0001",
    "cache",
    "host.docker.internal",
    ".",
};

}  // namespace

TEST_CASE("a listener on the loopback address serves its names and addresses only") {
  for (const char* address : {"127.0.0.1", "127.9.9.9", "::1"}) {
    const AllowedHosts hosts(address, "");
    for (const std::string_view host : ours) CHECK_MESSAGE(hosts.allow(host), host);
    for (const std::string_view host : foreign) CHECK_MESSAGE(!hosts.allow(host), host);
  }
}

TEST_CASE("any other listener serves every name, unless they are listed") {
  for (const char* address : {"0.0.0.0", "::", "10.0.0.1", "192.168.127.1", "::ffff:127.0.0.1"}) {
    const AllowedHosts hosts(address, "");
    for (const std::string_view host : ours) CHECK_MESSAGE(hosts.allow(host), host);
    for (const std::string_view host : foreign) CHECK_MESSAGE(hosts.allow(host), host);
  }
  const AllowedHosts all("127.0.0.1", "*");
  for (const std::string_view host : foreign) CHECK_MESSAGE(all.allow(host), host);
  for (const char* address : {"127.0.0.1", "0.0.0.0"}) {
    const AllowedHosts hosts(address, "Cache, cache.example.");
    for (const std::string_view host : ours) CHECK_MESSAGE(hosts.allow(host), host);
    for (const std::string_view host :
         {"cache", "CACHE:8000", "cache.example", "cache.example.:80", "Cache.Example"}) {
      CHECK_MESSAGE(hosts.allow(host), host);
    }
    for (const std::string_view host :
         {"attacker.example", "a.cache", "cache.example.net", "xcache", "cache,", "*"}) {
      CHECK_MESSAGE(!hosts.allow(host), host);
    }
  }
}

TEST_CASE("a list that is none is refused") {
  for (const char* list : {"a", "a,b", " a , b.c ", "*", "a_b,1.2.3.4", "a."}) {
    CHECK_MESSAGE(AllowedHosts::check(list), list);
  }
  for (const char* list : {"", ",", "a,", "a b", "http://a", "a:80", "*.a", "a,*", ".", "[::1]"}) {
    CHECK_MESSAGE(!AllowedHosts::check(list), list);
  }
}
