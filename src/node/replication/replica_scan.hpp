// A range of this node's own store, as a replica of it: entries of some slots with their versions, dead
// ones too, in the order of keys over all its shards, as pages (cluster/scan_messages.hpp). For its
// own coordinators (ClusterScan) and for those of other nodes.
//
// Each shard is shown as of its opening. A page has about 32 KiB, a key and a value of up to 64 KiB
// more at most. It ends early after 50 ms or some thousand entries of other slots, with a mark of how
// far it has come, so that who merges sees that this node is at work, and others may go on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "cluster/scan_messages.hpp"
#include "node/core.hpp"
#include "peer/inbound.hpp"
#include "store/scan.hpp"

namespace gyre {

class ReplicaScan {
 public:
  static constexpr size_t page_bytes_max = 32u << 10;  // and one entry

  // On `home`, where everything but the work on other cores' shards is done.
  ReplicaScan(Core& home, const cluster::ScanRequest& request);
  ReplicaScan(const ReplicaScan&) = delete;
  ReplicaScan& operator=(const ReplicaScan&) = delete;
  ~ReplicaScan();  // asserts that it was closed, if it was opened

  Task<Result<void>> open();
  // Appends to `page`, which is empty. False: nothing follows.
  Task<Result<bool>> next_page(std::string& page);
  Task<void> close();

  // What one holds, of transit memory.
  static uint64_t memory_bytes(Core& home);

 private:
  struct Record {
    uint32_t begin;  // in the source's bytes
    uint32_t end;
    uint32_t key_bytes;
  };
  // One shard's part; `scan` is touched on the owner's core only.
  struct Source {
    uint32_t shard = 0;
    unsigned owner = 0;
    std::unique_ptr<Scan> scan;
    std::string bytes;
    std::vector<Record> records;
    size_t next = 0;
    bool ended = false;  // nothing behind these

    bool has_record() const { return next < records.size(); }
    std::string_view key() const {
      return {bytes.data() + records[next].begin + cluster::ScanEntry::head_bytes,
              records[next].key_bytes};
    }
  };

  Task<Result<bool>> open_source(Source* source);
  static Task<Result<bool>> open_here(ReplicaScan* self, Source* source);
  Task<Result<bool>> fill(Source* source);
  void add(Source& source, cluster::ScanKind kind);

  Core& home_;
  std::string start_;
  std::string end_;
  uint64_t now_ms_;
  bool keys_only_;
  cluster::SlotSet slots_;
  std::vector<std::unique_ptr<Source>> sources_;
};

// Answers a peer's call with the pages it asks for, as it gives credit; ends the call's life.
void serve_scan(Core& core, peer::InboundCall& call);

}  // namespace gyre
