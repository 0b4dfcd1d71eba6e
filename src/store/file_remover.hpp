// Removes files that nobody uses any more, a piece at a time, one file after the other.
//
// A file system that tells the disk what is free (ext4 and XFS with the mount option discard) does so
// when its journal commits, for all that was freed since the last commit, and many disks do
// nothing else meanwhile: a table of 40 MiB held every write up for 12 to 18 ms, the tables of one
// merge for 100. So a file loses its name first and then its bytes, from its end, in pieces that
// are each committed by a sync, and after each the disk has rest for three times as long as it took.
// (RocksDB's DeleteScheduler cuts files down for the same reason, at a rate in bytes.)
//
// A file that has another name, in a checkpoint, keeps its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include <gyre/file.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

namespace gyre {

class FileRemover {
 public:
  static constexpr uint64_t piece_bytes_default = 4u << 20;
  // With more than this waiting, the disk gets no rest.
  static constexpr uint64_t backlog_bytes_max = 1u << 30;

  struct Stats {
    uint64_t files = 0;   // removed
    uint64_t bytes = 0;   // of these
    uint64_t pieces = 0;  // freed and committed by themselves
  };

  // In `scope` it works; of `directory` all files must be.
  FileRemover(Scope& scope, std::string directory, uint64_t piece_bytes)
      : scope_(scope), directory_(std::move(directory)), piece_bytes_(piece_bytes) {}
  FileRemover(const FileRemover&) = delete;
  FileRemover& operator=(const FileRemover&) = delete;

  // `file`: closed first, if it is open. One that can't be removed is an orphan of the directory.
  void remove(File file, std::string name, uint64_t size_bytes);
  // Room is needed, or the end is near: what waits now is removed at once.
  void hurry() {
    if (running_) in_haste_.set();
  }

  uint64_t waiting_bytes() const { return waiting_bytes_; }
  const Stats& stats() const { return stats_; }

 private:
  struct Waiting {
    File file;
    std::string name;
    uint64_t size_bytes = 0;
  };

  Task<void> run();
  Task<void> remove_whole(std::string path, uint64_t size_bytes);
  Task<void> remove_in_pieces(std::string path);
  Task<void> rest(Nanos busy);

  Scope& scope_;
  std::string directory_;
  uint64_t piece_bytes_;
  std::deque<Waiting> queue_;
  uint64_t waiting_bytes_ = 0;  // these and the one under way
  uint64_t uncommitted_bytes_ = 0;
  bool running_ = false;
  Event in_haste_;
  Stats stats_;
};

}  // namespace gyre
