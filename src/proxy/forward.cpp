#include "proxy/forward.hpp"

#include <fmt/format.h>

#include <utility>

#include "proxy/resp_front.hpp"

namespace gyre::proxy {

namespace {
constexpr std::string_view asking = "*1\r\n$6\r\nASKING\r\n";
}  // namespace

std::string_view why_not(Errc outcome) {
  switch (outcome) {
    case Errc::timed_out:
      return "Redis did not answer in time; the command may have been carried out";
    case Errc::overloaded:
      return "too much is under way; try again";
    case Errc::cancelled:
      return "shutting down";
    default:
      return "the connection to Redis was lost; the command may have been carried out";
  }
}

std::optional<resp::Redirect> redirect_of(std::string_view reply) {
  if (!reply.starts_with('-') || !reply.ends_with("\r\n")) return {};
  return resp::parse_redirect(reply.substr(1, reply.size() - 3));
}

Forward::Forward(RespFront& front) : front_(front) {
  raw = [](ClientCommand& self, std::string_view reply) noexcept {
    static_cast<Forward&>(self).reply_text_.assign(reply);
  };
  done = [](ClientCommand& self) noexcept {
    auto& forward = static_cast<Forward&>(self);
    if (forward.outcome != Errc::ok) {
      forward.error_ = fmt::format("ERR gyre proxy: {}", why_not(forward.outcome));
    } else if (forward.redirected()) {
      return;
    }
    forward.replied();
  };
  ended = [](TopologyWaiter& self) noexcept { static_cast<Forward&>(self).go_on(); };
}

void Forward::fail(std::string_view why) {
  unsent_ = true;
  error_ = fmt::format("ERR gyre proxy: {}", why);
  replied();
}

void Forward::send(resp::Client& client) {
  if (is_asking_) {
    asking_.assign(asking);
    asking_ += encoded_;
  }
  bytes = is_asking_ ? asking_ : encoded_;
  replies = is_asking_ ? 2 : 1;
  unsent_ = false;
  if (client.start(*this)) return;
  if (outcome == Errc::closed) front_.upstream().refresh_soon();
  fail(outcome == Errc::closed ? "Redis can't be reached" : why_not(outcome));
}

void Forward::forward(std::optional<uint16_t> slot) {
  Upstream& upstream = front_.upstream();
  if (!upstream.is_cluster()) {
    send(client_at(nullptr));
    return;
  }
  const UpstreamNode* const node = slot ? upstream.node_of(*slot) : upstream.any_master();
  if (node != nullptr) {
    forward_to(*node);
    return;
  }
  upstream.refresh_soon();
  fail(slot ? "no node of the cluster is known to have this key's slot"
            : "no node of the cluster is known");
}

void Forward::forward_to(const UpstreamNode& node) {
  const resp::NodeAddress address = Upstream::address_of(node);
  said_by_ = address.host;
  send(client_at(&address));
}

bool Forward::redirected() {
  Upstream& upstream = front_.upstream();
  if (!upstream.is_cluster() || !reply_text_.starts_with('-')) return false;
  auto redirect = redirect_of(reply_text_);
  if (!redirect) {
    if (reply_text_.starts_with("-CLUSTERDOWN")) upstream.refresh_soon();
    return false;
  }
  upstream.note(*redirect);
  if (redirect->node.host.empty()) redirect->node.host = said_by_;
  if (!redirect->ask) upstream.refresh_soon(redirect->node);
  if (!may_go_on()) return false;
  is_asking_ = redirect->ask;
  target_ = std::move(redirect->node);
  go_on();
  return true;
}

// To its target, now or when the topology was read.
void Forward::go_on() {
  Upstream& upstream = front_.upstream();
  if (abandoned_) {
    fail("its client has gone");
  } else if (++hops_ > Upstream::hops_max) {
    fail("the cluster's nodes did not agree on who has this key's slot");
  } else if (UpstreamNode* const node = upstream.find(target_); node != nullptr) {
    forward_to(*node);
  } else if (upstream.is_closing()) {
    fail("shutting down");
  } else {
    upstream.wait_for_topology(*this);
  }
}

}  // namespace gyre::proxy
