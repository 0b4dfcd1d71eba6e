#include "node/cli.hpp"

#include <doctest/doctest.h>

namespace gyre {
namespace {

Command parsed(std::vector<const char*> words, std::vector<const char*> environment = {}) {
  words.insert(words.begin(), "gyre");
  environment.push_back(nullptr);
  const Machine machine{.cpus = 2,
                        .cpus_source = "the machine's CPUs",
                        .cpus_online = 4,
                        .memory_bytes = 4ull << 30,
                        .memory_source = "the machine's memory"};
  return parse_command_line(static_cast<int>(words.size()), words.data(), environment.data(),
                            machine);
}

template <class Expected>
Expected expected(const Command& command) {
  const auto* finished = std::get_if<Finished>(&command);
  INFO("finished with: ", finished != nullptr ? finished->output : "");
  REQUIRE(std::holds_alternative<Expected>(command));
  return std::get<Expected>(command);
}

std::string mistake(const Command& command) {
  REQUIRE(std::holds_alternative<Finished>(command));
  CHECK(std::get<Finished>(command).exit_code == exit_usage);
  return std::get<Finished>(command).output;
}

bool contains(const std::string& text, std::string_view part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("not found: ", part, "\nin: ", text);
  return false;
}

}  // namespace

TEST_CASE("serve takes its flags with a space or an equals sign") {
  const auto config = expected<ServeConfig>(
      parsed({"serve", "--listen", "127.0.0.1:9000", "--cores=1", "--pin"}, {"GYRE_MEMORY=256M"}));
  CHECK(config.listen.port == 9000);
  CHECK(config.cores == 1);
  CHECK(config.pin);
  CHECK(config.memory_bytes == 256u << 20);
  CHECK_FALSE(expected<ServeConfig>(parsed({"serve", "--cores=2", "--pin=false"})).pin);
}

TEST_CASE("an unknown flag or command is refused with a suggestion") {
  CHECK(contains(mistake(parsed({"serve", "--lisen", "127.0.0.1:1"})), "did you mean --listen?"));
  CHECK(contains(mistake(parsed({"serve", "--memroy=1G"})), "did you mean --memory?"));
  CHECK(contains(mistake(parsed({"serv"})), "did you mean serve?"));
  CHECK(contains(mistake(parsed({"admin", "statu"})), "did you mean status?"));
  CHECK(contains(mistake(parsed({"get", "k", "superfluous"})), "superfluous is not known"));
}

TEST_CASE("a flag given twice, or without its value, is refused") {
  CHECK(contains(mistake(parsed({"serve", "--cores", "1", "--cores", "2"})), "--cores"));
  CHECK(contains(mistake(parsed({"serve", "--cores"})), "--cores"));
}

TEST_CASE("help, version and print-config end with success and print to standard output") {
  const auto help = expected<Finished>(parsed({"serve", "--help"}));
  CHECK(help.exit_code == exit_ok);
  for (const Setting& setting : settings()) {
    CHECK(contains(help.output, "--" + std::string(setting.name)));
  }
  CHECK(contains(expected<Finished>(parsed({"--help"})).output, "inspect"));
  CHECK(contains(expected<Finished>(parsed({"--version"})).output, "gyre "));
  const auto printed = expected<Finished>(parsed({"serve", "--print-config", "--cores", "1"}));
  CHECK(printed.exit_code == exit_ok);
  CHECK(contains(printed.output, "# --cores"));
}

TEST_CASE("no command at all prints the help as a mistake") {
  CHECK(contains(mistake(parsed({})), "serve"));
}

TEST_CASE("client commands find their node by flag, environment or default") {
  CHECK(expected<GetCommand>(parsed({"get", "k"})).target.url == "http://127.0.0.1:8080");
  CHECK(expected<GetCommand>(parsed({"get", "k"}, {"GYRE_URL=http://a:1/"})).target.url ==
        "http://a:1");
  const auto flagged = expected<GetCommand>(
      parsed({"get", "k", "--url", "http://b:2", "--timeout", "1s"}, {"GYRE_URL=http://a:1"}));
  CHECK(flagged.target.url == "http://b:2");
  CHECK(flagged.target.timeout_ms == 1000);
  CHECK(contains(mistake(parsed({"get", "k"}, {"GYRE_URL=a:1"})), "GYRE_URL=a:1 is not the URL"));
  CHECK(contains(mistake(parsed({"get"})), "KEY"));
}

TEST_CASE("put takes a value, an empty one, or a dash for standard input") {
  const auto plain = expected<PutCommand>(parsed({"put", "k", "v", "--ttl", "10s"}));
  CHECK(plain.value == "v");
  CHECK_FALSE(plain.value_from_stdin);
  CHECK(plain.ttl_ms == 10'000);
  CHECK(expected<PutCommand>(parsed({"put", "k", "-"})).value_from_stdin);
  const auto empty = expected<PutCommand>(parsed({"put", "k", ""}));
  CHECK(empty.value.empty());
  CHECK_FALSE(empty.value_from_stdin);
  CHECK(expected<PutCommand>(parsed({"put", "--", "-k", "--v"})).key == "-k");
  CHECK(expected<PutCommand>(parsed({"put", "[a,b]", "[c]"})).key == "[a,b]");
  CHECK(contains(mistake(parsed({"put", "k", "v", "--ttl", "10"})), "--ttl 10 is not a duration"));
}

TEST_CASE("scan has an optional end and limit") {
  const auto open = expected<ScanCommand>(parsed({"scan", "a"}));
  CHECK_FALSE(open.end.has_value());
  CHECK_FALSE(open.limit.has_value());
  const auto bounded = expected<ScanCommand>(parsed({"scan", "a", "b", "--limit", "5", "--keys"}));
  CHECK(bounded.end == "b");
  CHECK(bounded.limit == 5);
  CHECK(bounded.keys_only);
}

TEST_CASE("load, del, admin and inspect carry what they were given") {
  const auto load = expected<LoadCommand>(parsed({"load", "records.tsv", "--connections", "4"}));
  CHECK(load.file == "records.tsv");
  CHECK(load.connections == 4);
  CHECK(contains(mistake(parsed({"load", "f", "--connections", "0"})), "1 to 1024"));
  CHECK(expected<DelCommand>(parsed({"del", "k"})).key == "k");
  CHECK(expected<AdminCommand>(parsed({"admin", "compact"})).verb == AdminCommand::Verb::compact);
  const auto checkpoint = expected<AdminCommand>(parsed({"admin", "checkpoint", "copy"}));
  CHECK(checkpoint.verb == AdminCommand::Verb::checkpoint);
  CHECK(checkpoint.directory.starts_with('/'));  // the node works elsewhere
  CHECK(checkpoint.directory.ends_with("/copy"));
  const auto above = expected<AdminCommand>(parsed({"admin", "checkpoint", "/a/b/../copy"}));
  CHECK(above.directory == "/a/copy");
  CHECK(contains(mistake(parsed({"admin"})), "subcommand"));
  CHECK(expected<InspectCommand>(parsed({"inspect", "t.gyt", "--records"})).records);
}

TEST_CASE("cluster divides what one node would take") {
  const auto usual = expected<ClusterCommand>(parsed({"cluster"}));
  CHECK(!usual.nodes);
  CHECK(usual.cores == 1);
  CHECK(usual.memory_bytes == (1ull << 30) / 3 / (1u << 20) * (1u << 20));
  const auto four = expected<ClusterCommand>(parsed(
      {"cluster", "--nodes", "4", "--replication=2", "--base-port", "9000", "--dir", "/a/../b"}));
  CHECK(four.nodes == 4);
  CHECK(four.replication == 2);
  CHECK(four.base_port == 9000);
  CHECK(four.directory == "/b");
  CHECK(four.memory_bytes == 256u << 20);
  // Not less than a node can begin to work with.
  const auto many = expected<ClusterCommand>(parsed({"cluster", "--nodes", "32"}));
  CHECK(many.memory_bytes > 64u << 20);
  CHECK(many.memory_bytes < 128u << 20);
  CHECK(expected<ClusterCommand>(parsed({"cluster", "--memory", "200M"})).memory_bytes ==
        200u << 20);
}

TEST_CASE("cluster says what it accepts") {
  CHECK(contains(mistake(parsed({"cluster", "--nodes", "0"})), "--nodes 0 is out of range: 1 to"));
  CHECK(contains(mistake(parsed({"cluster", "--nodes", "three"})), "--nodes three is not"));
  CHECK(contains(mistake(parsed({"cluster", "--base-port", "65535"})), "1 to 65533"));
  CHECK(contains(mistake(parsed({"cluster", "--cores", "0"})), "--cores 0 is out of range"));
  CHECK(contains(mistake(parsed({"cluster", "--replication", "4"})), "there are 3"));
  CHECK(contains(mistake(parsed({"cluster", "--memory", "lots"})), "--memory lots is not a size"));
  CHECK(contains(mistake(parsed({"cluster", "--nodse", "3"})), "did you mean --nodes?"));
}

TEST_CASE("admin status may be asked for JSON, other verbs not") {
  CHECK(expected<AdminCommand>(parsed({"admin", "status", "--json"})).json);
  CHECK_FALSE(expected<AdminCommand>(parsed({"admin", "status"})).json);
  CHECK(contains(mistake(parsed({"admin", "flush", "--json"})), "--json is not known"));
}

TEST_CASE("admin topology takes nodes and changes of them") {
  using Verb = TopologyCommand::Verb;
  const auto made = expected<TopologyCommand>(
      parsed({"admin", "topology", "new", "--file", "t", "--peers",
              "http://b:1,weight=2,zone=x,http://a:1,zone=y", "--replication", "2"}));
  CHECK(made.verb == Verb::create);
  REQUIRE(made.peers.size() == 2);
  CHECK(made.peers[0].url == "http://a:1");
  CHECK(made.peers[1].weight == 2);
  CHECK(made.copies == 2);
  const auto plan = expected<TopologyCommand>(
      parsed({"admin", "topology", "plan", "--file", "t", "--add", "http://c:1", "--add",
              "http://d:1,weight=3", "--remove", "http://a:1/", "--reweight", "http://b:1=4",
              "--out", "p"}));
  CHECK(plan.verb == Verb::plan);
  CHECK(plan.changes.add.size() == 2);
  CHECK(plan.changes.remove == std::vector<std::string>{"http://a:1"});
  CHECK(plan.changes.reweight.at(0).second == 4);
  CHECK(plan.out == "p");
  const auto apply = expected<TopologyCommand>(
      parsed({"admin", "topology", "apply", "--file=t", "--plan=p", "--expect-epoch=7"}));
  CHECK(apply.verb == Verb::apply);
  CHECK(apply.planned == "p");
  CHECK(apply.expected_epoch == 7);
}

TEST_CASE("mistakes in admin topology are named") {
  const auto plan = [](const char* flag, const char* text) {
    return mistake(parsed({"admin", "topology", "plan", "--file", "t", flag, text}));
  };
  CHECK(contains(plan("--add", "c:1"), "--add c:1 is not the URL of a node"));
  CHECK(contains(plan("--add", "http://c:1,weight=0"), "weight=0 is not a whole number"));
  CHECK(contains(plan("--remove", "c:1"), "--remove c:1 is not the URL"));
  CHECK(contains(plan("--reweight", "http://c:1"), "is not URL=WEIGHT"));
  CHECK(contains(plan("--replication", "6"), "1 to 5 are accepted"));
  CHECK(contains(plan("--expect-epoch", "6"), "--expect-epoch is not known"));
  CHECK(contains(mistake(parsed({"admin", "topology", "plan"})), "--file"));
  CHECK(contains(mistake(parsed({"admin", "topology"})), "subcommand"));
  const char* const peers = "http://a:1,http://a:1";
  CHECK(contains(mistake(parsed({"admin", "topology", "new", "--file", "t", "--peers", peers})),
                 "named twice"));
  CHECK(contains(mistake(parsed({"admin", "topology", "apply", "--file", "t"})), "either --plan"));
  CHECK(contains(mistake(parsed({"admin", "topology", "apply", "--file", "t", "--plan", "p",
                                 "--remove", "http://a:1"})),
                 "either --plan"));
}

TEST_CASE("the proxy takes flags and the reference service's environment; flags win") {
  const auto options = expected<proxy::Options>(
      parsed({"proxy", "--port=9000", "--ttl-ms", "500", "--prefixes", "user:,ttl-ms=100"},
             {"PROXY_HOST=0.0.0.0", "PROXY_PORT=8001", "PROXY_MAX_KEYS=7", "PROXY_TTL_MS=1",
              "REDIS_HOST=redis.example", "REDIS_PORT=6380", "PROXY_UNKNOWN=1", "GYRE_LISTEN=x"}));
  CHECK(options.listen == proxy::ListenAddress{"0.0.0.0", 9000});
  CHECK(options.keys_max == 7);
  CHECK(options.others.ttl_max == milliseconds(500));
  CHECK(options.redis_host == "redis.example");
  CHECK(options.redis_port == 6380);
  CHECK(options.cores == 2);
  REQUIRE(options.policies.size() == 1);
  CHECK(options.policies[0].ttl_max == milliseconds(100));
  CHECK(options.admin == proxy::ListenAddress{"127.0.0.1", 19000});
}

TEST_CASE("the proxy's defaults are the reference service's, on the loopback address") {
  const auto options = expected<proxy::Options>(parsed({"proxy"}));
  CHECK(options.listen == proxy::ListenAddress{"127.0.0.1", 8000});
  CHECK(options.keys_max == 1000);
  CHECK(options.others.ttl_max == seconds(10));
  CHECK(options.redis_port == 6379);
  CHECK_FALSE(options.resp);
}

TEST_CASE("mistakes in the proxy's settings say what is accepted") {
  CHECK(contains(mistake(parsed({"proxy", "--prot", "1"})), "did you mean --port?"));
  CHECK(contains(mistake(parsed({"proxy", "--port", "70000"})),
                 "--port 70000 is not a whole number from 0 to 65535"));
  CHECK(contains(mistake(parsed({"proxy"}, {"PROXY_TTL_MS=0"})), "PROXY_TTL_MS=0 is not"));
  CHECK(contains(mistake(parsed({"proxy"}, {"REDIS_PORT=tcp://10.0.0.1:6379"})), "Kubernetes"));
  CHECK(contains(mistake(parsed({"proxy", "--host", "example.com"})), "numeric address"));
  CHECK(contains(mistake(parsed({"proxy", "--eviction", "random"})), "s3-fifo nor lru"));
  CHECK(contains(mistake(parsed({"proxy", "--prefixes", "a,b"})), "--prefixes a,b has b"));
  CHECK(contains(mistake(parsed({"proxy", "--admin", "127.0.0.1:8000"})), "choose another port"));
  CHECK(contains(mistake(parsed({"proxy", "--redis-user", "u"})), "--redis-password-file"));
  CHECK(contains(mistake(parsed({"proxy", "--allowed-hosts", "http://a"})),
                 "--allowed-hosts http://a is neither names"));
  CHECK(contains(mistake(parsed({"proxy", "--redis-ca", "f"})), "--redis-ca needs --redis-tls"));
  CHECK(contains(mistake(parsed({"proxy"}, {"REDIS_TLS_INSECURE=1"})),
                 "--redis-tls-insecure needs --redis-tls"));
  CHECK(contains(mistake(parsed({"proxy", "--redis-tls", "--redis-cert", "f"})),
                 "--redis-cert and --redis-key need each other"));
  CHECK(
      contains(mistake(parsed({"proxy", "--redis-tls", "--redis-tls-insecure", "--redis-ca", "f"})),
               "--redis-tls-insecure looks at no certificate"));
}

TEST_CASE("the proxy shows every value and where it came from") {
  const auto finished = expected<Finished>(
      parsed({"proxy", "--print-config", "--port", "9000"}, {"REDIS_HOST=redis"}));
  CHECK(finished.exit_code == exit_ok);
  CHECK(contains(finished.output, "PROXY_PORT=9000"));
  CHECK(contains(finished.output, "# --port"));
  CHECK(contains(finished.output, "REDIS_HOST=redis"));
  CHECK(contains(finished.output, "# REDIS_HOST"));
  CHECK(contains(finished.output, "PROXY_MAX_KEYS=1000"));
  CHECK(contains(finished.output, "# PROXY_RESP is not set"));
  CHECK(contains(finished.output, "REDIS_TLS=false"));
  CHECK(contains(finished.output, "# REDIS_CA is not set"));
}

}  // namespace gyre
