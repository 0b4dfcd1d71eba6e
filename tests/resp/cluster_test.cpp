#include "resp/cluster.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bitset>
#include <random>
#include <string>
#include <vector>

#include "resp/reply_parser.hpp"

using namespace gyre;
using resp::NodeAddress;
using resp::SlotRange;

namespace {

Result<std::vector<SlotRange>> parse(std::string_view bytes) {
  resp::ReplyScanner scanner;
  const auto step = scanner.feed(bytes);
  if (step.event != resp::ReplyScanner::Event::reply || step.consumed != bytes.size()) {
    return fail(Errc::closed, "no reply");
  }
  resp::ReplyTree tree;
  REQUIRE(tree.parse(bytes));
  return resp::parse_cluster_slots(tree.root(), "asked");
}

std::string bulk(std::string_view text) {
  return fmt::format("${}\r\n{}\r\n", text.size(), text);
}

std::string range(std::string_view first, std::string_view last, std::string_view host,
                  std::string_view port, std::string_view more = {}) {
  return fmt::format("*3\r\n:{}\r\n:{}\r\n*{}\r\n{}:{}\r\n{}{}", first, last, more.empty() ? 3 : 4,
                     host, port, bulk("id"), more);
}

}  // namespace

TEST_CASE("the checksum has the values that are published for it") {
  CHECK(resp::crc16_xmodem("") == 0);
  CHECK(resp::crc16_xmodem("123456789") == 0x31c3);
  CHECK(resp::crc16_xmodem("A") == 0x58e5);
}

TEST_CASE("keys have the slots that Redis gives them, by their tag if they have one") {
  CHECK(resp::slot_of_key("foo") == 12182);
  CHECK(resp::slot_of_key("bar") == 5061);
  CHECK(resp::slot_of_key("hello") == 866);
  CHECK(resp::slot_of_key("") == 0);
  CHECK(resp::slot_of_key("{user1000}.following") == resp::slot_of_key("user1000"));
  CHECK(resp::slot_of_key("foo{bar}{zap}") == 5061);
  CHECK(resp::slot_of_key("foo{}{bar}") == resp::crc16_xmodem("foo{}{bar}") % 16384);
  CHECK(resp::slot_of_key("foo{{bar}}zap") == resp::slot_of_key("{bar"));
  CHECK(resp::slot_of_key("foo{bar") == resp::crc16_xmodem("foo{bar") % 16384);
  CHECK(resp::slot_of_key("foo}bar{baz}") == resp::slot_of_key("baz"));
}

TEST_CASE("a redirect says where to, and nothing else is one") {
  const auto moved = resp::parse_redirect("MOVED 3999 127.0.0.1:6381");
  REQUIRE(moved);
  CHECK(!moved->ask);
  CHECK(moved->slot == 3999);
  CHECK(moved->node == NodeAddress{"127.0.0.1", 6381});
  const auto ask = resp::parse_redirect("ASK 16383 redis-2.example:6379");
  REQUIRE(ask);
  CHECK(ask->ask);
  CHECK(ask->node == NodeAddress{"redis-2.example", 6379});
  CHECK(resp::parse_redirect("MOVED 0 :6379")->node == NodeAddress{"", 6379});
  CHECK(resp::parse_redirect("MOVED 0 2001:db8::1:6379")->node == NodeAddress{"2001:db8::1", 6379});
  for (const char* other :
       {"", "MOVED", "MOVED ", "MOVED 1", "MOVED 16384 h:1", "MOVED -1 h:1", "MOVED 1 h",
        "MOVED 1 h:0", "MOVED 1 h:65536", "MOVED 1 h:x", "MOVED 1 h/i:1", "MOVED 1 h:1 ",
        "MOVED  1 h:1", "moved 1 h:1", "ASKING 1 h:1", "ERR MOVED 1 h:1", "MOVED 1x h:1",
        "TRYAGAIN Multiple keys request during rehashing of slot"}) {
    CAPTURE(other);
    CHECK(!resp::parse_redirect(other));
  }
  CHECK(!resp::parse_redirect("MOVED 1 " + std::string(256, 'h') + ":1"));
}

