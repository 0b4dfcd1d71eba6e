// Peers and clients on one port, of a node with several cores.
#include "peer/gate.hpp"

#include "http/client.hpp"
#include "http/connection.hpp"
#include "peer_rig.hpp"

using namespace gyre;
using namespace gyre::test;
using peer::Status;

namespace {

constexpr unsigned cores = 3;

// One core of a node: HTTP connections, and the peers that come out of them.
class PortCore final : public http::Handler, public peer::PeerSink {
 public:
  PortCore(unsigned index, std::span<peer::PeerSink* const> sinks) : gate_(sinks), index_(index) {}

  Task<void> main(bool accepts) {
    Scope scope(nullptr, "core");
    scope_ = &scope;
    service.scope = &scope;
    Listener listener;
    if (accepts) {
      REQUIRE_OR_RETURN(co_await listener.open({.address = "0.0.0.0", .port = peer_port}));
      scope.spawn(accept(&listener));
    }
    ready = true;
    while (!stop) static_cast<void>(co_await sleep_for(milliseconds(1)));
    co_await listener.close();
    for (peer::Inbound* inbound : inbounds_) inbound->abort();
    co_await scope.join();
  }

  http::Exchange* start(http::Connection& connection, const http::RequestHead&) override {
    connection.answer_text(200, "http");
    return nullptr;
  }
  void connection_closed(http::Connection&) noexcept override { ++http_ended; }
  void peer_connected(Descriptor fd, std::string received) noexcept override {
    scope_->spawn(admit(std::move(fd), std::move(received)));
  }
  void peer_arrived(Descriptor fd, std::string received) noexcept override {
    CHECK(Reactor::current().core() == index_);
    ++arrived;
    scope_->spawn(serve(std::move(fd), std::move(received)));
  }

  FakeNode node{"http://server"};
  EchoService service;
  peer::ByteBudget budget;
  std::vector<std::string> errors;
  int arrived = 0;
  int http_ended = 0;
  bool ready = false;
  bool stop = false;

 private:
  Task<void> accept(Listener* listener) {
    for (;;) {
      Result<Descriptor> fd = co_await listener->accept();
      if (!fd) break;
      scope_->spawn(serve_http(fd->release()));
    }
  }
  Task<void> serve_http(int fd) {
    http::Connection connection(fd, *this, limits_);
    co_await connection.run();
  }
  Task<void> admit(Descriptor fd, std::string received) {
    Result<void> admitted = co_await gate_.admit(std::move(fd), std::move(received));
    if (!admitted) errors.push_back(admitted.error().message());
  }
  Task<void> serve(Descriptor fd, std::string received) {
    peer::Inbound inbound(std::move(fd), node, service, budget);
    inbounds_.push_back(&inbound);
    Result<void> ended = co_await inbound.serve(std::move(received));
    if (!ended) errors.push_back(ended.error().message());
    std::erase(inbounds_, &inbound);
  }

  peer::Gate gate_;
  unsigned index_;
  http::ConnectionLimits limits_;
  Scope* scope_ = nullptr;
  std::vector<peer::Inbound*> inbounds_;
};

struct Port {
  explicit Port(uint64_t seed)
      : world({.seed = seed}),
        client_node(world.add_node()),
        server_node(world.add_node({.cores = cores})) {
    for (unsigned core = 0; core < cores; ++core) {
      all.push_back(std::make_unique<PortCore>(core, std::span<peer::PeerSink* const>(sinks)));
      sinks[core] = all.back().get();
    }
  }

  void run(Task<void> body) {
    sim::Life server(world, server_node);
    for (unsigned core = 0; core < cores; ++core) server.start(core, all[core]->main(core == 0));
    REQUIRE(world.run_until([this] { return all[0]->ready; }, seconds(1)) == sim::Stop::satisfied);
    sim::Life client_life(world, client_node);
    client_life.start(0, std::move(body));
    REQUIRE(client_life.run(seconds(600)) == sim::Stop::satisfied);
    for (auto& core : all) core->stop = true;
    REQUIRE(server.run(seconds(600)) == sim::Stop::satisfied);
    CHECK(world.check_quiescent(client_node) == "");
    CHECK(world.check_quiescent(server_node) == "");
  }

