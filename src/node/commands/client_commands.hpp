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

#include "base/printable.hpp"
#include "http/client.hpp"
#include "node/cli.hpp"

namespace gyre {

inline constexpr int stdin_fd = 0;
inline constexpr int stdout_fd = 1;
inline constexpr int stderr_fd = 2;
inline constexpr size_t stream_piece_bytes = 256u << 10;  // of one read or write

// Runs a command's coroutine, which answers the exit code, on a reactor of its own. `make` is
// called on that reactor.
int run_on_reactor(const std::function<Task<int>()>& make);

// Standard streams and pipes: they have no positions. `read_stream` is short at will, 0 at the
// end, and cancelled by a stop.
Task<Result<void>> write_stream(int fd, std::string_view bytes);
Task<Result<size_t>> read_stream(int fd, std::span<char> into);

// What the operating system said, or what the error says itself.
std::string cause_of(const Error& error);
// Prints "gyre: TEXT" to standard error; answers exit_failed.
Task<int> complain(std::string text);
// As complain, about a request to the target that got no answer.
Task<int> complain_about(ClientTarget target, Error error);
// As complain, about the answer whose head was just read; reads its body.
Task<int> complain_about_answer(http::Client& client, std::string what);

// Standard output could not be written. Silent if its reader went away, as after `| head`.
Task<int> complain_about_output(Error error);

// The endpoint of a target that parse_command_line has checked.
http::Endpoint endpoint_of(const ClientTarget& target);
Nanos timeout_of(const ClientTarget& target);

// `talk` with a connected client.
template <class Command>
Task<int> with_client(const Command& command, Task<int> (*talk)(http::Client&, const Command&)) {
  http::Client client(endpoint_of(command.target), timeout_of(command.target));
  Result<void> connected = co_await client.connect();
  if (!connected) {
    co_return co_await complain_about(command.target, std::move(connected.error()));
  }
  const int exit_code = co_await talk(client, command);
  co_await client.close();
  co_return exit_code;
}

}  // namespace gyre
