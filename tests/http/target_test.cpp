#include "http/target.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>

using namespace gyre::http;
using Status = Decoded::Status;

namespace {
std::array<char, parameters_scratch_bytes> scratch;

Parameters parsed(std::string_view query) {
  const ParametersResult result = parse_parameters(query, scratch);
  CHECK_MESSAGE(result.error.empty(), query << ": " << result.error);
  return result.parameters;
}
bool refused(std::string_view query) {
  return !parse_parameters(query, scratch).error.empty();
}
}  // namespace

TEST_CASE("text without escapes is a view of the original") {
  const std::string raw = "key-123_~.!$'()*,;:@/?";
  const Decoded decoded = percent_decode(raw, scratch, Plus::is_space);
  CHECK(decoded.status == Status::ok);
  CHECK(decoded.text.data() == raw.data());
  CHECK(decoded.text.size() == raw.size());
}

TEST_CASE("every byte can be encoded, in capitals or not") {
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (const char* digits : {"0123456789abcdef", "0123456789ABCDEF"}) {
      const std::string raw = {'x', '%', digits[byte >> 4], digits[byte & 15], 'y'};
      const Decoded decoded = percent_decode(raw, scratch, Plus::is_plus);
      CHECK(decoded.status == Status::ok);
      CHECK(decoded.text == std::string{'x', static_cast<char>(byte), 'y'});
    }
  }
}

TEST_CASE("a plus is a space in a query and a plus in a path") {
  CHECK(percent_decode("a+b", scratch, Plus::is_space).text == "a b");
  CHECK(percent_decode("a+b", scratch, Plus::is_plus).text == "a+b");
  CHECK(percent_decode("a%2Bb+", scratch, Plus::is_space).text == "a+b ");
}

TEST_CASE("a percent sign without two digits is malformed") {
  for (const char* raw : {"%", "%4", "a%", "%%41", "%g0", "%0g", "%-1", "% 1", "%4%", "x%zz"}) {
    CHECK(percent_decode(raw, scratch, Plus::is_plus).status == Status::malformed);
    CHECK_FALSE(is_well_encoded(raw));
  }
  CHECK(is_well_encoded("%41%42x%43"));
  CHECK(is_well_encoded(""));
}

TEST_CASE("decoding stops where the scratch ends") {
  std::array<char, 3> small;
  CHECK(percent_decode("%41bc", small, Plus::is_plus).text == "Abc");
  CHECK(percent_decode("%41bcd", small, Plus::is_plus).status == Status::too_long);
  CHECK(percent_decode("abcd%41", small, Plus::is_plus).status == Status::too_long);
  CHECK(percent_decode("abcd", small, Plus::is_plus).text == "abcd");
}

TEST_CASE("a query is walked pair by pair") {
  QueryWalk walk("a=1&b&&c=&=d&e=f=g");
  std::string seen;
  std::string_view name;
  std::string_view value;
  while (walk.next(name, value)) seen += std::string(name) + ":" + std::string(value) + " ";
  CHECK(seen == "a:1 b: c: :d e:f=g ");
  CHECK_FALSE(QueryWalk("").next(name, value));
}

TEST_CASE("parameters that were not given stay unset") {
  const Parameters parameters = parsed("");
  CHECK_FALSE(parameters.id);
  CHECK_FALSE(parameters.start);
  CHECK_FALSE(parameters.end);
  CHECK_FALSE(parameters.ack);
  CHECK_FALSE(parameters.from);
  CHECK_FALSE(parameters.ttl_ms);
  CHECK(parameters.scope == Parameters::Scope::cluster);
}

TEST_CASE("all parameters are read, in any order, beside unknown ones") {
  const Parameters parameters =
      parsed("x=1&scope=node&end=z%00&ttl=2&start=a+b&from=3&id=k%26&ack=2&verbose");
  CHECK(parameters.id == "k&");
  CHECK(parameters.start == "a b");
  CHECK(parameters.end == std::string_view("z\0", 2));
  CHECK(parameters.ack == 2);
  CHECK(parameters.from == 3);
  CHECK(parameters.ttl_ms == 2000);
  CHECK(parameters.scope == Parameters::Scope::node);
  CHECK(parsed("id=").id == "");
  CHECK(parsed("id").id == "");
  CHECK(parsed("ttl_ms=1").ttl_ms == 1);
  CHECK(parsed("scope=cluster").scope == Parameters::Scope::cluster);
}

