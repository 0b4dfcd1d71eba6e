#include "node/replication/replica_call.hpp"

namespace gyre {

void ReplicaCall::get(peer::Link& link, const cluster::GetRequest& request, Nanos deadline) {
  request.encode_head(get_head_);
  pieces_[0] = {get_head_, sizeof get_head_};
  pieces_[1] = request.key;
  pieces_[2] = {};
  ask(link, cluster::Verb::get, deadline);
}

void ReplicaCall::put(peer::Link& link, const cluster::PutRequest& request, Nanos deadline) {
  request.encode_head(put_head_);
  pieces_[0] = {put_head_, sizeof put_head_};
  pieces_[1] = request.key;
  pieces_[2] = request.value;
  ask(link, cluster::Verb::put, deadline);
}

void ReplicaCall::ask(peer::Link& link, cluster::Verb asked, Nanos until) {
  verb = static_cast<uint8_t>(asked);
  deadline = until;
  parts = pieces_;
  idempotent = true;  // puts carry their version, gets change nothing
  if (!link.start(*this)) done(*this);
}

}  // namespace gyre
