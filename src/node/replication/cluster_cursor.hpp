// The entries of a range of the whole cluster, one after the other in the order of keys. cluster::ScanMerge
// decides what is read from whom and what is seen; this does it: streams are calls with pages to other
// nodes, and one ReplicaScan of this node, for which no connection is needed.
//
// Each record is as a read of `ack` of its `from` replicas would have shown it when its stream was
// opened; nothing is written back. Values from 64 KiB on don't travel with the streams, and with
// keys_only none does: their records are of kind long_value.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <gyre/scope.hpp>
#include <gyre/sync.hpp>

#include "cluster/scan_merge.hpp"
#include "node/replication/coordinator.hpp"

namespace gyre {

class ClusterCursor {
 public:
  using Do = cluster::ScanMerge::Do;
  struct Range {
    std::string start;  // not empty
    std::string end;    // empty: there is none
    uint32_t ack = 1;
    uint32_t from = 1;
    bool keys_only = false;
  };

  // What reads this node's store runs in `scope`, and ends before that is joined.
  ClusterCursor(Core& core, Scope& scope, Range range);
  ~ClusterCursor();
  ClusterCursor(const ClusterCursor&) = delete;
  ClusterCursor& operator=(const ClusterCursor&) = delete;

  // Do::record, end or fail.
  Task<Do> advance();
  // During Do::record, until advance().
  const cluster::ScanEntry& record() const { return merge_.record(); }
  // Why it failed: not for too few replicas.
  bool memory_short() const { return memory_short_; }
  // … or a node did not understand the question.
  bool not_understood() const { return not_understood_; }

 private:
  using Step = cluster::ScanMerge::Step;
  struct Remote;  // a stream from another node
  struct Local;   // from this one
  struct WakeTimer : Timer {
    explicit WakeTimer(ClusterCursor& of);
    ClusterCursor& cursor;
  };

  void open_stream(const Step& step);
  void close_stream(const Step& step);
  void grant(const Step& step);
  bool reserve(uint64_t bytes);
  void give_back(uint64_t bytes);
  static Task<void> feed(std::shared_ptr<Local> local);

  Core& core_;
  Scope& scope_;
  Range range_;
  uint64_t now_ms_;
  cluster::ScanMerge merge_;
  std::map<cluster::ScanMerge::StreamId, std::unique_ptr<Remote>> remotes_;
  std::map<cluster::ScanMerge::StreamId, std::shared_ptr<Local>> locals_;
  uint64_t transit_bytes_ = 0;
  bool memory_short_ = false;
  bool not_understood_ = false;
  Event progress_;
  WakeTimer wake_;
};

}  // namespace gyre
