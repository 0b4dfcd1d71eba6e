// Commands that read and write one key at once, at the key's first replica: one after the other.
//
//   replicated_modify ─→ ReplicaModify ──(mailbox)──→ KeyModifiers, on the core of the key's shard
//                                                       │ what waits for the key is one batch:
//                                                       │   a stamp · majority read · each is applied to
//                                                       │   what the one before made · majority write
//                              answers ←────────────────┘
//
// A batch costs one read and one write, however many commands are in it. Its stamp lies just above what
// was read, or stamp_behind behind the clock if that is more: a plain write which the read has not seen,
// and which is acknowledged, was stamped later than that, and is not lost under the batch's. Where one
// has come between:
//
//   - no replica has taken the batch's write: it is made again, on what there is now
//   - some have: it counts as done before the plain write. That is right if the other one was a plain
//     write. It was written by another first replica if nodes disagree on who that is, which takes
//     longer than takeover_min: after that the outcome is unknown.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "cluster/modify_messages.hpp"
#include "node/replication/replica_access.hpp"
#include "node/resp/modification.hpp"

namespace gyre {

class Coordinator;

// One such command, where this node is the first replica.
class ReplicaModify : public ReplicaAccess {
 public:
  ReplicaModify(Core& home, Finished finished) : ReplicaAccess(home, finished) {}

  // The payload stays where it is until `finished`. False: it makes no sense, and nothing comes.
  bool start(std::string_view payload, Nanos deadline);

  // The answer points into this object.
  cluster::ModifyReply reply() const;

 private:
  friend class KeyModifiers;
  void work(Core& owner) override;
  void fail(std::string_view text);

  cluster::ModifyRequest request_;
  Nanos deadline_ = 0;
  std::vector<std::string_view> words_;  // with places for the name and the key
  WriteRecord record_;
  ValueBuffer buffer_;
  std::unique_ptr<Modification> modification_;
  std::string failure_;
};

class KeyModifiers {
 public:
  static constexpr size_t waiting_max = 16'384;
  static constexpr size_t batch_max = 1024;

  explicit KeyModifiers(Coordinator& coordinator) : coordinator_(coordinator) {}
  ~KeyModifiers();
  KeyModifiers(const KeyModifiers&) = delete;
  KeyModifiers& operator=(const KeyModifiers&) = delete;

  // On the core of the key's shard.
  void add(ReplicaModify& modify);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const;
  };
  // Of one key: those that wait, while some are worked on.
  using Waiting = std::vector<ReplicaModify*>;
  struct State;

  Task<void> run(std::string key);
  Task<void> run_beside(ReplicaModify* modify);
  Task<void> work_on(std::string key, Waiting batch, Waiting& waiting);
  Task<bool> try_once(const std::string& key, Waiting& batch, Waiting& waiting, bool last);
  static Waiting take_batch(Waiting& waiting);
  static size_t apply_all(Waiting& batch, State& state);
  // Of the key's replicas that are not dead, as far as this core knows.
  bool is_first(std::string_view key) const;
  Version stamp_above(const Version& seen, uint64_t read_begun_hlc, std::string_view key) const;
  void answer(ReplicaModify& modify);
  void refuse(Waiting& batch, size_t first, std::string_view text);

  Coordinator& coordinator_;
  std::unordered_map<std::string, Waiting, Hash, std::equal_to<>> keys_;
  size_t waiting_ = 0;
};

}  // namespace gyre
