// A command on its way to Redis: of a cluster, to the node that has its slot, and on to where that
// node says it is.
//
// TRYAGAIN and CLUSTERDOWN are passed on: whoever asks again later may overtake what came after.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/upstream.hpp"
#include "resp/client.hpp"
#include "resp/cluster.hpp"

namespace gyre::proxy {

class RespFront;

class Forward : public resp::ClientCommand, private TopologyWaiter {
 protected:
  explicit Forward(RespFront& front);
  ~Forward() = default;

  // By its slot; nothing: to any node. Ends with `replied`, perhaps at once.
  void forward(std::optional<uint16_t> slot);
  void forward_to(const UpstreamNode& node);
  // By `client`, as it is.
  void send(resp::Client& client);
  // Nothing of it is sent any more; only while it is not under way.
  void abandon() { abandoned_ = true; }

  // Its connection to a node of the cluster, or without one to Redis (null).
  virtual resp::Client& client_at(const resp::NodeAddress* node) = 0;
  // Whether a redirect may be followed.
  virtual bool may_go_on() const { return true; }
  // `reply_text_` or `error_` is what came of it.
  virtual void replied() = 0;

  RespFront& front_;
  std::string encoded_;     // the command
  std::string reply_text_;  // its bytes
  std::string error_;       // without '-'
  bool unsent_ = false;     // it was not sent to anybody, the last time

 private:
  bool redirected();
  void go_on();
  void fail(std::string_view why);

  std::string said_by_;  // the host of who was asked
  resp::NodeAddress target_;
  unsigned hops_ = 0;
  bool is_asking_ = false;
  bool abandoned_ = false;
  std::string asking_;
};

// Of a command for Redis that ended with anything but ok, for its client.
std::string_view why_not(Errc outcome);

// The redirect that a reply is, if it is one.
std::optional<resp::Redirect> redirect_of(std::string_view reply);

}  // namespace gyre::proxy
