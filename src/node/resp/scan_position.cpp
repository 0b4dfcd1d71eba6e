#include "node/resp/scan_position.hpp"

#include <utility>

#include <gyre/call.hpp>
#include <gyre/sync.hpp>

#include "base/coding.hpp"
#include "base/limits.hpp"
#include "cluster/replica_messages.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

namespace {

constexpr Nanos position_patience = seconds(1);

uint32_t mark_of(cluster::NodeIndex node) {
  return node % ScanCursor::shards;
}

std::string known_here(Node& node, uint64_t number) {
  RespServer* const server = node.core(0).resp();
  const std::string* known = server != nullptr ? server->scan_positions().find(number) : nullptr;
  return known != nullptr ? *known : std::string();
}

Task<std::string> find_here(Core& core, uint64_t number) {
  Node* const node = &core.node();
  co_return co_await call_on(0, [node, number] { return known_here(*node, number); });
}

struct Question : peer::Call {
  char number[8];
  std::string_view piece{number, sizeof number};
  std::string key;
  Event came;
};

Task<std::string> ask_other(Coordinator& coordinator, cluster::NodeIndex node, uint64_t number) {
  Question question;
  put_fixed(question.number, number);
  question.verb = static_cast<uint8_t>(cluster::Verb::scan_position);
  question.idempotent = true;
  question.deadline = Reactor::current().now() + position_patience;
  question.parts = {&question.piece, 1};
  question.done = [](peer::Call& self) noexcept {
    auto& asked = static_cast<Question&>(self);
    if (asked.status == peer::Status::ok && asked.reply.size() <= limits::stored_key_bytes_max) {
      asked.key = asked.reply;
    }
    asked.came.set();
  };
  if (!coordinator.link(node).start(question)) co_return std::string();
  co_await detail::Uninterrupted{question.came};
  co_return std::move(question.key);
}

Task<void> answer(Core& core, peer::InboundCall& call, uint64_t number) {
  const std::string key = co_await find_here(core, number);
  static_cast<void>(call.reply(peer::Status::ok, key));
}

}  // namespace

Task<std::string> find_scan_position(Core& core, ScanCursor cursor) {
  if (cursor.number == 0) co_return std::string();
  Coordinator& coordinator = core.coordinator();
  if (cursor.shard == mark_of(coordinator.self())) {
    co_return co_await find_here(core, cursor.number);
  }
  // With more nodes than marks, of the first that has it.
  if (cursor.shard >= coordinator.links().size()) co_return std::string();
  co_return co_await ask_other(coordinator, static_cast<cluster::NodeIndex>(cursor.shard),
                               cursor.number);
}

Task<ScanCursor> remember_scan_position(Core& core, std::string stored_key) {
  Node* const node = &core.node();
  const uint64_t number = co_await call_on(0, [node, key = std::move(stored_key)] {
    return node->core(0).resp()->scan_positions().remember(key);
  });
  co_return ScanCursor{mark_of(core.coordinator().self()), number};
}

void serve_scan_position(Core& core, peer::InboundCall& call) {
  if (call.payload().size() != sizeof(uint64_t)) {
    static_cast<void>(call.reply(peer::Status::corrupt));
    return;
  }
  core.scope().spawn(answer(core, call, get_fixed<uint64_t>(call.payload().data())));
}

}  // namespace gyre
