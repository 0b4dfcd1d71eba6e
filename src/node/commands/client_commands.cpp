#include "node/commands/client_commands.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include <gyre/io.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "runtime/uring/cores.hpp"
#include "runtime/uring/probe.hpp"
#include "runtime/uring/terminal.hpp"

namespace gyre {

namespace {

constexpr size_t answer_text_bytes_max = 4096;
constexpr uint64_t no_position = UINT64_MAX;  // -1 for the kernel: where the stream stands

std::string entity_target(std::string_view key) {
  return "/v0/entity?id=" + http::percent_encode(key);
}

Task<void> run_into(Task<int> command, int* exit_code) {
  *exit_code = co_await std::move(command);
}

}  // namespace

int run_on_reactor(const std::function<Task<int>()>& make) {
  Result<uring::ProbeReport> probed = uring::probe_system();
  if (!probed) {
    uring::write_error("gyre: " + probed.error().detail + "\n");
    return exit_failed;
  }
  int exit_code = exit_failed;
  const std::string problem =
      uring::run_cores({.cores = 1}, [&make, &exit_code](unsigned, Backend& backend) {
        // Nobody else waits for this core, so that holding it is nothing to report.
        Reactor reactor(backend, {.stall_report = nanos_never});
        reactor.run(run_into(make(), &exit_code));
      });
  if (!problem.empty()) uring::write_error("gyre: " + problem + "\n");
  return exit_code;
}

Task<Result<void>> write_stream(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto size = static_cast<uint32_t>(std::min<size_t>(bytes.size(), 1u << 30));
    Result<uint32_t> written = co_await IoCount({.code = OpCode::write,
                                                 .fd = fd,
                                                 .len = size,
                                                 .offset = no_position,
                                                 .data = const_cast<char*>(bytes.data())});
    if (!written && (written.error().os_error == EINTR || written.error().os_error == EAGAIN)) {
      continue;
    }
    if (!written) co_return fail(std::move(written.error()));
    bytes.remove_prefix(*written);
  }
  co_return Result<void>{};
}

Task<Result<size_t>> read_stream(int fd, std::span<char> into) {
  for (;;) {
    Result<uint32_t> read = co_await IoCount({.code = OpCode::read,
                                              .fd = fd,
                                              .len = static_cast<uint32_t>(into.size()),
                                              .offset = no_position,
                                              .data = into.data(),
                                              .cancellable = true});
    if (!read && (read.error().os_error == EINTR || read.error().os_error == EAGAIN)) continue;
    if (!read) co_return fail(std::move(read.error()));
    co_return static_cast<size_t>(*read);
  }
}

// --- errors -------------------------------------------------------------------------------------

std::string cause_of(const Error& error) {
  return error.os_error != 0 ? std::strerror(error.os_error) : error.message();
}

Task<int> complain(std::string text) {
  const std::string line = "gyre: " + text + "\n";
  static_cast<void>(co_await write_stream(stderr_fd, line));
  co_return exit_failed;
}

Task<int> complain_about(ClientTarget target, Error error) {
  std::string text = fmt::format("{}: {}", target.url, error.message());
  switch (error.code) {
    case Errc::timed_out:
      text = fmt::format(
          "{}: {} (no progress for {}). Give it longer with --timeout, or look at the node's log.",
          target.url, error.detail, format_duration_ms(target.timeout_ms));
      break;
    case Errc::not_found:
      text = fmt::format("{}: {}. Check the name in --url.", target.url, error.detail);
      break;
    default:
      if (error.os_error == ECONNREFUSED) {
        text = fmt::format(
            "cannot connect to {}: refused. Is `gyre serve` running there? Give another node with "
            "--url URL or GYRE_URL.",
            target.url);
      } else if (error.code == Errc::closed) {
        text = fmt::format("{}: {}. Its log may say why; try again.", target.url, error.detail);
      }
  }
  return complain(std::move(text));
}

Task<int> complain_about_answer(http::Client& client, std::string what) {
  const uint16_t status = client.status();
  const std::string reason(client.reason());
  const std::string retry_after(client.field("retry-after"));
  Result<std::string> body = co_await client.text(answer_text_bytes_max);
  std::string text = fmt::format("{}: {} {}", what, status, reason);
  if (body) {
    while (body->ends_with('\n') || body->ends_with('\r')) body->pop_back();
    if (!body->empty()) text += ": " + *body;
  }
  if (status == 503 && !retry_after.empty()) {
    text += fmt::format(". The node is busy: try again in {} s.", retry_after);
  }
  co_return co_await complain(std::move(text));
}

