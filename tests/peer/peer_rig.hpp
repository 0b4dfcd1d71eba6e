// A node that serves peers and a node that asks it, on the simulated network.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "base/coding.hpp"
#include "peer/inbound.hpp"
#include "peer/link.hpp"
#include "sim/life.hpp"

// REQUIRE for coroutines, which an exception must not leave.
#define REQUIRE_OR_RETURN(condition)   \
  do {                                 \
    const bool holds_{condition};      \
    CHECK_MESSAGE(holds_, #condition); \
    if (!holds_) co_return;            \
  } while (false)

namespace gyre::test {

inline constexpr uint16_t peer_port = 9100;

struct FakeNode : peer::LocalNode {
  explicit FakeNode(std::string url) { me.url = std::move(url); }
  peer::Identity identity() const override { return me; }
  const std::string& secret() const override { return key; }
  std::string objection(const peer::Identity&) const override { return complaint; }
  uint64_t epoch() const override { return me.epoch; }
  uint64_t hlc() override { return ++clock; }
  bool observe(uint64_t hlc) override {
    if (hlc > trusted_to) return false;
    clock = std::max(clock, hlc);
    return true;
  }
  void peer_seen(const peer::Identity& peer) noexcept override { seen.push_back(peer.url); }

  peer::Identity me;
  std::string key = "the secret of this cluster";
  std::string complaint;  // about every peer
  uint64_t clock = 1;
  uint64_t trusted_to = UINT64_MAX;
  std::vector<std::string> seen;
};

// verb 1 echoes; 2 echoes after as many microseconds as the first 8 bytes say; 3 keeps the call
// until `let_go`; 4 sends pages of 10,000 bytes, as many as the first 8 bytes say, as credit allows; others
// are unsupported.
class EchoService final : public peer::Service {
 public:
  enum Verb : uint8_t { echo = 1, echo_later = 2, hold = 3, pages = 4 };

  void request(peer::InboundCall& call) noexcept override {
    ++times[std::string(call.payload().substr(0, 16))];
    ++requests;
    switch (call.verb()) {
      case echo:
        call.reply(peer::Status::ok, call.payload());
        return;
      case echo_later:
        call.keep_payload();
        scope->spawn(later(&call));
        return;
      case hold:
        call.keep_payload();
        call.next = held;
        held = &call;
        return;
      case pages: {
        auto* left = new PagesLeft{*this, get_fixed<uint64_t>(call.payload().data())};
        call.context = left;
        call.begin_pages(&EchoService::go_on);
        go_on(call);
        return;
      }
      default:
        call.reply(peer::Status::unsupported);
    }
  }
  void let_go() {
    while (held != nullptr) {
      peer::InboundCall* call = held;
      held = call->next;
      call->reply(peer::Status::ok, call->payload());
    }
  }

  Scope* scope = nullptr;
  peer::InboundCall* held = nullptr;
  std::map<std::string, int> times;  // a request was seen, by how its payload begins
  int requests = 0;
  uint64_t pages_sent = 0;
  int pages_stopped = 0;

 private:
  struct PagesLeft {
    EchoService& service;
    uint64_t pages;
    uint64_t sent = 0;
  };
  static void go_on(peer::InboundCall& call) noexcept {
    auto* left = static_cast<PagesLeft*>(call.context);
    const bool wanted = call.pages_wanted();
    while (wanted && left->sent < left->pages && call.credit_bytes() > 0) {
      const std::string page = std::string(10'000, static_cast<char>('a' + left->sent % 26));
      const std::string_view part = page;
      CHECK(call.send_page({&part, 1}));
      ++left->sent;
      ++left->service.pages_sent;
    }
    if (wanted && left->sent < left->pages) return;
    if (!wanted) ++left->service.pages_stopped;
    delete left;
    call.reply(peer::Status::ok, "the end");
  }
  static Task<void> later(peer::InboundCall* call) {
    const auto delay = get_fixed<uint64_t>(call->payload().data());
    static_cast<void>(co_await sleep_for(microseconds(static_cast<int64_t>(delay))));
    call->reply(peer::Status::ok, call->payload());
  }
};

struct PeerServer {
  FakeNode node{"http://server"};
  EchoService service;
  peer::ByteBudget budget;
  peer::InboundOptions options;
  std::vector<std::string> errors;  // how connections ended that did not end well
  uint64_t connections = 0;
  size_t output_bytes_most = 0;
  bool stop = false;
  bool listening = false;
  bool release = false;  // what is held, once

  Task<void> main() {
    Scope scope(nullptr, "server");
    service.scope = &scope;
    Listener listener;
    Result<void> opened = co_await listener.open({.address = "0.0.0.0", .port = peer_port});
    REQUIRE_OR_RETURN(opened);
    listening = true;
    scope.spawn(accept(&listener, &scope));
    while (!stop) {
      if (std::exchange(release, false)) service.let_go();
      output_bytes_most = std::max(output_bytes_most, output_bytes_live());
      static_cast<void>(co_await sleep_for(milliseconds(1)));
    }
    listening = false;
    co_await listener.close();
    for (peer::Inbound* inbound : inbounds) inbound->abort();
    service.let_go();
    co_await scope.join();
    CHECK(budget.bytes == 0);
  }

 private:
  Task<void> accept(Listener* listener, Scope* scope) {
    for (;;) {
      Result<Descriptor> fd = co_await listener->accept();
      if (!fd) break;
      ++connections;
      scope->spawn(serve(std::move(*fd)));
    }
  }
  Task<void> serve(Descriptor fd) {
    peer::Inbound inbound(std::move(fd), node, service, budget, options);
    inbounds.push_back(&inbound);
    Result<void> ended = co_await inbound.serve({});
    if (!ended) errors.push_back(ended.error().message());
    std::erase(inbounds, &inbound);
  }

 public:
  std::vector<peer::Inbound*> inbounds;
};

// Calls that a test makes, with what became of them.
struct TestCall : peer::Call {
  TestCall(uint8_t what, std::string bytes, Nanos until = nanos_never) : payload(std::move(bytes)) {
    verb = what;
    deadline = until;
    part = payload;
    parts = {&part, 1};
    done = [](Call& call) noexcept {
      auto& self = static_cast<TestCall&>(call);
      ++self.ended;
      self.text = self.reply;
      self.finished.set();
    };
  }
  std::string payload;
  std::string_view part;
  std::string text;
  int ended = 0;
  Event finished;
};

inline std::string tagged(uint64_t tag, size_t size_bytes) {
  std::string out;
  append_fixed(out, tag);
  append_fixed(out, tag * 0x9e3779b97f4a7c15);
  for (size_t i = out.size(); i < size_bytes; ++i) out += static_cast<char>(i * 31 + tag);
  return out;
}

struct Stage {
  explicit Stage(uint64_t seed, sim::NetworkOptions network = {})
      : world({.seed = seed, .network = network}),
        client_node(world.add_node()),
        server_node(world.add_node()) {}

  peer::LinkOptions link_options() {
    peer::LinkOptions options;
    options.host = server_node.address();
    options.port = peer_port;
    return options;
  }
  void start_server() {
    server->stop = false;
    life = std::make_unique<sim::Life>(world, server_node);
    life->start(0, server->main());
  }
  // The process dies, the kernel says goodbye.
  void kill_server() {
    server->stop = true;
    CHECK(life->kill());
    life.reset();
  }
  // Runs `body` on the client's node until it ends, then stops the server.
  void run(Task<void> body) {
    const int64_t frames_before = frames_live() - 1;  // `body` is one
    {
      if (life == nullptr) start_server();
      sim::Life client(world, client_node);
      client.start(0, std::move(body));
      REQUIRE(world.run_until([&] { return client.ended(); }, seconds(3600)) ==
              sim::Stop::satisfied);
      if (life != nullptr) {
        server->stop = true;
        REQUIRE(life->run(seconds(600)) == sim::Stop::satisfied);
        life.reset();
      }
      CHECK(world.check_quiescent(client_node) == "");
      CHECK(world.check_quiescent(server_node) == "");
    }
    CHECK(frames_live() == frames_before);
  }

  sim::World world;
  sim::Node& client_node;
  sim::Node& server_node;
  std::unique_ptr<PeerServer> server = std::make_unique<PeerServer>();
  std::unique_ptr<sim::Life> life;
  FakeNode client{"http://client"};
};

inline Task<void> wait_until(std::function<bool()> holds, Nanos limit = seconds(60)) {
  const Nanos end = Reactor::current().after(limit);
  while (!holds() && Reactor::current().now() < end) {
    static_cast<void>(co_await sleep_for(microseconds(200)));
  }
  CHECK(holds());
}

}  // namespace gyre::test
