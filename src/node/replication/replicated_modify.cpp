#include "node/replication/replicated_modify.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "cluster/modify_messages.hpp"
#include "node/core.hpp"

namespace gyre {

using cluster::ModifyOutcome;
using cluster::ModifyReply;
using cluster::ModifyRequest;
using cluster::NodeIndex;

namespace {

// A read and a write of the first replica, each as long as any.
constexpr Nanos modify_patience = 2 * replica_patience;

constexpr std::string_view unknown =
    "NOREPLICAS The key's first replica did not answer: whether this took effect is unknown. Read "
    "the key before you try again.";
constexpr std::string_view nobody =
    "NOREPLICAS No replica of the key can be reached: nothing was written.";
constexpr std::string_view disagreement =
    "TRYAGAIN the nodes don't agree yet which of them is the key's first replica: nothing was "
    "written";
constexpr std::string_view other_build =
    "ERR the key's first replica runs a build that does not know this command in a cluster: "
    "upgrade "
    "that node";
constexpr std::string_view too_large =
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

// It was not carried out.
bool is_refused(const peer::Call& call) {
  switch (call.status) {
    case peer::Status::busy:
    case peer::Status::closing:
    case peer::Status::stale_epoch:
    case peer::Status::future_epoch:
      return !call.retried();
    default:
      return call.sent_at == 0;
  }
}

}  // namespace

struct ReplicatedModify::Remote final : peer::Call {
  explicit Remote(ReplicatedModify& of) : modify(of) {}
  ReplicatedModify& modify;
  NodeIndex node = cluster::no_node;
  std::string_view piece;
};

struct ReplicatedModify::Local final : ReplicaModify {
  Local(Core& core, ReplicatedModify& of)
      : ReplicaModify(core,
                      [](ReplicaAccess& self) noexcept {
                        ReplicatedModify& modify = static_cast<Local&>(self).modify;
                        const std::unique_ptr<Local> keep = std::move(modify.local_);
                        const ModifyReply reply = keep->reply();
                        modify.end({.failed = reply.outcome != ModifyOutcome::done,
                                    .changed = reply.changed,
                                    .text = reply.answer});
                      }),
        modify(of) {}
  ReplicatedModify& modify;
};

ReplicatedModify::ReplicatedModify(Coordinator& coordinator, std::string payload, void* owner,
                                   Answered answered)
    : coordinator_(coordinator),
      payload_(std::move(payload)),
      owner_(owner),
      answered_(answered),
      deadline_(Reactor::current().now() + modify_patience) {
  coordinator_.operation_begun();
}

ReplicatedModify::~ReplicatedModify() {
  coordinator_.operation_ended();
}

void ReplicatedModify::start(Coordinator& coordinator, std::string payload, void* owner,
                             Answered answered, uint8_t hops, Nanos deadline) {
  auto* modify = new ReplicatedModify(coordinator, std::move(payload), owner, answered);
  ModifyRequest request;
  GYRE_ASSERT(ModifyRequest::decode(modify->payload_, request));
  modify->key_ = request.key;
  modify->hops_ = hops;
  modify->deadline_ = std::min(modify->deadline_, deadline);
  ++coordinator.stats().modifies;
  modify->ask_next();
}

void ReplicatedModify::ask_next() {
  const auto nodes = coordinator_.replicas(key_, coordinator_.default_replicas());
  for (; rank_ < nodes.size(); ++rank_) {
    if (coordinator_.state_of(nodes[rank_]) != cluster::FailureDetector::State::dead) break;
  }
  if (rank_ == nodes.size()) return fail(nobody);
  const NodeIndex node = nodes[rank_++];
  if (node == coordinator_.self()) return ask_here();
  if (hops_ > ModifyRequest::hops_max) {
    return end({.failed = true, .not_first = true, .text = disagreement});
  }
  ask(node);
}

void ReplicatedModify::ask_here() {
  local_ = std::make_unique<Local>(coordinator_.core(), *this);
  if (!local_->start(payload_, deadline_)) {
    local_.reset();
    fail(other_build);
  }
}

void ReplicatedModify::ask(NodeIndex node) {
  ModifyRequest::set_hops(payload_, hops_);
  if (!remote_) remote_ = std::make_unique<Remote>(*this);
  Remote& remote = *remote_;
  remote.node = node;
  remote.verb = static_cast<uint8_t>(cluster::Verb::modify);
  remote.deadline = deadline_;
  remote.piece = payload_;
  remote.parts = {&remote.piece, 1};
  remote.done = [](peer::Call& self) noexcept { static_cast<Remote&>(self).modify.replied(); };
  if (!coordinator_.link(node).start(remote)) replied();
}

void ReplicatedModify::replied() {
  const Remote& call = *remote_;
  coordinator_.call_ended(call.node, call);
  if (call.status == peer::Status::ok) {
    ModifyReply reply;
    if (!ModifyReply::decode(call.reply, reply)) return fail(unknown);
    if (reply.outcome == ModifyOutcome::not_first) {
      return end({.failed = true, .not_first = true, .text = disagreement});
    }
    return end({.failed = reply.outcome == ModifyOutcome::failed,
                .changed = reply.changed,
                .text = reply.answer});
  }
  if (call.status == peer::Status::unsupported) return fail(other_build);
  if (call.status == peer::Status::too_large) return fail(too_large);
  if (!is_refused(call)) return fail(unknown);
  ask_next();
}

void ReplicatedModify::fail(std::string_view text) {
  end({.failed = true, .text = text});
}

void ReplicatedModify::end(const ModifyAnswer& answer) {
  if (answer.failed) ++coordinator_.stats().modifies_failed;
  answered_(owner_, answer);
  delete this;
}

// --- for a peer -----------------------------------------------------------------------------------

void serve_modify(Core& core, peer::InboundCall& call) {
  ModifyRequest request;
  if (!ModifyRequest::decode(call.payload(), request)) {
    const bool newer = ModifyRequest::is_other_version(call.payload());
    static_cast<void>(call.reply(newer ? peer::Status::unsupported : peer::Status::corrupt));
    return;
  }
  const auto answered = [](void* owner, const ModifyAnswer& answer) noexcept {
    const ModifyReply reply{.outcome = answer.not_first ? ModifyOutcome::not_first
                                       : answer.failed  ? ModifyOutcome::failed
                                                        : ModifyOutcome::done,
                            .changed = answer.changed,
                            .answer = answer.text};
    char head[ModifyReply::head_bytes];
    reply.encode_head(head);
    const std::string_view parts[] = {{head, sizeof head}, reply.answer};
    static_cast<void>(static_cast<peer::InboundCall*>(owner)->reply(peer::Status::ok, parts));
  };
  ReplicatedModify::start(core.coordinator(), std::string(call.payload()), &call, answered,
                          static_cast<uint8_t>(request.hops + 1), call.deadline());
}

}  // namespace gyre
