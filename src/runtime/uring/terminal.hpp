// The standard streams outside a reactor: before one runs, and what they are connected to.
#pragma once

#include <string_view>

namespace gyre::uring {

// Whether the descriptor is a terminal, and so a person may be looking.
bool is_terminal(int fd);

// Writes the whole text to standard error, blocking. What can't be written is lost.
void write_error(std::string_view text);

}  // namespace gyre::uring
