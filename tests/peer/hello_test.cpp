#include "peer/hello.hpp"

#include "peer_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using peer::Status;

namespace {

// One call, and what the link and the server say about how it went.
struct Attempt {
  Status status = Status::ok;
  std::string trouble;
};

Task<void> call_once(Stage* stage, peer::LinkOptions options, Attempt* out) {
  peer::Link link(stage->client, std::move(options));
  TestCall call(EchoService::echo, "hello", Reactor::current().after(seconds(20)));
  co_await wait_until([stage] { return stage->server->listening; });
  REQUIRE_OR_RETURN(link.start(call));
  co_await call.finished.wait();
  out->status = call.status;
  out->trouble = link.trouble();
  if (link.peer() != nullptr) CHECK(link.peer()->url == "http://server");
  // The server may still have to hear of it.
  static_cast<void>(co_await sleep_for(seconds(1)));
  co_await link.close();
}

}  // namespace

TEST_CASE("who holds the secret is served, and both learn who the other is") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Stage stage(seed);
    Attempt attempt;
    stage.run(call_once(&stage, stage.link_options(), &attempt));
    CHECK(attempt.status == Status::ok);
    CHECK(attempt.trouble.empty());
    CHECK(stage.server->node.seen == std::vector<std::string>{"http://client"});
    CHECK(stage.client.seen == std::vector<std::string>{"http://server"});
    CHECK(stage.server->errors.empty());
  }
}

TEST_CASE("who does not hold the secret is refused, and both say why") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Stage stage(seed);
    stage.client.key = "another secret, just as long";
    Attempt attempt;
    stage.run(call_once(&stage, stage.link_options(), &attempt));
    CHECK(attempt.status == Status::closed);
    CHECK(attempt.trouble.find("know this cluster's secret") != std::string::npos);
    REQUIRE(!stage.server->errors.empty());
    CHECK(stage.server->errors[0].find("know this cluster's secret") != std::string::npos);
    CHECK(stage.server->service.requests == 0);
    CHECK(stage.server->node.seen.empty());
    CHECK(stage.client.seen.empty());
  }
}

TEST_CASE("another node than the one that was expected is refused") {
  Stage stage(1);
  peer::LinkOptions options = stage.link_options();
  options.handshake.expected_url = "http://elsewhere";
  Attempt attempt;
  stage.run(call_once(&stage, std::move(options), &attempt));
  CHECK(attempt.status == Status::closed);
  CHECK(attempt.trouble.find("answers where http://elsewhere should") != std::string::npos);
  CHECK(stage.server->service.requests == 0);
  CHECK(stage.client.seen.empty());
}

TEST_CASE("what either side has against the other ends the handshake, and both say so") {
  for (const bool server_objects : {false, true}) {
    Stage stage(1);
    (server_objects ? stage.server->node : stage.client).complaint = "another table";
    Attempt attempt;
    stage.run(call_once(&stage, stage.link_options(), &attempt));
    CHECK(attempt.status == Status::closed);
    CHECK(attempt.trouble.find("another table") != std::string::npos);
    CHECK(stage.server->service.requests == 0);
    CHECK(stage.client.seen.empty());
    CHECK(stage.server->node.seen.empty() == server_objects);
  }
}

TEST_CASE("nodes without a common version of the protocol say so") {
  Stage stage(1);
  stage.server->options.handshake.versions = {3, 4};
  Attempt attempt;
  stage.run(call_once(&stage, stage.link_options(), &attempt));
  CHECK(attempt.status == Status::closed);
  CHECK(attempt.trouble.find("no common version") != std::string::npos);
  REQUIRE(!stage.server->errors.empty());
  CHECK(stage.server->errors[0].find("3 to 4 here, 2 to 2 there") != std::string::npos);
}

TEST_CASE("of several common versions the newest is taken") {
  Stage stage(1);
  stage.server->options.handshake.versions = {1, 4};
  peer::LinkOptions options = stage.link_options();
  options.handshake.versions = {2, 9};
  Attempt attempt;
  stage.run(call_once(&stage, options, &attempt));
  CHECK(attempt.status == Status::ok);
}

