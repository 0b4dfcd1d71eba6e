// The simulated disk of a node: a tree of files with a volatile and a durable image.
//
//   - file contents: see file_content.hpp; durable by fsync or a DSYNC write
//   - names (create, make_dir, rename, link, unlink, remove_dir): durable by fsync of the
//     directory. A rename is atomic: after a crash it happened or did not
//   - a power cut keeps, drops, tears or garbles what is not durable, each change on its own;
//     a change of a name survives only if earlier changes of that name do
//
// Every operation that changes the disk is a numbered *write point*. `stop_at` ends the world's
// run at one of them, so that a test can run a script once per point and crash it there.
//
// All effects are synchronous here; SimBackend adds the time they take. Paths are resolved from
// one root, absolute or not; "." is skipped and ".." refused.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/backend.hpp>
#include <gyre/op.hpp>

#include "sim/file_content.hpp"
#include "sim/prng.hpp"

namespace gyre::sim {

using InodeId = uint64_t;

// Durability that the disk only pretends to give: planted bugs that crash tests must catch.
enum SkipDurability : uint8_t {
  skip_nothing = 0,
  skip_dsync = 1,      // a DSYNC write stays volatile
  skip_fsync = 2,      // fsync of a file does nothing
  skip_dir_fsync = 4,  // fsync of a directory does nothing
};

struct Latency {
  Nanos min = 0;
  Nanos max = 0;
};

struct DiskOptions {
  uint64_t capacity_bytes = uint64_t{1} << 40;
  uint8_t skip_durability = skip_nothing;
  // Chances per operation, in parts per million; of files whose path has `path_part` in it.
  std::string path_part;
  uint32_t read_error_ppm = 0;
  uint32_t write_error_ppm = 0;
  uint32_t fsync_error_ppm = 0;
  uint32_t short_read_ppm = 0;
  uint32_t short_write_ppm = 0;
  uint32_t bit_rot_ppm = 0;  // one bit of what a read returns is wrong
  uint32_t stall_ppm = 0;    // an operation takes `stall`, whatever its file
  Latency read{microseconds(60), microseconds(400)};
  Latency write{microseconds(20), microseconds(300)};
  Latency sync{microseconds(100), milliseconds(4)};
  Latency name{microseconds(10), microseconds(500)};  // open, rename, list_dir, ...
  Latency stall{milliseconds(50), milliseconds(800)};
  uint64_t bytes_per_second = 0;  // of reads and writes together, one after another; 0: no limit
};

// Makes the `nth` operation from now on that matches fail with `error` (a positive errno).
struct PlannedFault {
  OpCode code = OpCode::write;
  std::string path_part;  // "" matches every file
  uint32_t nth = 1;
  int error = 5;       // EIO
  uint32_t times = 1;  // how many matches in a row fail
};

enum class CrashPhase : uint8_t {
  before,  // the operation left no mark
  during,  // its effect is volatile, whatever durability it asked for
  after,   // it is done, but its completion is not delivered
};

struct DiskRequest {
  OpCode code = OpCode::nop;
  InodeId inode = 0;  // read, write, fsync, allocate, truncate
  uint16_t flags = 0;
  uint64_t offset = 0;
  uint64_t length = 0;    // allocate, truncate, bytes to read
  std::string_view data;  // write
  char* out = nullptr;    // read
  const char* path = nullptr;
  const char* path2 = nullptr;
};

class Disk {
 public:
  Disk(DiskOptions options, Prng prng);
  // A second disk with the same two images, for trying several crashes of one moment.
  std::unique_ptr<Disk> clone(Prng prng) const;

  DiskOptions options;
  Nanos busy_until = 0;  // world time; with options.bytes_per_second

  // Carries out one operation; the result is that of the system call. `opened` receives the
  // inode of `open` and `lock_file` and is then held until `close`.
  int32_t execute(const DiskRequest& request, InodeId* opened = nullptr);
  // The operation was under way when the power went: its effect is volatile at most.
  void execute_interrupted(const DiskRequest& request);
  void close(InodeId inode, bool unlock);

  int32_t list_dir(std::string_view path, std::vector<DirEntry>& out);
  int32_t stat(std::string_view path, FileStatus& out) const;
  FileStatus stat(InodeId id) const;
  uint64_t free_bytes() const;
  bool is_directory(InodeId inode) const;
  std::string path_of(InodeId inode) const;

