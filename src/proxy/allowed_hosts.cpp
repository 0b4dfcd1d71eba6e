#include "proxy/allowed_hosts.hpp"

#include <algorithm>

#include "http/chars.hpp"

namespace gyre::proxy {

namespace {

constexpr size_t name_bytes_max = 253;  // of DNS

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_';
}

// Calls `each` with every name, without blanks around it; ends when that says false.
template <class Each>
bool for_each_name(std::string_view list, const Each& each) {
  for (;;) {
    const size_t comma = std::min(list.find(','), list.size());
    std::string_view name = list.substr(0, comma);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (!each(name)) return false;
    if (comma == list.size()) return true;
    list.remove_prefix(comma + 1);
  }
}

std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

// Four numbers, as a browser writes an IPv4 address however it was typed.
bool is_ipv4(std::string_view text) {
  for (int part = 0; part < 4; ++part) {
    unsigned number = 0;
    size_t digits = 0;
    while (digits < text.size() && digits < 3 && text[digits] >= '0' && text[digits] <= '9') {
      number = number * 10 + static_cast<unsigned>(text[digits++] - '0');
    }
    if (digits == 0 || number > 255) return false;
    text.remove_prefix(digits);
    if (part == 3) return text.empty();
    if (!text.starts_with('.')) return false;
    text.remove_prefix(1);
  }
  return false;
}

bool is_localhost(std::string_view name) {
  constexpr std::string_view localhost = "localhost";
  if (name.size() < localhost.size()) return false;
  const size_t at = name.size() - localhost.size();
  return http::equals_ignoring_case(name.substr(at), localhost) && (at == 0 || name[at - 1] == '.');
}

}  // namespace

bool is_loopback(std::string_view address) {
  return address.starts_with("127.") || address == "::1";
}

AllowedHosts::AllowedHosts(std::string_view listen_address, std::string_view list)
    : any_(list == "*" || (list.empty() && !is_loopback(listen_address))) {
  if (any_ || list.empty()) return;
  for_each_name(list, [this](std::string_view name) {
    std::string lower(name);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (lower.ends_with('.')) lower.pop_back();
    names_.push_back(std::move(lower));
    return true;
  });
}

Result<void> AllowedHosts::check(std::string_view list) {
  const bool sound = list == "*" || for_each_name(list, [](std::string_view name) {
                       return !name.empty() && name != "." && name.size() <= name_bytes_max &&
                              std::ranges::all_of(name, is_name_char);
                     });
  if (sound) return {};
  return fail(Errc::invalid,
              "is neither names separated by commas, such as cache,cache.example, nor *");
}

bool AllowedHosts::allow(std::string_view host) const {
  if (any_ || host.empty()) return true;
  std::string_view name = without_port(host);
  if (name.starts_with('[') || is_ipv4(name)) return true;
  if (name.ends_with('.')) name.remove_suffix(1);
  if (is_localhost(name)) return true;
  return std::ranges::any_of(names_, [&](const std::string& allowed) {
    return http::equals_ignoring_case(name, allowed);
  });
}

}  // namespace gyre::proxy
