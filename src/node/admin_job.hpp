// One verb of the administration under way: what it does on every shard of the node, how far it is,
// and how it ended. Lives on the core of the admin server; shards work on their owners.
//
// A job is carried through whether or not somebody still waits for it (but verify, which only
// answers a question), or until the node drains. Its end is in the log.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "node/node.hpp"
#include "store/verification.hpp"

namespace gyre {

enum class AdminVerb : uint8_t { flush, compact, checkpoint, verify };
inline constexpr AdminVerb admin_verbs[] = {AdminVerb::flush, AdminVerb::compact,
                                            AdminVerb::checkpoint, AdminVerb::verify};

std::string_view to_string(AdminVerb verb);

class AdminJob {
 public:
  AdminJob(Node& node, AdminVerb verb, std::string directory)
      : node_(node), verb_(verb), directory_(std::move(directory)) {}

  static Task<void> run(std::shared_ptr<AdminJob> job);

  struct Progress {
    uint64_t bytes_done = 0;
    uint64_t bytes_total = 0;
    uint64_t steps = 0;  // tables copied or checked, merges made
  };
  Task<Progress> progress();
  // Its only client has gone.
  static Task<void> abandon(std::shared_ptr<AdminJob> job);

  AdminVerb verb() const { return verb_; }
  bool ended() const { return ended_; }
  bool failed() const { return failed_; }
  const std::string& outcome() const { return outcome_; }  // one line, once it has ended
  const std::vector<std::string>& damage() const { return report_.damage; }

 private:
  Task<Result<void>> work();
  Task<Result<void>> checkpoint();
  Task<Result<void>> on_all_shards(std::string directory);
  Task<Result<bool>> on_shard(uint32_t shard, std::string directory);
  Task<Result<bool>> on_owner(Core* core, uint32_t shard, std::string directory,
                              VerifyReport* report) const;
  std::string describe_success() const;

  Node& node_;
  const AdminVerb verb_;
  const std::string directory_;
  bool ended_ = false;
  bool failed_ = false;
  bool removed_leftover_ = false;  // by a checkpoint
  std::string outcome_;
  VerifyReport report_;
  Progress last_;
  uint64_t steps_before_ = 0;
};

}  // namespace gyre
