// A range request to the whole cluster. cluster::ScanMerge decides what is read from whom and what the
// client sees; this does it: streams are calls with pages to other nodes, and one ReplicaScan of this
// node, for which no connection is needed.
//
// The answer begins when the first record is known, or the end: a range that can't be had is a 504.
// Each record is as a read of `ack` of its `from` replicas would have shown it when its stream was
// opened; nothing is written back. Values from 64 KiB on don't travel with the streams: each is read
// when its turn comes, as a GET would, and may be younger than the stream.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <gyre/sync.hpp>

#include "cluster/scan_merge.hpp"
#include "node/range_exchange.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_read.hpp"

namespace gyre {

class ClusterScan final : public RangeExchange {
 public:
  ClusterScan(http::Connection& connection, Core& core, std::string_view start,
              std::string_view end, uint32_t ack, uint32_t from);
  ~ClusterScan() override;

  void begin() override;
  Task<bool> stream(http::Connection& to) override;

 private:
  using Do = cluster::ScanMerge::Do;
  using Step = cluster::ScanMerge::Step;
  struct Remote;  // a stream from another node
  struct Local;   // from this one
  struct WakeTimer : Timer {
    explicit WakeTimer(ClusterScan& of);
    ClusterScan& scan;
  };
  enum class LongValue : uint8_t { sent, gone, failed };

  Task<void> open();
  Task<Do> advance();
  void open_stream(const Step& step);
  void close_stream(const Step& step);
  void grant(const Step& step);
  static Task<void> feed(std::shared_ptr<Local> local);
  void append_record(Socket& out);
  Task<LongValue> send_long(Socket& out);
  void take_long(const ReadAnswer& answer) noexcept;

  uint32_t ack_;
  uint32_t from_;
  std::optional<cluster::ScanMerge> merge_;
  std::map<cluster::ScanMerge::StreamId, std::unique_ptr<Remote>> remotes_;
  std::map<cluster::ScanMerge::StreamId, std::shared_ptr<Local>> locals_;
  bool memory_short_ = false;
  Do first_ = Do::fail;
  Event progress_;
  WakeTimer wake_;
  // The long value that is being read.
  Event long_came_;
  LongValue long_value_ = LongValue::failed;
};

}  // namespace gyre
