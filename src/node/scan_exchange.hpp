// A range request to this node alone: a k-way merge of all its shards, streamed.
//
// Each shard's scan lives on its own core and is asked for pages of bounded size; a page holds
// records already framed as chunks, so that with one shard it goes out as it is, and with several
// runs of records are copied in merge order. One page per shard is kept here, the next is asked
// for only when it is used up and the client has read: constant memory for any range, and the
// store stops being read when the client stops reading.
//
// A page ends with the record that reaches 64 KiB, so it has less than 192 KiB with keys of HTTP's
// size; large values follow it piece by piece. Filling one asks every 64 records whether others are
// waiting, and a scan comes back by itself from what it passes over: no turn is long.
//
// A scan pins its memtables and tables, as each shard is shown at one point in time. The bound is
// the client's: who takes no byte for the send timeout (30 s) is cut off, and the number of ranges
// is bounded by transit memory. Who takes a byte now and then may go on.
//
// All scans are opened before the first byte of the answer; each shard is read as of its opening.
// A failure after the first byte ends the connection without the last chunk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "node/range_exchange.hpp"
#include "store/scan.hpp"

namespace gyre {

class ScanExchange final : public RangeExchange {
 public:
  using RangeExchange::RangeExchange;
  ~ScanExchange() override;

  void begin() override;
  Task<bool> stream(http::Connection& to) override;

 private:
  static constexpr size_t page_bytes_max = 64u << 10;

  struct Record {
    uint32_t key_offset;
    uint32_t key_bytes;
    uint32_t begin;  // of the framed record in bytes
    uint32_t end;
  };
  // One shard's part. `scan` and `large` are touched on the owner's core only.
  struct Source {
    uint32_t shard = 0;
    unsigned owner = 0;
    std::unique_ptr<Scan> scan;
    std::unique_ptr<LargeValueStream> large;
    // the page
    std::string bytes;
    std::vector<Record> records;
    size_t next = 0;
    bool ended = false;          // nothing behind this page
    bool large_follows = false;  // the last record is a large value: its bytes come by pieces
    uint64_t large_bytes = 0;

    bool has_record() const { return next < records.size(); }
    std::string_view key() const {
      return {bytes.data() + records[next].key_offset, records[next].key_bytes};
    }
  };

  Task<void> open();
  Task<Result<bool>> open_source(Source* source);
  static Task<Result<bool>> open_here(ScanExchange* self, Source* source);
  Task<Result<bool>> fill_page(Source* source);
  Task<Result<bool>> fetch_piece(Source* source);
  Task<bool> send_large(http::Connection& to, Source& source);
  Task<Result<bool>> refill(Source& source);
  Task<void> close_sources();
  void add_record(Source& source);

  std::vector<std::unique_ptr<Source>> sources_;
  std::string piece_;
};

}  // namespace gyre