  peer::LinkOptions to(uint16_t core) {
    peer::LinkOptions options;
    options.host = server_node.address();
    options.port = peer_port;
    options.target_core = core;
    return options;
  }

  sim::World world;
  sim::Node& client_node;
  sim::Node& server_node;
  peer::PeerSink* sinks[cores] = {};
  std::vector<std::unique_ptr<PortCore>> all;
  FakeNode client{"http://client"};
};

}  // namespace

TEST_CASE("a connection moves to the core that its hello names, and clients are served beside it") {
  struct Play {
    static Task<void> run(Port* port) {
      for (uint16_t core = 0; core < cores; ++core) {
        peer::Link link(port->client, port->to(core));
        TestCall call(EchoService::echo, tagged(core, 5000));
        REQUIRE_OR_RETURN(link.start(call));
        co_await call.finished.wait();
        CHECK(call.status == Status::ok);
        CHECK(call.text == call.payload);
        CHECK(port->all[core]->service.requests == 1);
        CHECK(port->all[core]->arrived == 1);
        co_await link.close();
      }
      http::Client client({port->server_node.address(), peer_port}, seconds(10));
      REQUIRE_OR_RETURN(co_await client.connect());
      client.send_request("GET", "/");
      REQUIRE_OR_RETURN(co_await client.answer());
      CHECK(client.status() == 200);
      co_await client.close();
    }
  };
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Port port(seed);
    port.run(Play::run(&port));
    CHECK(port.all[0]->errors.empty());
    CHECK(port.all[0]->http_ended == static_cast<int>(cores) + 1);
  }
}

TEST_CASE("a hello that comes byte by byte moves whole, with what comes behind it") {
  struct Play {
    static Task<void> run(Port* port) {
      Result<Descriptor> fd = co_await connect_to(port->server_node.address(), peer_port);
      REQUIRE_OR_RETURN(fd);
      Socket socket(std::move(*fd));
      const std::string hello =
          peer::encode(peer::Hello{.target_core = 2, .identity = port->client.me, .nonce = {}});
      std::string bytes = peer::make_frame(
          {.type = peer::FrameType::hello, .verb = static_cast<uint8_t>(peer::HelloStep::hello)},
          hello);
      // No proof, but the next frame at once: its bytes travel along and are refused as one.
      bytes += peer::make_frame(
          {.type = peer::FrameType::hello, .verb = static_cast<uint8_t>(peer::HelloStep::proof)},
          std::string(32, 'x'));
      for (char c : bytes) {
        socket.append({&c, 1});
        if (c % 3 == 0) static_cast<void>(co_await sleep_for(microseconds(100)));
      }
      co_await wait_until([port] { return !port->all[2]->errors.empty(); });
      CHECK(port->all[2]->errors[0].find("know this cluster's secret") != std::string::npos);
      co_await socket.close();
    }
  };
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Port port(seed);
    port.run(Play::run(&port));
  }
}

TEST_CASE("a core beyond the last is taken around, and nonsense is closed") {
  struct Play {
    static Task<void> run(Port* port) {
      peer::Link link(port->client, port->to(7));
      TestCall call(EchoService::echo, "x");
      REQUIRE_OR_RETURN(link.start(call));
      co_await call.finished.wait();
      CHECK(call.status == Status::ok);
      CHECK(port->all[7 % cores]->arrived == 1);
      co_await link.close();

      Result<Descriptor> fd = co_await connect_to(port->server_node.address(), peer_port);
      REQUIRE_OR_RETURN(fd);
      Socket socket(std::move(*fd));
      socket.append(std::string(100, '\0'));
      Result<std::string_view> bytes = co_await socket.receive();
      CHECK((!bytes || bytes->empty()));
      co_await socket.close();
      CHECK(!port->all[0]->errors.empty());
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Port port(seed);
    port.run(Play::run(&port));
  }
}
