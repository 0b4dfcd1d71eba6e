// Copies of this program as child processes, for a command that looks after nodes. None of it waits.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include <gyre/result.hpp>

namespace gyre::uring {

struct Child {
  pid_t pid = -1;
  int output_fd = -1;  // what it writes to standard output and error; ends with it. The caller's
};

// This program with other arguments, without its name. The child has no standard input, is out of
// reach of the terminal's Ctrl-C (a process group of its own), and gets a SIGTERM when the calling
// thread ends before it.
Result<Child> start_child(const std::vector<std::string>& arguments);

struct ChildEnd {
  int exit_code = 0;
  int signal = 0;  // that ended it; 0: it ended by itself
};
// Nothing: it runs. Once it has ended its pid means nothing more: don't ask again.
std::optional<ChildEnd> child_end(pid_t pid);

void terminate_child(pid_t pid);  // SIGTERM
void kill_child(pid_t pid);       // SIGKILL

// A new directory in TMPDIR, or /tmp, whose name begins with `prefix` and that only this user can
// read.
Result<std::string> make_temporary_directory(const std::string& prefix);

// A new file that only this user can read, with 64 hexadecimal digits of the kernel's randomness and
// a newline. EEXIST if there is one.
Result<void> make_secret_file(const std::string& path);

}  // namespace gyre::uring
