// Questions to the kernel that have no asynchronous form (list a directory, wait for a file lock,
// resolve a name) are answered by a thread beside the loops. Never used on the path of a request.
//
// A job owns everything it touches: path in, results out. So an operation may be cancelled and
// its owner gone while the thread is still in the middle of it; the answer is then thrown away,
// and a descriptor nobody took is closed with it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gyre/op.hpp>

namespace gyre::uring {

struct OffloadJob {
  // What is asked, and for whom.
  OpCode code = OpCode::nop;
  unsigned core = 0;
  uint64_t owner = 0;
  uint64_t token = 0;
  std::string path;
  int fd = -1;          // truncate, stat
  uint64_t length = 0;  // truncate

  // The answer.
  int32_t result = 0;
  std::vector<DirEntry> entries;
  FileStatus status;
  uint64_t free_bytes = 0;
  std::vector<std::string> addresses;
  int locked_fd = -1;  // lock_file; closed with the job unless release_fd

  OffloadJob() = default;
  OffloadJob(const OffloadJob&) = delete;
  OffloadJob& operator=(const OffloadJob&) = delete;
  ~OffloadJob();

  void run();           // blocks
  void answer(Op& op);  // moves the results to where the operation wants them
  static bool handles(OpCode code);
};

class OffloadSink {
 public:
  virtual void answer(std::unique_ptr<OffloadJob> job) = 0;

 protected:
  ~OffloadSink() = default;
};

// Starts with the first job.
class OffloadThread {
 public:
  explicit OffloadThread(OffloadSink& sink);
  ~OffloadThread();
  OffloadThread(const OffloadThread&) = delete;
  OffloadThread& operator=(const OffloadThread&) = delete;

  void push(std::unique_ptr<OffloadJob> job);
  // No answer comes after this. A thread that hangs in a system call (a dead name server) is
  // left behind instead of holding up the end of the process.
  void stop();

 private:
  struct Shared;
  static void serve(std::shared_ptr<Shared> shared);

  std::shared_ptr<Shared> shared_;
};

}  // namespace gyre::uring
