// The standard streams outside a reactor: before one runs, and what they are connected to.
#pragma once

#include <string_view>

namespace gyre::uring {

// How many characters a line of this terminal has; 0 if the descriptor is none.
unsigned terminal_columns(int fd);

// Writes the whole text to standard error, blocking. What can't be written is lost.
void write_error(std::string_view text);

}  // namespace gyre::uring
