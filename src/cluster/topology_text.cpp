#include "cluster/topology_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/hash.hpp"
#include "base/limits.hpp"
#include "base/node_url.hpp"
#include "base/printable.hpp"

namespace gyre::cluster {

namespace {

constexpr std::string_view title = "gyre topology";
constexpr uint32_t format_version = 1;
constexpr uint32_t chunk_slots = 256;
constexpr uint32_t chunk_count = slot_count / chunk_slots;
constexpr std::string_view digits = "0123456789abcdefghijklmnopqrstuvwxyz";

unsigned digits_per_node(size_t node_count) {
  return node_count <= digits.size() ? 1 : 2;
}
unsigned list_width(size_t node_count) {
  return static_cast<unsigned>(std::min<size_t>(node_count, limits::cluster_replicas_max));
}

std::string node_line(const NodeEntry& node) {
  std::string line = fmt::format("node {} weight={}", node.url, node.weight);
  if (!node.zone.empty()) line += " zone=" + node.zone;
  if (node.shards != 0) line += fmt::format(" shards={}", node.shards);
  if (!node.uuid.empty()) line += " uuid=" + node.uuid;
  return line;
}

std::string chunk_line(const SlotTable& table, size_t node_count, uint32_t chunk) {
  std::string line = fmt::format("slots {:02x} ", chunk);
  const bool two = digits_per_node(node_count) == 2;
  for (uint32_t slot = chunk * chunk_slots; slot < (chunk + 1) * chunk_slots; ++slot) {
    for (const NodeIndex node : table.replicas(slot, table.width())) {
      if (two) line += digits[node / digits.size()];
      line += digits[node % digits.size()];
    }
  }
  return line;
}

std::string checksum_line(std::string_view before) {
  return fmt::format("checksum {:016x}\n", hash64(before));
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  Result<Topology> parse() {
    if (text_.size() > limits::topology_bytes_max) {
      return fail(Errc::too_large, fmt::format("{} has more than {} bytes: it is no topology",
                                               name_, limits::topology_bytes_max));
    }
    const bool good =
        read_head() && read_nodes() && read_slots() && read_table_hash() && read_checksum();
    if (!good) return fail(error_);
    return std::move(topology_);
  }

 private:
  // --- errors: each of these answers false -------------------------------------------------------

  bool wrong(std::string_view what, Errc code = Errc::corrupt) {
    error_ = Error::of(code, fmt::format("{}:{}: {}", name_, line_number_, what));
    return false;
  }
  bool expected(std::string_view what) {
    return wrong(
        fmt::format("{} where {} is expected. Restore the file from a copy: gyre admin "
                    "topology writes it, nobody edits it",
                    printable(line_), what));
  }

  // --- lines and words ---------------------------------------------------------------------------

  bool next_line() {
    ++line_number_;
    line_begin_ = next_;
    const size_t end = text_.find('\n', next_);
    if (end == std::string_view::npos) {
      line_ = text_.substr(next_);
      return wrong("the file ends here, cut short. Restore it from a copy");
    }
    line_ = text_.substr(next_, end - next_);
    next_ = end + 1;
    return true;
  }

  // The line is WORD and something behind a space, which `rest` becomes.
  bool has(std::string_view word, std::string_view& rest) const {
    if (!line_.starts_with(word) || line_.size() <= word.size() || line_[word.size()] != ' ') {
      return false;
    }
    rest = line_.substr(word.size() + 1);
    return true;
  }

  // Exactly as it is printed: no leading zeros, no sign.
  template <class Number>
  static bool number_in(std::string_view text, Number min, Number max, Number& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && end == text.data() + text.size() && number >= min &&
           number <= max && (text.size() == 1 || text[0] != '0');
  }
  static bool hash_in(std::string_view text, uint64_t& hash) {
    if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != text.npos) return false;
    std::from_chars(text.data(), text.data() + text.size(), hash, 16);
    return true;
  }

  // --- the parts, in their order -----------------------------------------------------------------

  bool read_head() {
    std::string_view rest;
    if (!next_line() || line_ != title) {
      line_number_ = 1;
      return wrong("this is no topology of Gyre. Make one with gyre admin topology new");
    }
    uint32_t format = 0;
    if (!next_line()) return false;
    if (!has("format", rest) || !number_in(rest, 1u, ~0u, format)) return expected("format N");
    if (format > format_version) {
      return wrong(fmt::format("format {}, this program reads up to {}: use a newer gyre", format,
                               format_version),
                   Errc::unsupported);
    }
    if (!next_line()) return false;
    if (!has("epoch", rest) || !number_in(rest, uint64_t{1}, ~uint64_t{0}, topology_.epoch)) {
      return expected("epoch N");
    }
    if (!next_line()) return false;
    if (!has("previous", rest) || !hash_in(rest, topology_.previous_hash)) {
      return expected("previous and 16 hexadecimal digits");
    }
    return true;
  }

  bool read_nodes() {
    for (;;) {
      std::string_view rest;
      if (!next_line()) return false;
      if (!has("node", rest)) break;
      if (topology_.nodes.size() == limits::cluster_nodes_max) {
        return wrong(fmt::format("more than {} nodes", limits::cluster_nodes_max));
      }
      if (!read_node(rest)) return false;
    }
    if (topology_.nodes.empty()) return expected("node URL weight=N");
    return true;
  }

