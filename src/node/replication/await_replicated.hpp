// Replicated reads and writes as tasks, for who does one after the other.
#pragma once

#include <cstdint>
#include <string>

#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/modify_messages.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_write.hpp"

namespace gyre {

// What `ack` of the key's `from` replicas hold.
struct ReadCopy {
  ReadCopy() = default;
  ReadCopy(ReadCopy&& other) noexcept;
  ReadCopy& operator=(ReadCopy&& other) noexcept;
  ~ReadCopy();

  uint16_t status = 504;  // 200, 404, 503 (no memory for the value), 504
  Version version;
  uint64_t expire_at_ms = 0;
  uint64_t value_bytes = 0;
  std::string value;  // within transit memory, if it was wanted

 private:
  friend struct ReadWait;
  Core* core_ = nullptr;
  uint64_t transit_bytes_ = 0;
};
Task<ReadCopy> read_replicas(Coordinator& coordinator, std::string key, uint32_t ack, uint32_t from,
                             bool wants_value);

struct WriteResult {
  uint16_t status = 504;  // as WriteAnswer's
  std::string reason;
};
// `transit_bytes` is set here; 503 if there is no memory.
Task<WriteResult> write_replicas(Coordinator& coordinator, WriteSpec spec);

struct ModifyResult {
  bool changed = false;
  std::string answer;
  std::string failure;  // "CODE reason"; empty: it was carried out
};
Task<ModifyResult> modify_replicas(Coordinator& coordinator, cluster::ModifyRequest request);

}  // namespace gyre