TEST_CASE("a proof holds for one role, one connection and one secret") {
  const peer::Proof proof = peer::prove("secret", peer::Role::asker, "hello", "challenge");
  const auto same = [&](std::string_view secret, peer::Role role, std::string_view hello,
                        std::string_view challenge) {
    const peer::Proof other = peer::prove(secret, role, hello, challenge);
    return peer::same_proof({proof.data(), proof.size()}, {other.data(), other.size()});
  };
  CHECK(same("secret", peer::Role::asker, "hello", "challenge"));
  CHECK_FALSE(same("secreu", peer::Role::asker, "hello", "challenge"));
  CHECK_FALSE(same("secret", peer::Role::server, "hello", "challenge"));
  CHECK_FALSE(same("secret", peer::Role::asker, "helloc", "hallenge"));
  CHECK_FALSE(same("secret", peer::Role::asker, "hello", "challengf"));
  CHECK_FALSE(peer::same_proof({proof.data(), proof.size()}, ""));
}

TEST_CASE("a hello is read as it was written, and half of one is not") {
  peer::Hello hello;
  hello.versions = {2, 5};
  hello.target_core = 3;
  hello.identity = {.url = "http://node:1", .epoch = 7, .table_hash = 8, .cores = 1027};
  hello.identity.uuid[5] = 9;
  hello.nonce[31] = 'n';
  const std::string bytes = peer::encode(hello);
  Result<peer::Hello> read = peer::decode_hello(bytes + "fields of a later version");
  REQUIRE(read);
  CHECK(read->versions.max == 5);
  CHECK(read->target_core == 3);
  CHECK(read->identity == hello.identity);
  CHECK(read->nonce == hello.nonce);
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK_FALSE(peer::decode_hello(std::string_view(bytes).substr(0, size)));
  }
}

TEST_CASE("a peer that says nothing is let go") {
  Stage stage(1);
  struct Play {
    static Task<void> run(Stage* stage) {
      co_await wait_until([stage] { return stage->server->listening; });
      Result<Descriptor> fd = co_await connect_to(stage->server_node.address(), peer_port);
      REQUIRE_OR_RETURN(fd);
      Socket socket(std::move(*fd));
      socket.append(std::string_view("\0\1", 2));
      co_await wait_until([stage] { return !stage->server->errors.empty(); });
      CHECK(stage->server->inbounds.empty());
      co_await socket.close();
    }
  };
  stage.run(Play::run(&stage));
}

TEST_CASE("the core that a hello names is found without taking anything from the handshake") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Stage stage(seed);
    struct Play {
      // A server that first asks for the core, as whoever accepts does.
      static Task<void> serve(Stage* stage, Listener* listener) {
        Result<Descriptor> fd = co_await listener->accept();
        REQUIRE_OR_RETURN(fd);
        Socket socket(std::move(*fd));
        std::string received;
        Result<uint16_t> core = co_await peer::read_target_core(socket, received, seconds(5));
        CHECK(core.has_value());
        if (core) CHECK(*core == 6);
        Result<peer::Met> met =
            co_await peer::meet_as_server(socket, stage->server->node, received, {});
        CHECK(met.has_value());
        CHECK(co_await socket.drained(0));
        co_await socket.close();
      }
      static Task<void> run(Stage* stage) {
        Listener listener;
        REQUIRE_OR_RETURN(co_await listener.open({.address = "0.0.0.0", .port = 9200}));
        Scope scope(nullptr, "server");
        scope.spawn(serve(stage, &listener));
        peer::LinkOptions options = stage->link_options();
        options.host = stage->client_node.address();
        options.port = 9200;
        options.target_core = 6;
        peer::Link link(stage->client, options);
        link.connect();
        co_await wait_until([&link] { return link.stats().connected == 1; });
        co_await link.close();
        co_await scope.join();
        co_await listener.close();
      }
    };
    stage.run(Play::run(&stage));
  }
}
