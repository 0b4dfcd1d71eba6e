// One key of this node's own store, as a replica of it: what the coordinator does when this node is
// among the replicas, and what it does for the coordinators of other nodes.
//
// The object travels as a message from the core that asks to the core that owns the key's shard, and
// back, where `finished` is called. It belongs to the store's core meanwhile, and must live until then.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/mailbox.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/replica_messages.hpp"
#include "cluster/slot_table.hpp"
#include "node/core.hpp"
#include "store/shard.hpp"

namespace gyre {

class ShardHandoff;

class ReplicaAccess : public Message {
 public:
  using Finished = void (*)(ReplicaAccess& self) noexcept;

  virtual ~ReplicaAccess() = default;
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* access, size_t size_bytes) { free_frame(access, size_bytes); }

 protected:
  ReplicaAccess(Core& home, Finished finished) : home_(home), finished_(finished) {}

  void go(std::string_view key);
  void go_back();
  virtual void work(Core& owner) = 0;

  Core& home_;
  Finished finished_;
  uint32_t shard_ = 0;
  unsigned owner_ = 0;
};

// Stores a value or a tombstone under the version it came with, unless something newer is there.
class ReplicaPut : public ReplicaAccess, private StoreWrite {
 public:
  ReplicaPut(Core& home, Finished finished) : ReplicaAccess(home, finished) {}

  // Key and value are copied, since they may come in a buffer that is gone before the log takes them.
  void start(const cluster::PutRequest& request);

  const cluster::PutReply& reply() const { return reply_; }

 private:
  void work(Core& owner) override;
  Task<void> look_for_newer(Core& owner);
  void reserve(Core& owner);
  Task<void> reserve_with_patience(Core& owner);
  void hold(Core& owner);
  Task<void> hold_durably(Core& owner);
  void submit(Core& owner);
  void ended(cluster::WriteOutcome outcome);

  std::string key_;
  cluster::PutReply reply_;
  bool repair_ = false;
  uint8_t from_ = 1;
  cluster::NodeIndex coordinator_ = 0;
  ShardHandoff* holder_ = nullptr;  // of the write as unconfirmed
};

// Reads the newest entry of a key.
class ReplicaGet : public ReplicaAccess {
 public:
  ReplicaGet(Core& home, Finished finished) : ReplicaAccess(home, finished) {}

  // The value is left out where it is longer than `value_bytes_max`. `tried`: try_now has just said
  // no, so this core's memory is not looked through again.
  void start(std::string_view key, uint32_t value_bytes_max, bool tried = false);

  // The same without an object, where the key's shard is this core's and its newest entry in memory.
  // `read` is fresh, and holds what `reply` points into; false: it has to be asked the long way.
  static bool try_now(Core& home, std::string_view key, uint32_t value_bytes_max, StoreRead& read,
                      cluster::GetReply& reply);

  // `value` points into this object.
  const cluster::GetReply& reply() const { return reply_; }

 private:
  void work(Core& owner) override;
  Task<void> work_slowly(Core& owner);
  Task<Result<void>> take(StoreRead read, bool found);
  static bool describe(const StoreRead& read, bool found, uint32_t value_bytes_max,
                       cluster::GetReply& reply);
  bool take_now(const StoreRead& read, bool found);

  std::string key_;
  uint32_t value_bytes_max_ = 0;
  bool tried_ = false;
  cluster::GetReply reply_;
  std::string value_;
};

}  // namespace gyre
