// A range request to the whole cluster (cluster_cursor.hpp).
//
// The answer begins when the first record is known, or the end: a range that can't be had is a 504.
// A value that doesn't travel with the streams is read when its turn comes, as a GET would, and may be
// younger than its stream.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <gyre/sync.hpp>

#include "node/range_exchange.hpp"
#include "node/replication/cluster_cursor.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_read.hpp"

namespace gyre {

class ClusterScan final : public RangeExchange {
 public:
  ClusterScan(http::Connection& connection, Core& core, std::string_view start,
              std::string_view end, uint32_t ack, uint32_t from);

  void begin() override;
  Task<bool> stream(http::Connection& to) override;

 private:
  using Do = ClusterCursor::Do;
  enum class LongValue : uint8_t { sent, gone, failed };

  Task<void> open();
  void append_record(Socket& out);
  Task<LongValue> send_long(Socket& out);
  void take_long(const ReadAnswer& answer) noexcept;

  uint32_t ack_;
  uint32_t from_;
  std::optional<ClusterCursor> cursor_;
  Do first_ = Do::fail;
  // The long value that is being read.
  Event long_came_;
  LongValue long_value_ = LongValue::failed;
};

}  // namespace gyre
