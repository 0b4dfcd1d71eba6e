// The real binary as a child process: started on a free port in a temporary data directory, waited
// for, stopped, killed, started again. Tests are exempt from the seam: this is plain POSIX.
//
// GYRE_TEST_BINARY names the binary, GYRE_TEST_CORES how many cores it gets (1 when not set).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gyre::test {

unsigned cores_under_test();
// GYRE_TEST_SCALE, for how much of something a test does.
double test_scale();
// `count` scaled, at least `least`.
uint64_t scaled(uint64_t count, uint64_t least);
// Free bytes where temporary directories are made.
uint64_t free_disk_bytes();
// A directory of its own under TMPDIR; the caller removes it.
std::string make_temporary_directory();
void remove_directory(const std::string& path);

struct Exit {
  bool ended = false;
  int code = -1;   // when it ended by itself
  int signal = 0;  // when a signal ended it
};

class NodeProcess {
 public:
  // Extra flags of `gyre serve` (or `command`); --listen, --data and --cores are given unless they are in `flags`.
  explicit NodeProcess(std::vector<std::string> flags = {}, bool start_now = true);
  ~NodeProcess();  // kills it, removes the directory
  NodeProcess(const NodeProcess&) = delete;
  NodeProcess& operator=(const NodeProcess&) = delete;

  // Starts and waits for the ready line; throws with what it printed if it ends instead. The first
  // start takes a free port, later ones the same.
  void start();
  // Starts without waiting for anything.
  void launch();
  // Until the ready line of a launched node, or its end.
  Exit wait_ready();
  // Starts and waits for its end: for starts that must be refused.
  Exit start_refused();
  void signal(int number);
  // Up to `seconds`; ended is false if it still runs.
  Exit wait(unsigned seconds);
  // SIGTERM and the end; throws if that takes over 30 s.
  Exit stop();
  // SIGKILL and the end.
  void kill();

  uint16_t port() const { return port_; }
  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }
  const std::string& data() const { return data_; }
  const std::string& root() const { return root_; }
  std::string ready_line() const;
  // All that it wrote to standard error since the last start.
  std::string error_output() const;

  // From /proc, in bytes: now, and the most it ever was.
  uint64_t resident_bytes() const { return status_bytes("VmRSS"); }
  uint64_t resident_bytes_max() const { return status_bytes("VmHWM"); }
  unsigned descriptors() const;
  // The sum of a metric over its labels.
  double metric(const std::string& name) const;

  std::vector<std::string> flags;
  std::string command = "serve";  // or proxy, for which --port, and no --data, is given
  uint64_t descriptors_max = 0;   // a hard limit for the next start; 0: ours
  int error_descriptor = -1;      // standard error of later starts, instead of a file
  // A descriptor of the namespace that later starts live in, and die with the thread that started
  // them; otherwise they live in ours.
  int network_namespace = -1;
  std::string address = "127.0.0.1";  // where the node is asked for its metrics

 private:
  uint64_t status_bytes(const std::string& field) const;

  std::string root_;  // holds the data directory and the outputs
  std::string data_;
  pid_t pid_ = -1;
  uint16_t port_ = 0;
};

}  // namespace gyre::test
