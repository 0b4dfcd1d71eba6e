#include "runtime/uring/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace gyre::uring {

unsigned terminal_columns(int fd) {
  if (::isatty(fd) != 1) return 0;
  winsize size{};
  constexpr unsigned columns_usual = 80;
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return columns_usual;
  return size.ws_col;
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
