#include "resp/cluster.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>

#include "base/printable.hpp"

namespace gyre::resp {

namespace {

constexpr size_t host_bytes_max = 255;
constexpr size_t nodes_max = 4096;  // addresses that are taken from one reply

constexpr std::array<uint16_t, 256> make_crc_table() {
  std::array<uint16_t, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1;
    }
    table[byte] = static_cast<uint16_t>(crc);
  }
  return table;
}
constexpr std::array<uint16_t, 256> crc_table = make_crc_table();

template <class Number>
std::optional<Number> number_of(std::string_view text, uint64_t most) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > most) return {};
  return static_cast<Number>(value);
}

// Of a name, or a numeric address, perhaps with a zone.
bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= host_bytes_max && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':' || c == '%';
  });
}

std::string_view take_word(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

// [host, port, id, metadata] of CLUSTER SLOTS. A node that does not know its own name says "?".
std::optional<NodeAddress> node_of(const Reply& node, std::string_view asked) {
  if (!node.is_aggregate() || node.size() < 2) return {};
  const std::optional<int64_t> port = node[1].integer();
  if (!port || *port < 1 || *port > 65535) return {};
  std::string_view host = node[0].is_null() ? std::string_view() : node[0].text();
  if (host == "?" && node.size() > 3) {
    const std::optional<Reply> ip = node[3].is_aggregate() ? node[3].find("ip") : std::nullopt;
    host = ip ? ip->text() : std::string_view();
  }
  if (host.empty()) host = asked;
  if (!is_host(host)) return {};
  return NodeAddress{std::string(host), static_cast<uint16_t>(*port)};
}

tl::unexpected<Error> nonsense(std::string detail) {
  return fail(Errc::invalid, "CLUSTER SLOTS was answered with " + std::move(detail));
}

}  // namespace

uint16_t crc16_xmodem(std::string_view bytes) {
  unsigned crc = 0;
  for (const char c : bytes) {
    crc = (crc << 8 ^ crc_table[(crc >> 8 ^ static_cast<unsigned char>(c)) & 0xff]) & 0xffff;
  }
  return static_cast<uint16_t>(crc);
}

uint16_t slot_of_key(std::string_view key) {
  if (const size_t open = key.find('{'); open != std::string_view::npos) {
    const size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close != open + 1) {
      key = key.substr(open + 1, close - open - 1);
    }
  }
  return crc16_xmodem(key) % cluster_slots;
}

std::string NodeAddress::to_string() const {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format(fmt::runtime(v6 ? "[{}]:{}" : "{}:{}"), host, port);
}

std::optional<NodeAddress> parse_node_address(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return {};
  const auto port = number_of<uint16_t>(text.substr(colon + 1), 65535);
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (!port || *port == 0 || (!host.empty() && !is_host(host))) return {};
  return NodeAddress{std::string(host), *port};
}

std::optional<Redirect> parse_redirect(std::string_view error) {
  const std::string_view what = take_word(error, ' ');
  if (what != "MOVED" && what != "ASK") return {};
  const auto slot = number_of<uint16_t>(take_word(error, ' '), cluster_slots - 1);
  auto node = parse_node_address(error);
  if (!slot || !node) return {};
  return Redirect{what == "ASK", *slot, std::move(*node)};
}

Result<std::vector<SlotRange>> parse_cluster_slots(const Reply& reply, std::string_view asked) {
  if (reply.is_error()) return nonsense(printable(reply.text(), 200));
  if (reply.type() != ReplyType::array) return nonsense("something that is no list");
  std::vector<SlotRange> ranges;
  std::bitset<cluster_slots> seen;
  for (const Reply range : reply) {
    if (!range.is_aggregate() || range.size() < 3) return nonsense("a range without its node");
    const std::optional<int64_t> first = range[0].integer();
    const std::optional<int64_t> last = range[1].integer();
    if (!first || !last || *first < 0 || *last < *first || *last >= int64_t{cluster_slots}) {
      return nonsense("a range that is none");
    }
    std::optional<NodeAddress> master = node_of(range[2], asked);
    if (!master) return nonsense("a node without an address");
    for (int64_t slot = *first; slot <= *last; ++slot) {
      if (seen.test(static_cast<size_t>(slot))) {
        return nonsense(fmt::format("two nodes for slot {}", slot));
      }
      seen.set(static_cast<size_t>(slot));
    }
    ranges.push_back({static_cast<uint16_t>(*first), static_cast<uint16_t>(*last), *master});
  }
  if (ranges.empty()) return nonsense("no slots: its nodes have not been given any");
  return ranges;
}

// ID HOST:PORT@BUS[,NAME[,…]] FLAGS MASTER PING PONG EPOCH LINK SLOT…
ClusterNodes parse_cluster_nodes(std::string_view text, std::string_view asked) {
  ClusterNodes nodes;
  while (!text.empty() && nodes.addresses.size() < nodes_max) {
    std::string_view line = take_word(text, '\n');
    static_cast<void>(take_word(line, ' '));
    std::string_view where = take_word(line, ' ');
    const std::string_view flags = take_word(line, ' ');
    for (int i = 0; i < 3; ++i) static_cast<void>(take_word(line, ' '));
    const auto epoch = number_of<uint64_t>(take_word(line, ' '), UINT64_MAX);
    std::string_view plain = take_word(where, ',');
    auto address = parse_node_address(take_word(plain, '@'));
    if (!address || !epoch || flags.find("noaddr") != std::string_view::npos ||
        flags.find("handshake") != std::string_view::npos) {
      continue;
    }
    if (address->host.empty()) address->host = asked;
    const std::string_view name = take_word(where, ',');
    if (is_host(name) && name.find('=') == std::string_view::npos) {
      nodes.addresses.push_back({std::string(name), address->port});
    }
    nodes.addresses.push_back(std::move(*address));
    nodes.epoch = std::max(nodes.epoch, *epoch);
  }
  return nodes;
}

}  // namespace gyre::resp
