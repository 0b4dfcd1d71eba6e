// A request on a key that several nodes hold: hands a call per peer to the peers' threads, does this
// node's part itself, and waits on a latch until A of F have answered, or can't any more, or it is
// too late. Blocks; runs on the workers.
//
//   - A write goes to all F. The newest version wins wherever two meet; a node's clock is moved past
//     all versions that it sees.
//   - A read asks A: this node if it holds the key, then those that have not let anybody wait lately.
//     Who fails is replaced at once; beside who is late after 30 ms one more is asked, and others are
//     preferred for half a second. The newest answer counts, and
//     who gave an older one is sent it, without anybody waiting for that.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor.hpp"
#include "http/target.hpp"
#include "peer_client.hpp"
#include "placement.hpp"

namespace gyre::threadpool {

class Coordinator {
 public:
  Coordinator(const Options& options, RecordStore& store, TransitMemory& transit);

  void start();
  // Before the store closes, and after the last request has ended.
  void stop();

  uint32_t nodes() const { return static_cast<uint32_t>(peers_.size()); }
  uint32_t replication() const { return replication_; }

  // False: not enough replicas have answered. `found` is the newest record, what is visible of it;
  // its bytes are of its memory, or of `kept`.
  bool read(std::string_view key, const http::Replicas& replicas, Found& found, std::string& kept);
  // A tombstone, or the body of a PUT, which is taken with what was charged for it.
  struct Write {
    std::string body;
    uint64_t charged_bytes = 0;
    uint64_t expires_at_ms = 0;
  };
  bool write(std::string_view key, Write write, const http::Replicas& replicas, Version& version);

 private:
  struct Reading;
  std::shared_ptr<PeerRequest> read_request(std::string_view key);
  std::shared_ptr<PeerRequest> write_request(std::string_view key, const Version& version,
                                             uint64_t expires_at_ms, std::string body,
                                             uint64_t charged_bytes);
  Placement::Replicas order_of(const Placement::Replicas& replicas, size_t from) const;
  bool collect(Reading& reading, size_t enough);
  void merge(Reading& reading, Found& found, std::string& kept);

  RecordStore& store_;
  TransitMemory& transit_;
  const Placement placement_;
  const uint32_t replication_;
  const std::chrono::milliseconds timeout_;
  const unsigned threads_per_peer_;
  size_t self_ = 0;
  std::vector<std::unique_ptr<PeerClient>> peers_;  // by number; none: this node
};

}  // namespace gyre::threadpool
