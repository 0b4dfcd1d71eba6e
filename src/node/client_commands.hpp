// What the commands that talk to a node have in common: a reactor to run on, the standard streams,
// and errors that say what to do.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "http/client.hpp"
#include "node/cli.hpp"

namespace gyre {

inline constexpr int stdin_fd = 0;
inline constexpr int stdout_fd = 1;
inline constexpr int stderr_fd = 2;

// Runs a command's coroutine, which answers the exit code, on a reactor of its own. `make` is
// called on that reactor.
int run_on_reactor(const std::function<Task<int>()>& make);

// Standard streams and pipes: they have no positions. `read_stream` is short at will, 0 at the
// end, and cancelled by a stop.
Task<Result<void>> write_stream(int fd, std::string_view bytes);
Task<Result<size_t>> read_stream(int fd, std::span<char> into);

// Prints "gyre: TEXT" to standard error; answers exit_failed.
Task<int> complain(std::string text);
// As complain, about a request to the target that got no answer.
Task<int> complain_about(ClientTarget target, Error error);
// As complain, about the answer whose head was just read; reads its body.
Task<int> complain_about_answer(http::Client& client, std::string what);

// The endpoint of a target that parse_command_line has checked.
http::Endpoint endpoint_of(const ClientTarget& target);
Nanos timeout_of(const ClientTarget& target);

// A key as people see it in messages: quoted, cut, control characters escaped.
std::string printable(std::string_view bytes, size_t size_bytes_max = 64);

}  // namespace gyre
