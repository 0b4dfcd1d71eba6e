#include "runtime/uring/terminal.hpp"

#include <unistd.h>

#include <cerrno>

namespace gyre::uring {

bool is_terminal(int fd) {
  return ::isatty(fd) == 1;
}

void write_error(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace gyre::uring
