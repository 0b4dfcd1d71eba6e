#include "proxy/policy.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace gyre;
using namespace gyre::proxy;

namespace {
const Nanos now = seconds(500);

std::string parse_problem(std::string_view text) {
  auto policies = parse_policies(text, Policy{});
  return policies ? "" : policies.error().detail;
}
}  // namespace

TEST_CASE("a time to live is the policy's or the origin's, whichever ends first") {
  Policy policy;
  policy.ttl_max = seconds(10);
  CHECK(lifetime_of(policy, false, -1, now, now, 0).fresh_until == now + seconds(10));
  CHECK(lifetime_of(policy, false, 3000, now, now, 0).fresh_until == now + seconds(3));
  CHECK(lifetime_of(policy, false, 30'000, now, now, 0).fresh_until == now + seconds(10));
  CHECK(lifetime_of(policy, false, 0, now, now, 0).fresh_until == now);
}

TEST_CASE("the origin's time counts from when it was asked") {
  const Lifetime lifetime = lifetime_of(Policy{}, false, 100, now - milliseconds(40), now, 0);
  CHECK(lifetime.fresh_until == now + milliseconds(60));
  CHECK(lifetime_of(Policy{}, false, 100, now - seconds(1), now, 0).fresh_until == now);
}

TEST_CASE("what came together doesn't end together, and never later") {
  Policy policy;
  policy.ttl_max = seconds(10);
  Nanos least = nanos_never;
  Nanos most = 0;
  for (uint64_t random = 0; random < 1'000'000'000'000; random += 999'999'937) {
    const Nanos end = lifetime_of(policy, false, -1, now, now, random).fresh_until;
    least = std::min(least, end);
    most = std::max(most, end);
  }
  CHECK(most <= now + seconds(10));
  CHECK(most > now + milliseconds(9900));
  CHECK(least >= now + seconds(9));
  CHECK(least < now + milliseconds(9100));
}

TEST_CASE("a key that the origin hasn't is remembered for its own, short time") {
  Policy policy;
  policy.negative_ttl = milliseconds(200);
  CHECK(lifetime_of(policy, true, -2, now, now, 0).fresh_until == now + milliseconds(200));
}

TEST_CASE("after being fresh a value may be served while fetched anew, or on errors") {
  Policy policy;
  policy.ttl_max = seconds(1);
  policy.revalidate = seconds(2);
  policy.on_error = seconds(5);
  const Lifetime lifetime = lifetime_of(policy, false, -1, now, now, 0);
  CHECK(lifetime.revalidate_until == now + seconds(3));
  CHECK(lifetime.error_until == now + seconds(6));
  policy.on_error = 0;
  CHECK(lifetime_of(policy, false, -1, now, now, 0).error_until == now + seconds(3));
  policy.cached = false;
  CHECK(lifetime_of(policy, false, -1, now, now, 0).error_until == now);
}

TEST_CASE("the longest prefix of a key decides") {
  Policy user;
  user.prefix = "user:";
  user.ttl_max = seconds(1);
  Policy session;
  session.prefix = "user:session:";
  session.cached = false;
  const Policies policies(Policy{}, {user, session});
  CHECK(policies.of("user:1").ttl_max == seconds(1));
  CHECK_FALSE(policies.of("user:session:1").cached);
  CHECK(policies.of("user").ttl_max == seconds(10));
  CHECK(policies.of("").cached);
}

TEST_CASE("policies as text, there and back") {
  const std::string text =
      "user:,ttl-ms=500,revalidate-ms=100;a%2Cb%3B%25,cache=off;x,negative-ttl-ms=0,on-error-ms=9";
  auto policies = parse_policies(text, Policy{});
  REQUIRE(policies);
  REQUIRE(policies->size() == 3);
  CHECK((*policies)[0].prefix == "user:");
  CHECK((*policies)[0].ttl_max == milliseconds(500));
  CHECK((*policies)[0].revalidate == milliseconds(100));
  CHECK((*policies)[0].negative_ttl == seconds(1));
  CHECK((*policies)[1].prefix == "a,b;%");
  CHECK_FALSE((*policies)[1].cached);
  CHECK((*policies)[2].on_error == milliseconds(9));
  CHECK(format_policies(*policies, Policy{}) == text);
  CHECK(parse_policies("", Policy{})->empty());
}

TEST_CASE("what is no policy is refused, and says why") {
  CHECK(parse_problem(",ttl-ms=1").find("is not PREFIX") == 0);
  CHECK(parse_problem("a%2").find("is not PREFIX") == 0);
  CHECK(parse_problem("a%zz").find("is not PREFIX") == 0);
  CHECK(parse_problem("a,ttl=1").find("has ttl=1") == 0);
  CHECK(parse_problem("a,ttl-ms=x").find("has ttl-ms=x") == 0);
  CHECK(parse_problem("a,ttl-ms=-1").find("has ttl-ms=-1") == 0);
  CHECK(parse_problem("a,cache=maybe").find("has cache=maybe") == 0);
  CHECK(parse_problem("a;a").find("twice") != std::string::npos);
}
