#include "http/target.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/limits.hpp"
#include "http/chars.hpp"

namespace gyre::http {

static_assert(parameters_scratch_bytes == 2 * limits::http_key_bytes_max);

Decoded percent_decode(std::string_view raw, std::span<char> scratch, Plus plus) {
  const auto is_plain = [plus](char c) { return c != '%' && (c != '+' || plus == Plus::is_plus); };
  const auto first =
      static_cast<size_t>(std::find_if_not(raw.begin(), raw.end(), is_plain) - raw.begin());
  if (first == raw.size()) return {Decoded::Status::ok, raw};

  if (first > scratch.size()) return {Decoded::Status::too_long, {}};
  std::memcpy(scratch.data(), raw.data(), first);
  size_t out = first;
  for (size_t in = first; in < raw.size(); ++in) {
    char c = raw[in];
    if (c == '%') {
      if (raw.size() - in < 3) return {Decoded::Status::malformed, {}};
      const int high = hex_value(raw[in + 1]);
      const int low = hex_value(raw[in + 2]);
      if (high < 0 || low < 0) return {Decoded::Status::malformed, {}};
      c = static_cast<char>(high << 4 | low);
      in += 2;
    } else if (!is_plain(c)) {
      c = ' ';
    }
    if (out == scratch.size()) return {Decoded::Status::too_long, {}};
    scratch[out++] = c;
  }
  return {Decoded::Status::ok, {scratch.data(), out}};
}

bool is_well_encoded(std::string_view raw) {
  for (size_t at = raw.find('%'); at != std::string_view::npos; at = raw.find('%', at + 3)) {
    if (raw.size() - at < 3 || hex_value(raw[at + 1]) < 0 || hex_value(raw[at + 2]) < 0) {
      return false;
    }
  }
  return true;
}

bool QueryWalk::next(std::string_view& name, std::string_view& value) {
  while (!rest_.empty()) {
    const size_t end = std::min(rest_.find('&'), rest_.size());
    const std::string_view pair = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    name = pair.substr(0, equals);
    value = pair.substr(std::min(equals + 1, pair.size()));
    return true;
  }
  return false;
}

namespace {

template <class T>
bool parse_number(std::string_view text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [at, code] = std::from_chars(text.data(), end, value);
  return code == std::errc() && at == end && !text.empty();
}

// Reads the parameters of one query. Each reader returns what was wrong, or nothing.
class ParametersReader {
 public:
  ParametersReader(Parameters& out, std::span<char> scratch) : out_(out), scratch_(scratch) {}

  std::string_view read(std::string_view name, std::string_view value) {
    if (name == "id") return read_key(out_.id, value, "id is given twice");
    if (name == "start") return read_key(out_.start, value, "start is given twice");
    if (name == "end") return read_key(out_.end, value, "end is given twice");
    if (name == "replicas") return read_replicas(value);
    if (name == "ack") return read_count(out_.ack, value, "ack is not one number, given once");
    if (name == "from") return read_count(out_.from, value, "from is not one number, given once");
    if (name == "ttl") return read_ttl(value, 1000);
    if (name == "ttl_ms") return read_ttl(value, 1);
    if (name == "scope") return read_scope(value);
    return is_well_encoded(name) && is_well_encoded(value) ? std::string_view() : badly_encoded;
  }

 private:
  static constexpr std::string_view badly_encoded =
      "the query holds a '%' without two hexadecimal digits";

  std::string_view read_key(std::optional<std::string_view>& key, std::string_view value,
                            std::string_view twice) {
    if (key) return twice;
    const Decoded decoded = percent_decode(value, scratch_, Plus::is_space);
    if (decoded.status == Decoded::Status::malformed) return badly_encoded;
    if (decoded.status == Decoded::Status::too_long ||
        decoded.text.size() > limits::http_key_bytes_max) {
      return "a key is over 64 KiB";
    }
    if (decoded.text.data() == scratch_.data()) scratch_ = scratch_.subspan(decoded.text.size());
    key = decoded.text;
    return {};
  }

  // `2/3`; the slash may come encoded.
  std::string_view read_replicas(std::string_view value) {
    static constexpr std::string_view wrong =
        "replicas is not ACK/FROM, two numbers, given once and without ack= or from=";
    char decoded_bytes[32];
    const Decoded decoded = percent_decode(value, decoded_bytes, Plus::is_space);
    if (decoded.status == Decoded::Status::malformed) return badly_encoded;
    const size_t slash = decoded.text.find('/');
    uint32_t ack = 0;
    uint32_t from = 0;
    if (out_.ack || out_.from || slash == std::string_view::npos ||
        !parse_number(decoded.text.substr(0, slash), ack) ||
        !parse_number(decoded.text.substr(slash + 1), from)) {
      return wrong;
    }
    out_.ack = ack;
    out_.from = from;
    return {};
  }

  std::string_view read_count(std::optional<uint32_t>& count, std::string_view value,
                              std::string_view wrong) {
    uint32_t number = 0;
    if (!is_well_encoded(value)) return badly_encoded;
    if (count || !parse_number(value, number)) return wrong;
    count = number;
    return {};
  }

  std::string_view read_ttl(std::string_view value, uint64_t unit_ms) {
    uint64_t number = 0;
    if (!is_well_encoded(value)) return badly_encoded;
    if (out_.ttl_ms) return "ttl and ttl_ms together, or one of them twice";
    if (!parse_number(value, number) || number == 0 || number > limits::http_ttl_ms_max / unit_ms) {
      return "ttl is not a number of seconds (ttl_ms: of milliseconds) from 1 to 1000 years";
    }
    out_.ttl_ms = number * unit_ms;
    return {};
  }

  std::string_view read_scope(std::string_view value) {
    if (!is_well_encoded(value)) return badly_encoded;
    if (scope_given_) return "scope is given twice";
    scope_given_ = true;
    if (value == "node") {
      out_.scope = Parameters::Scope::node;
    } else if (value != "cluster") {
      return "scope is neither 'node' nor 'cluster'";
    }
    return {};
  }

  Parameters& out_;
  std::span<char> scratch_;
  bool scope_given_ = false;
};

}  // namespace

ParametersResult parse_parameters(std::string_view query, std::span<char> scratch) {
  ParametersResult result;
  ParametersReader reader(result.parameters, scratch);
  QueryWalk walk(query);
  std::string_view name;
  std::string_view value;
  while (result.error.empty() && walk.next(name, value)) result.error = reader.read(name, value);
  return result;
}

Replicas resolve_replicas(const Parameters& parameters, uint32_t nodes, uint32_t replication) {
  const uint32_t from_max = std::clamp(nodes, 1u, 5u);
  Replicas replicas;
  replicas.from = parameters.from.value_or(std::clamp(replication, 1u, from_max));
  replicas.ack = parameters.ack.value_or(replicas.from / 2 + 1);
  if (replicas.from < 1 || replicas.from > from_max) {
    replicas.error = "from is not between 1 and the number of nodes (at most 5)";
  } else if (replicas.ack < 1 || replicas.ack > replicas.from) {
    replicas.error = "ack is not between 1 and from";
  }
  return replicas;
}

}  // namespace gyre::http
