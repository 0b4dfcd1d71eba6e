#include "base/node_url.hpp"

#include <charconv>

namespace gyre {
namespace {

constexpr const char* url_expected =
    "is not the URL of a node: write http://HOST:PORT, such as http://10.0.0.1:8080";

bool is_port(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && number >= 1 && number <= 65535;
}

}  // namespace

Result<std::string> parse_node_url(std::string_view text) {
  constexpr std::string_view scheme = "http://";
  if (!text.starts_with(scheme)) return fail(Errc::invalid, url_expected);
  if (text.ends_with('/')) text.remove_suffix(1);
  const std::string_view authority = text.size() > scheme.size() ? text.substr(scheme.size()) : "";
  const size_t colon = authority.rfind(':');
  if (colon == std::string_view::npos || colon == 0 ||
      authority.find_first_of("/?#@ \t\r\n") != std::string_view::npos ||
      !is_port(authority.substr(colon + 1))) {
    return fail(Errc::invalid, url_expected);
  }
  return std::string(text);
}

NodeUrl split_node_url(std::string_view url) {
  NodeUrl parts;
  url.remove_prefix(std::string_view("http://").size());
  const size_t colon = url.rfind(':');
  std::string_view host = url.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  parts.host.assign(host);
  std::from_chars(url.data() + colon + 1, url.data() + url.size(), parts.port);
  return parts;
}

}  // namespace gyre
