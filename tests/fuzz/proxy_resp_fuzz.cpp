// Arbitrary bytes as what a Redis client sends to the proxy, or as what Redis answers it: what the
// client gets is whole replies, the connection comes to its end, the proxy goes on to serve others
// what is true, and nothing is left over. The whole proxy, on one simulated core.
#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "../proxy/redis_model.hpp"
#include "fuzz.hpp"
#include "proxy/proxy.hpp"
#include "resp/reply_parser.hpp"
#include "sim/life.hpp"

namespace {

using namespace gyre;
using namespace gyre::test;

constexpr uint16_t http_port = 8000;
constexpr uint16_t resp_port = 6380;
constexpr Nanos patience = seconds(300);
// What Redis answers begins with it.
constexpr char of_redis = '\0';

unsigned ports_asked = 0;
bool ready = false;

const proxy::Proxy::Environment environment{
    .port_of = [](int) { return ports_asked++ % 2 == 0 ? http_port : resp_port; },
    .print = [](std::string_view) { ready = true; },
    .exit_now = [](int) {},
};

struct Stage {
  sim::World world{{.seed = 1}};
  sim::Node& proxy_machine = world.add_node();
  sim::Node& machine = world.add_node();
  RedisModel redis;
  std::string input;
};

// All that is answered to `bytes`, sent in pieces, up to the end of the connection. None if that is
// no end but a loss.
Task<std::optional<std::string>> converse(Stage* stage, std::string bytes, size_t piece_bytes) {
  Result<Descriptor> fd = co_await connect_to(stage->proxy_machine.address(), resp_port);
  FUZZ_CHECK(fd.has_value());
  Socket socket(std::move(*fd));
  for (std::string_view rest = bytes; !rest.empty() && !socket.broken();) {
    const std::string_view piece = rest.substr(0, piece_bytes);
    socket.append(piece);
    rest.remove_prefix(piece.size());
    static_cast<void>(co_await socket.drained(0));
  }
  if (!socket.broken()) static_cast<void>(co_await socket.shutdown_send());
  std::optional<std::string> heard = std::string();
  for (;;) {
    const Result<std::string_view> more = co_await receive_for(&socket, patience);
    if (!more) {
      FUZZ_CHECK(more.error().code != Errc::timed_out);
      heard.reset();
      break;
    }
    if (more->empty()) break;
    heard->append(*more);
    socket.release();
  }
  co_await socket.close();
  co_return heard;
}

void check_replies(std::string_view heard) {
  resp::ReplyScanner scanner;
  while (!heard.empty()) {
    const resp::ReplyScanner::Step step = scanner.feed(heard);
    FUZZ_CHECK(step.event != resp::ReplyScanner::Event::error);
    heard.remove_prefix(step.consumed);
  }
  FUZZ_CHECK(scanner.idle());
}

Task<void> play(Stage* stage) {
  RedisModel& redis = stage->redis;
  Scope scope(nullptr, "redis");
  scope.spawn(redis.main(1));
  while (!ready) static_cast<void>(co_await sleep_for(milliseconds(1)));
  redis.set("k", "value");
  std::string bytes = stage->input;
  const size_t piece_bytes = bytes.empty() ? 1 : 1 + static_cast<uint8_t>(bytes.back()) % 97;
  if (bytes.starts_with(of_redis)) {
    redis.instead = bytes.substr(1);
    bytes =
        "GET k\r\nMGET k l\r\nSET l 1\r\nSTRLEN l\r\nSUBSCRIBE c\r\nPING\r\nUNSUBSCRIBE "
        "c\r\nMULTI\r\n"
        "GET k\r\nEXEC\r\nGET k\r\n";
  }
  const auto heard = co_await converse(stage, std::move(bytes), piece_bytes);
  if (heard && !redis.instead) check_replies(*heard);
  redis.instead.reset();
  redis.cut();
  static_cast<void>(co_await sleep_for(seconds(20)));
  const auto value = redis.get("k");
  const auto said = co_await converse(stage, "PING\r\nGET k\r\n", 100);
  FUZZ_CHECK(said ==
             "+PONG\r\n" + (value ? "$" + std::to_string(value->size()) + "\r\n" + *value + "\r\n"
                                  : std::string("$-1\r\n")));
  stage->proxy_machine.signal(SIGTERM);
  while (redis.open_connections() != 0) static_cast<void>(co_await sleep_for(milliseconds(1)));
  redis.stop();
  co_await scope.join();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ports_asked = 0;
  ready = false;
  const int64_t frames_before = frames_live();
  {
    Stage stage;
    stage.input.assign(reinterpret_cast<const char*>(data), size);
    proxy::Options options;
    options.listen = {"0.0.0.0", http_port};
    options.resp = proxy::ListenAddress{"0.0.0.0", resp_port};
    options.redis_host = stage.machine.address();
    options.others.ttl_max = seconds(3600);
    options.value_bytes_max = 1u << 20;
    proxy::Proxy proxy(options, environment);
    sim::Life proxy_life(stage.world, stage.proxy_machine);
    sim::Life client_life(stage.world, stage.machine);
    proxy_life.start(0, proxy.run(0));
    client_life.start(0, play(&stage));
    FUZZ_CHECK(stage.world.run_until([&] { return client_life.ended(); }, seconds(3600)) ==
               sim::Stop::satisfied);
    FUZZ_CHECK(proxy_life.run(seconds(60)) == sim::Stop::satisfied);
    FUZZ_CHECK(stage.world.check_quiescent(stage.proxy_machine).empty());
  }
  FUZZ_CHECK(frames_live() == frames_before);
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\nGET k\r\nMGET k "
      "l\r\n",
      "MULTI\r\nSET k 1\r\nGET k\r\nEXEC\r\nWATCH k\r\nGET k\r\nUNWATCH\r\nDISCARD\r\nRESET\r\n",
      "SUBSCRIBE c d\r\nPING\r\nGET k\r\nUNSUBSCRIBE\r\nSELECT 1\r\nUNSUBSCRIBE c\r\nPING "
      "x\r\nRESET\r\n",
      "HELLO 3\r\nSUBSCRIBE c\r\nPUBLISH c hello\r\nGET k\r\nMULTI\r\nSUBSCRIBE e\r\nEXEC\r\nHELLO "
      "2\r\n",
      "HELLO 3 AUTH default x SETNAME me\r\nCLIENT ID\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT "
      "TRACKING ON\r\n",
      "CLIENT REPLY OFF\r\nSUBSCRIBE c\r\nGET k\r\nCLIENT REPLY ON\r\nAUTH "
      "x\r\nMONITOR\r\nINFO\r\n",
      "RPUSH l a\r\nBLPOP l 0\r\nBLPOP nothing 0\r\nGET k\r\nQUIT\r\n",
      "FLUSHALL\r\nDEL k\r\nINCR n\r\nGETRANGE k 0 -1\r\nSUBSTR k x 1\r\nSTRLEN k\r\nECHO \"a "
      "b\"\r\n",
      "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nCONFIG SET dir /\r\n",
      std::string(1, of_redis) + "+OK\r\n$5\r\nhello\r\n:-1\r\n",
      std::string(1, of_redis) + ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n$-1\r\n:-2\r\n",
      std::string(1, of_redis) + ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n%1\r\n+a\r\n:1\r\n",
      std::string(1, of_redis) +
          ">3\r\n+message\r\n*1\r\n_\r\n,1.5\r\n-ERR no\r\n*2\r\n:1\r\n#t\r\n",
  };
}