Task<int> complain_about_output(Error error) {
  if (error.os_error == EPIPE) co_return exit_failed;  // the reader has seen enough
  co_return co_await complain("standard output: " + cause_of(error));
}

http::Endpoint endpoint_of(const ClientTarget& target) {
  Result<http::Endpoint> endpoint = http::parse_endpoint(target.url);
  return endpoint ? std::move(*endpoint) : http::Endpoint{target.url, 0};
}

Nanos timeout_of(const ClientTarget& target) {
  constexpr uint64_t ms_max = static_cast<uint64_t>(nanos_never) / 1'000'000;
  return target.timeout_ms < ms_max ? milliseconds(static_cast<int64_t>(target.timeout_ms))
                                    : nanos_never;
}

// --- get, put, del ------------------------------------------------------------------------------

namespace {

// Writes the body of the answer to standard output as it arrives.
Task<int> print_body(http::Client& client, const ClientTarget& target) {
  std::string gathered;
  for (;;) {
    Result<http::Client::Piece> piece = co_await client.body();
    if (!piece) co_return co_await complain_about(target, std::move(piece.error()));
    gathered.append(piece->bytes);
    if (gathered.size() >= stream_piece_bytes || piece->ends || !client.readable()) {
      client.release();
      Result<void> written = co_await write_stream(stdout_fd, gathered);
      if (!written) co_return co_await complain_about_output(std::move(written.error()));
      gathered.clear();
    }
    if (piece->ends) co_return exit_ok;
  }
}

Task<int> get_value(http::Client& client, const GetCommand& command) {
  client.send_request("GET", entity_target(command.key));
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return co_await complain_about(command.target, std::move(answered.error()));
  }
  if (client.status() == 200) co_return co_await print_body(client, command.target);
  if (client.status() == 404) {
    co_await complain(fmt::format("there is no key {}", printable(command.key)));
    co_return exit_not_found;
  }
  co_return co_await complain_about_answer(client, "get " + printable(command.key));
}

// Standard input as a chunked body. Answers an error if the body could not be completed; the
// connection is then unfit, and the node drops what it got.
Task<void> send_input(http::Client* client, std::string* problem) {
  const auto buffer = std::make_unique<char[]>(stream_piece_bytes);
  for (;;) {
    Result<size_t> read = co_await read_stream(stdin_fd, {buffer.get(), stream_piece_bytes});
    if (!read) {
      if (read.error().code != Errc::cancelled) {
        *problem = "standard input: " + cause_of(read.error());
        client->abandon();
      }
      co_return;
    }
    if (*read == 0) break;
    client->send_chunk({buffer.get(), *read});
    if (!co_await client->drained(stream_piece_bytes)) co_return;  // the answer says why
  }
  client->end_body();
}

Task<int> put_value(http::Client& client, const PutCommand& command) {
  std::string target = entity_target(command.key);
  if (command.ttl_ms) target += fmt::format("&ttl_ms={}", *command.ttl_ms);
  std::string problem;
  Scope scope(co_await current_stop(), "put");
  if (command.value_from_stdin) {
    client.begin_request("PUT", target);
    scope.spawn(send_input(&client, &problem));
  } else {
    client.send_request("PUT", target, command.value);
  }
  // An answer before the end of the body is a refusal: the rest need not be read.
  Result<void> answered = co_await client.answer();
  scope.request_stop();
  co_await scope.join();
  if (!problem.empty()) co_return co_await complain(std::move(problem));
  if (!answered) co_return co_await complain_about(command.target, std::move(answered.error()));
  if (client.status() / 100 == 2) co_return exit_ok;
  co_return co_await complain_about_answer(client, "put " + printable(command.key));
}

Task<int> delete_key(http::Client& client, const DelCommand& command) {
  client.send_request("DELETE", entity_target(command.key));
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return co_await complain_about(command.target, std::move(answered.error()));
  }
  if (client.status() / 100 == 2) co_return exit_ok;
  co_return co_await complain_about_answer(client, "del " + printable(command.key));
}

}  // namespace

int run_get(const GetCommand& command) {
  return run_on_reactor([&command] { return with_client(command, &get_value); });
}

int run_put(const PutCommand& command) {
  return run_on_reactor([&command] { return with_client(command, &put_value); });
}

int run_del(const DelCommand& command) {
  return run_on_reactor([&command] { return with_client(command, &delete_key); });
}

}  // namespace gyre
