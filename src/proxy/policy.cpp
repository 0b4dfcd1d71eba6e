#include "proxy/policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace gyre::proxy {

namespace {

constexpr Nanos ttl_limit = seconds(30ll * 86400);
constexpr uint64_t jitter_share = 10;  // of a time to live, one in so many

std::string encode_prefix(std::string_view prefix) {
  std::string text;
  for (const char c : prefix) {
    if (c == ',' || c == ';' || c == '%' || static_cast<unsigned char>(c) < 0x21) {
      text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    } else {
      text += c;
    }
  }
  return text;
}

std::optional<std::string> decode_prefix(std::string_view text) {
  std::string prefix;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      prefix += text[at];
      continue;
    }
    if (text.size() - at < 3) return {};
    unsigned value = 0;
    const auto [end, error] =
        std::from_chars(text.data() + at + 1, text.data() + at + 3, value, 16);
    if (error != std::errc{} || end != text.data() + at + 3) return {};
    prefix += static_cast<char>(value);
    at += 2;
  }
  return prefix;
}

Result<Nanos> parse_ms(std::string_view name, std::string_view text) {
  uint64_t ms = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (error != std::errc{} || end != text.data() + text.size() ||
      ms > static_cast<uint64_t>(ttl_limit / milliseconds(1))) {
    return fail(Errc::invalid, fmt::format("has {}={}: write milliseconds from 0 to {}", name, text,
                                           ttl_limit / milliseconds(1)));
  }
  return milliseconds(static_cast<int64_t>(ms));
}

Result<Policy> parse_policy(std::string_view text, const Policy& others) {
  Policy policy = others;
  const size_t comma = std::min(text.find(','), text.size());
  auto prefix = decode_prefix(text.substr(0, comma));
  if (!prefix || prefix->empty()) {
    return fail(Errc::invalid,
                "is not PREFIX[,ttl-ms=N][,negative-ttl-ms=N][,revalidate-ms=N][,on-error-ms=N]"
                "[,cache=on|off][;PREFIX…]");
  }
  policy.prefix = std::move(*prefix);
  for (size_t at = comma; at < text.size();) {
    const size_t end = std::min(text.find(',', at + 1), text.size());
    const std::string_view part = text.substr(at + 1, end - at - 1);
    at = end;
    const size_t equals = std::min(part.find('='), part.size());
    const std::string_view name = part.substr(0, equals);
    const std::string_view value = equals < part.size() ? part.substr(equals + 1) : "";
    Nanos* field = name == "ttl-ms"            ? &policy.ttl_max
                   : name == "negative-ttl-ms" ? &policy.negative_ttl
                   : name == "revalidate-ms"   ? &policy.revalidate
                   : name == "on-error-ms"     ? &policy.on_error
                                               : nullptr;
    if (field != nullptr) {
      const Result<Nanos> parsed = parse_ms(name, value);
      if (!parsed) return fail(parsed.error());
      *field = *parsed;
    } else if (name == "cache" && (value == "on" || value == "off")) {
      policy.cached = value == "on";
    } else {
      return fail(Errc::invalid,
                  fmt::format("has {}, which is none of ttl-ms=N, negative-ttl-ms=N, "
                              "revalidate-ms=N, on-error-ms=N, cache=on and cache=off",
                              part));
    }
  }
  return policy;
}

}  // namespace

Lifetime lifetime_of(const Policy& policy, bool negative, int64_t origin_ttl_ms, Nanos asked_at,
                     Nanos now, uint64_t random) {
  if (!policy.cached) return {now, now, now};
  Nanos ttl = std::min(negative ? policy.negative_ttl : policy.ttl_max, ttl_limit);
  ttl -= static_cast<Nanos>(random % (static_cast<uint64_t>(ttl) / jitter_share + 1));
  Lifetime lifetime;
  lifetime.fresh_until = now + ttl;
  const bool ends = !negative && origin_ttl_ms >= 0;
  if (ends) {
    const Nanos left =
        origin_ttl_ms < ttl_limit / milliseconds(1) ? milliseconds(origin_ttl_ms) : ttl_limit;
    lifetime.fresh_until = std::max(now, std::min(lifetime.fresh_until, asked_at + left));
  }
  lifetime.revalidate_until = lifetime.fresh_until + policy.revalidate;
  lifetime.error_until =
      std::max(lifetime.revalidate_until, lifetime.fresh_until + policy.on_error);
  return lifetime;
}

Policies::Policies(Policy others, std::vector<Policy> by_prefix)
    : by_prefix_(std::move(by_prefix)), others_(std::move(others)) {
  std::ranges::sort(by_prefix_, [](const Policy& a, const Policy& b) {
    return a.prefix.size() > b.prefix.size();
  });
}

const Policy& Policies::of(std::string_view key) const {
  for (const Policy& policy : by_prefix_) {
    if (key.starts_with(policy.prefix)) return policy;
  }
  return others_;
}

Result<std::vector<Policy>> parse_policies(std::string_view text, const Policy& others) {
  std::vector<Policy> policies;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(';', at), text.size());
    Result<Policy> policy = parse_policy(text.substr(at, end - at), others);
    if (!policy) return fail(policy.error());
    if (std::ranges::find(policies, policy->prefix, &Policy::prefix) != policies.end()) {
      return fail(Errc::invalid, "has the prefix " + policy->prefix + " twice");
    }
    policies.push_back(std::move(*policy));
    at = end + 1;
  }
  return policies;
}

std::string format_policies(const std::vector<Policy>& policies, const Policy& others) {
  std::string text;
  for (const Policy& policy : policies) {
    if (!text.empty()) text += ';';
    text += encode_prefix(policy.prefix);
    const auto add = [&](std::string_view name, Nanos value, Nanos usual) {
      if (value != usual) text += fmt::format(",{}={}", name, value / milliseconds(1));
    };
    add("ttl-ms", policy.ttl_max, others.ttl_max);
    add("negative-ttl-ms", policy.negative_ttl, others.negative_ttl);
    add("revalidate-ms", policy.revalidate, others.revalidate);
    add("on-error-ms", policy.on_error, others.on_error);
    if (policy.cached != others.cached) text += policy.cached ? ",cache=on" : ",cache=off";
  }
  return text;
}

}  // namespace gyre::proxy