  bool read_node(std::string_view rest) {
    NodeEntry node;
    // The same words as on the command line, with spaces for commas.
    std::string list(rest);
    if (!std::ranges::all_of(list, [](char c) { return c >= ' ' && c <= '~' && c != ','; })) {
      return expected("node URL weight=N");
    }
    std::ranges::replace(list, ' ', ',');
    Result<std::vector<NodeEntry>> read = parse_node_list(list);
    if (!read) return wrong(read.error().detail + ". Restore the file from a copy");
    if (read->size() != 1 || node_line((*read)[0]) != line_) {
      return expected("node URL weight=N [zone=Z] [shards=N] [uuid=U], in this order,");
    }
    topology_.nodes.push_back(std::move((*read)[0]));
    const std::vector<NodeEntry>& nodes = topology_.nodes;
    const NodeEntry& last = nodes.back();
    if (last.url.size() > limits::node_url_bytes_max) {
      return wrong(fmt::format("a URL of more than {} bytes", limits::node_url_bytes_max));
    }
    if (nodes.size() > 1 && nodes[nodes.size() - 2].url >= last.url) {
      return wrong("nodes are not sorted by URL, each once. Restore the file from a copy");
    }
    if (last.zone.empty() != nodes[0].zone.empty()) {
      return wrong("some nodes have a zone and some have none. Restore the file from a copy");
    }
    return true;
  }

  // The first line of slots is read already.
  bool read_slots() {
    topology_.table = SlotTable(list_width(topology_.nodes.size()));
    for (uint32_t chunk = 0; chunk < chunk_count; ++chunk) {
      std::string_view rest;
      if (chunk > 0 && !next_line()) return false;
      if (!has(fmt::format("slots {:02x}", chunk), rest)) {
        return expected(fmt::format("slots {:02x} and the lists of {} slots", chunk, chunk_slots));
      }
      if (!read_chunk(chunk, rest)) return false;
    }
    return true;
  }

  bool read_chunk(uint32_t chunk, std::string_view lists) {
    const size_t node_count = topology_.nodes.size();
    const unsigned node_digits = digits_per_node(node_count);
    const unsigned width = topology_.table.width();
    if (lists.size() != size_t{chunk_slots} * width * node_digits) {
      return wrong(
          fmt::format("{} digits where {} lists of {} nodes take {}. Restore the file "
                      "from a copy",
                      lists.size(), chunk_slots, width, chunk_slots * width * node_digits));
    }
    for (uint32_t slot = chunk * chunk_slots; slot < (chunk + 1) * chunk_slots; ++slot) {
      for (unsigned rank = 0; rank < width; ++rank) {
        size_t number = 0;
        for (const char digit : lists.substr(0, node_digits)) {
          const size_t value = digits.find(digit);
          if (value == digits.npos) return wrong_slot(slot, "has no node's number");
          number = number * digits.size() + value;
        }
        lists.remove_prefix(node_digits);
        if (number >= node_count) return wrong_slot(slot, "names a node that is not there");
        const auto node = static_cast<NodeIndex>(number);
        const auto before = topology_.table.replicas(slot, rank);
        if (std::ranges::find(before, node) != before.end()) {
          return wrong_slot(slot, "names a node twice");
        }
        topology_.table.set(slot, rank, node);
      }
    }
    return true;
  }
  bool wrong_slot(uint32_t slot, std::string_view what) {
    return wrong(fmt::format("slot {} {}. Restore the file from a copy", slot, what));
  }

  bool read_table_hash() {
    std::string_view rest;
    uint64_t hash = 0;
    if (!next_line()) return false;
    if (!has("table", rest) || !hash_in(rest, hash)) {
      return expected("table and 16 hexadecimal digits");
    }
    if (hash == topology_.table_hash()) return true;
    return wrong(
        "the table's hash is another one: the file was changed by hand. Restore it from a "
        "copy, and change it with gyre admin topology apply");
  }

  bool read_checksum() {
    if (!next_line()) return false;
    const std::string sum = checksum_line(text_.substr(0, line_begin_));
    if (line_ != std::string_view(sum).substr(0, sum.size() - 1)) {
      return wrong(
          "the checksum is another one: the file was changed by hand or damaged. Restore "
          "it from a copy, and change it with gyre admin topology apply");
    }
    if (next_ == text_.size()) return true;
    ++line_number_;
    return wrong("there is more behind the checksum. Restore the file from a copy");
  }

  std::string_view text_;
  std::string_view name_;
  std::string_view line_;
  size_t line_begin_ = 0;
  size_t next_ = 0;
  unsigned line_number_ = 0;
  Topology topology_;
  Error error_;
};

}  // namespace

std::string print_topology(const Topology& topology) {
  std::string text = fmt::format("{}\nformat {}\nepoch {}\nprevious {:016x}\n", title,
                                 format_version, topology.epoch, topology.previous_hash);
  for (const NodeEntry& node : topology.nodes) text += node_line(node) + "\n";
  for (uint32_t chunk = 0; chunk < chunk_count; ++chunk) {
    text += chunk_line(topology.table, topology.nodes.size(), chunk) + "\n";
  }
  text += fmt::format("table {:016x}\n", topology.table_hash());
  return text + checksum_line(text);
}

Result<Topology> parse_topology(std::string_view text, std::string_view name) {
  return Parser(text, name).parse();
}

}  // namespace gyre::cluster