TEST_CASE("replicas is ack and from, its slash encoded or not") {
  for (const char* query : {"replicas=2/3", "replicas=2%2F3", "ack=2&from=3", "from=3&ack=2"}) {
    CHECK(parsed(query).ack == 2);
    CHECK(parsed(query).from == 3);
  }
  for (const char* query : {"replicas=",
                            "replicas=2",
                            "replicas=/",
                            "replicas=2/",
                            "replicas=/3",
                            "replicas=a/b",
                            "replicas=2/3/4",
                            "replicas=-1/3",
                            "replicas=2/3x",
                            "replicas=99999999999/3",
                            "replicas=1/1&replicas=1/1",
                            "replicas=1/1&ack=1",
                            "from=1&replicas=1/1",
                            "ack=foo",
                            "ack=",
                            "ack=1&ack=1",
                            "from=1.5",
                            "from=0x1",
                            "from=1&from=2",
                            "ack=%",
                            "replicas=%2"}) {
    CHECK_MESSAGE(refused(query), query);
  }
}

TEST_CASE("doubled keys, bad escapes, bad times and scopes are refused") {
  for (const char* query : {"id=a&id=a",
                            "start=a&start=b",
                            "end=a&end=b",
                            "scope=node&scope=node",
                            "id=%zz",
                            "id=%",
                            "start=%1",
                            "x=%zz",
                            "%zz=1",
                            "ttl=0",
                            "ttl=-1",
                            "ttl=x",
                            "ttl=",
                            "ttl=1&ttl=1",
                            "ttl=1&ttl_ms=1",
                            "ttl_ms=99999999999999999999",
                            "ttl=18446744073709551",
                            "ttl_ms=1.5",
                            "scope=",
                            "scope=all",
                            "ttl=%",
                            "scope=%"}) {
    CHECK_MESSAGE(refused(query), query);
  }
}

TEST_CASE("two keys of 64 KiB fit, encoded or not, and longer ones don't") {
  const std::string plain(64u << 10, 'k');
  std::string encoded;
  for (size_t i = 0; i < plain.size(); ++i) encoded += "%6b";
  CHECK(parsed("id=" + plain).id == plain);
  const Parameters parameters = parsed("start=" + encoded + "&end=" + encoded);
  CHECK(parameters.start == plain);
  CHECK(parameters.end == plain);
  CHECK(refused("id=" + plain + "k"));
  CHECK(refused("id=" + encoded + "k"));
}

TEST_CASE("replicas default to a majority of the smaller of nodes and replication") {
  const auto defaults = [](uint32_t nodes, uint32_t replication) {
    const Replicas replicas = resolve_replicas({}, nodes, replication);
    CHECK(replicas.error.empty());
    return replicas.ack * 10 + replicas.from;
  };
  CHECK(defaults(1, 3) == 11);
  CHECK(defaults(2, 3) == 22);
  CHECK(defaults(3, 3) == 23);
  CHECK(defaults(24, 3) == 23);
  CHECK(defaults(24, 5) == 35);
  CHECK(defaults(24, 9) == 35);
}

TEST_CASE("replicas that can't be are refused") {
  const auto ok = [](const char* query, uint32_t nodes) {
    return resolve_replicas(parsed(query), nodes, 3).error.empty();
  };
  CHECK(ok("replicas=1/1", 1));
  CHECK(ok("replicas=5/5", 5));
  CHECK(ok("from=2", 3));
  CHECK(ok("ack=3", 3));
  CHECK_FALSE(ok("replicas=0/1", 1));
  CHECK_FALSE(ok("replicas=1/0", 1));
  CHECK_FALSE(ok("replicas=2/1", 3));
  CHECK_FALSE(ok("replicas=1/2", 1));
  CHECK_FALSE(ok("replicas=1/6", 9));
  CHECK_FALSE(ok("ack=4", 9));
}