TEST_CASE("CLUSTER SLOTS is taken as servers say it") {
  const auto ranges =
      parse("*3\r\n" + range("0", "5460", bulk("10.0.0.1"), "6379", "*0\r\n") +
            range("5461", "10922", "$-1\r\n", "6380") +
            range("10923", "16383", bulk("?"), "6381", "*2\r\n" + bulk("ip") + bulk("10.0.0.3")));
  REQUIRE(ranges);
  CHECK(*ranges == std::vector<SlotRange>{{0, 5460, {"10.0.0.1", 6379}},
                                          {5461, 10922, {"asked", 6380}},
                                          {10923, 16383, {"10.0.0.3", 6381}}});
  // In RESP3: null is "_", metadata a map; replicas follow the master.
  const auto newer =
      parse("*1\r\n*4\r\n:7\r\n:7\r\n*4\r\n_\r\n:1\r\n" + bulk("id") + "%1\r\n" + bulk("hostname") +
            bulk("h") + "*3\r\n" + bulk("r") + ":2\r\n" + bulk("id2"));
  REQUIRE(newer);
  CHECK(*newer == std::vector<SlotRange>{{7, 7, {"asked", 1}}});
  CHECK(parse("*1\r\n" + range("0", "1", bulk(""), "1"))->front().master.host == "asked");
}

TEST_CASE("nonsense for CLUSTER SLOTS is refused whole, with a reason") {
  const std::string good = range("0", "100", bulk("h"), "1");
  for (const std::string& bytes :
       {std::string("*0\r\n"), std::string("+OK\r\n"), std::string("$-1\r\n"),
        std::string("-ERR This instance has cluster support disabled\r\n"),
        std::string("*1\r\n:1\r\n"), std::string("*1\r\n*2\r\n:1\r\n:2\r\n"),
        "*1\r\n" + range("0", "16384", bulk("h"), "1"), "*1\r\n" + range("5", "4", bulk("h"), "1"),
        "*1\r\n" + range("-1", "4", bulk("h"), "1"), "*1\r\n" + range("0", "4", bulk("h"), "0"),
        "*1\r\n" + range("0", "4", bulk("h"), "65536"),
        "*1\r\n" + range("0", "4", bulk("h\nx"), "1"),
        "*1\r\n" + range("0", "4", bulk(std::string(256, 'h')), "1"),
        "*2\r\n" + good + range("100", "101", bulk("i"), "1"), "*2\r\n" + good + good,
        "*2\r\n" + good + ":1\r\n", std::string("*1\r\n*3\r\n:0\r\n:1\r\n:2\r\n"),
        std::string("*1\r\n*3\r\n:0\r\n:1\r\n*0\r\n")}) {
    CAPTURE(bytes);
    const auto ranges = parse(bytes);
    REQUIRE(!ranges);
    CHECK(ranges.error().detail.starts_with("CLUSTER SLOTS was answered with "));
  }
}

TEST_CASE("whatever is made of a reply, no slot is taken twice and no address makes no sense") {
  const std::string good = "*3\r\n" + range("0", "5460", bulk("10.0.0.1"), "6379") +
                           range("5461", "10922", bulk("10.0.0.2"), "6379") +
                           range("10923", "16383", bulk("10.0.0.3"), "6379");
  std::mt19937 random(1);
  size_t taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
      static constexpr std::string_view likely = "0123456789:$*-+_\r\n";
      bytes[random() % bytes.size()] =
          random() % 2 == 0 ? likely[random() % likely.size()] : static_cast<char>(random());
    }
    const auto ranges = parse(bytes);
    if (!ranges) continue;
    ++taken;
    std::bitset<resp::cluster_slots> seen;
    bool sound = !ranges->empty();
    for (const SlotRange& one : *ranges) {
      sound = sound && one.first <= one.last && one.last < resp::cluster_slots &&
              one.master.port != 0 && !one.master.host.empty();
      for (unsigned slot = one.first; sound && slot <= one.last; ++slot) {
        sound = !seen.test(slot);
        seen.set(slot);
      }
    }
    REQUIRE(sound);
  }
  CHECK(taken > 100);
}

TEST_CASE("CLUSTER NODES names every node that can be reached, and the newest epoch") {
  const resp::ClusterNodes nodes = resp::parse_cluster_nodes(
      "a 10.0.0.1:6379@16379 myself,master - 0 0 7 connected 0-5460 [93->-b]\n"
      "b 10.0.0.2:6379@16379,redis-2.example master - 0 1 9 connected 5461-16383\n"
      "c 10.0.0.3:6379@16379,,tls-port=0,shard-id=x slave b 0 1 9 connected\n"
      "d :6380@16380 master - 0 1 3 connected\n"
      "e :0@0 master,noaddr - 0 1 99 disconnected\n"
      "f 10.0.0.9:6379@16379 handshake - 0 0 98 connected\n"
      "nonsense\n\n",
      "asked");
  CHECK(nodes.epoch == 9);
  CHECK(nodes.addresses == std::vector<NodeAddress>{{"10.0.0.1", 6379},
                                                    {"redis-2.example", 6379},
                                                    {"10.0.0.2", 6379},
                                                    {"10.0.0.3", 6379},
                                                    {"asked", 6380}});
  CHECK(resp::parse_cluster_nodes("", "asked").addresses.empty());
}
