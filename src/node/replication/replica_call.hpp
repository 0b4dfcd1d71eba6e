// A question to a replica on another node, as ReplicatedRead and ReplicatedWrite ask it. Whoever
// derives from it sets `done`, which is called once, perhaps before get or put returns.
#pragma once

#include <string_view>

#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "cluster/replica_messages.hpp"
#include "peer/link.hpp"

namespace gyre {

class ReplicaCall : public peer::Call {
 public:
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* call, size_t size_bytes) { free_frame(call, size_bytes); }

  // Key and value stay where they are until `done`.
  void get(peer::Link& link, const cluster::GetRequest& request, Nanos deadline);
  void put(peer::Link& link, const cluster::PutRequest& request, Nanos deadline);

 private:
  void ask(peer::Link& link, cluster::Verb asked, Nanos until);

  char get_head_[cluster::GetRequest::head_bytes];
  char put_head_[cluster::PutRequest::head_bytes];
  std::string_view pieces_[3];
};

}  // namespace gyre