  // Power cut: only durable state and what `mode` lets through remains. Nothing is open after.
  void crash(CrashMode mode);
  // The process ended: its descriptors and locks are gone, the page cache is not.
  void close_all();

  uint64_t write_points() const { return points_; }
  void stop_at(uint64_t point, CrashPhase phase) {
    stop_point_ = point;
    stop_phase_ = phase;
  }
  // True once the point of `stop_at` was reached; nothing reaches the disk from then on.
  bool stopped() const { return stopped_; }
  std::string stop_description() const { return stop_description_; }

  void plan(PlannedFault fault) { planned_.push_back(std::move(fault)); }
  void clear_plans() { planned_.clear(); }
  // Flips the bits of `mask` at an offset of a file, for good; reads of it count as faults. False if
  // there is no such byte.
  bool corrupt(std::string_view path, uint64_t offset, char mask);
  // Another, durable content of a file that is there. False if there is none.
  bool replace(std::string_view path, std::string_view content);
  // Whole content of a file as the program sees it, or as a power cut would leave it at worst.
  std::string content(std::string_view path) const;
  std::string durable_content(std::string_view path) const;
  // Bytes of files without a name that their last close freed: who closes waits for that.
  uint64_t bytes_freed_by_close() const { return bytes_freed_by_close_; }
  // The most that was freed between two syncs. A journal tells the disk of it all at once.
  uint64_t bytes_freed_per_commit_max() const { return freed_per_commit_max_; }
  // Faults that have struck, by kind.
  const std::map<std::string, uint64_t>& faults() const { return faults_; }

 private:
  struct Inode {
    bool is_directory = false;
    bool locked = false;
    uint32_t links = 0;          // names in current directories
    uint32_t durable_links = 0;  // names in durable directories
    uint32_t pending_links = 0;  // pending changes that name it or are in it
    uint32_t opens = 0;
    uint64_t charged_bytes = 0;
    FileContent file;
    std::vector<uint64_t> corrupted;  // offsets
    std::map<std::string, InodeId> entries;
    std::map<std::string, InodeId> durable_entries;
  };
  struct Assignment {
    InodeId directory;
    std::string name;
    InodeId inode;  // 0: the name goes away
  };
  using NameChange = std::vector<Assignment>;  // atomic
  struct Place {
    InodeId directory = 0;  // 0: some directory on the way does not exist
    std::string name;
    InodeId inode = 0;  // 0: no such name
    int32_t error = 0;
  };

  static constexpr InodeId root = 1;

  Place find(std::string_view path) const;
  InodeId make_inode(bool is_directory);
  void change_names(NameChange change);
  void apply_durable(const NameChange& change);
  void sync_directory(InodeId directory);
  void drop_if_unused(InodeId id);
  void charge(InodeId id);
  void unlink_current(InodeId id);

  bool is_write_point(const DiskRequest& request) const;
  int injected_error(const DiskRequest& request);
  bool strikes(uint32_t ppm, InodeId inode);
  void count_fault(const char* kind) { ++faults_[kind]; }
  int32_t apply(const DiskRequest& request, InodeId* opened, bool lasting);
  int32_t open(const DiskRequest& request, InodeId* opened);
  int32_t read(const DiskRequest& request);
  int32_t write(const DiskRequest& request, bool lasting);
  int32_t allocate(const DiskRequest& request);
  int32_t truncate(const DiskRequest& request);
  int32_t fsync(const DiskRequest& request, bool lasting);
  int32_t rename(const DiskRequest& request);
  int32_t link(const DiskRequest& request);
  int32_t unlink(const DiskRequest& request);
  int32_t make_dir(const DiskRequest& request);
  int32_t remove_dir(const DiskRequest& request);
  int32_t lock_file(const DiskRequest& request, InodeId* opened);

  Prng prng_;
  std::map<InodeId, Inode> inodes_;
  std::vector<NameChange> name_changes_;  // pending, in order
  InodeId next_inode_ = root + 1;
  uint64_t used_bytes_ = 0;
  uint64_t bytes_freed_by_close_ = 0;
  uint64_t freed_since_commit_ = 0;
  uint64_t freed_per_commit_max_ = 0;
  uint64_t points_ = 0;
  uint64_t stop_point_ = 0;
  CrashPhase stop_phase_ = CrashPhase::before;
  bool stopped_ = false;
  std::string stop_description_;
  std::vector<PlannedFault> planned_;
  std::map<std::string, uint64_t> faults_;
};

}  // namespace gyre::sim
