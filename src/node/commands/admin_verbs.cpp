#include "node/commands/admin_verbs.hpp"

#include <fmt/format.h>

#include <charconv>

#include <gyre/reactor.hpp>

#include "node/commands/client_commands.hpp"
#include "node/progress.hpp"
#include "runtime/uring/terminal.hpp"

namespace gyre {

namespace {

constexpr size_t answer_bytes_max = 4096;
constexpr size_t line_bytes_max = 1u << 20;
constexpr Nanos text_interval = seconds(10);
constexpr std::string_view clear_line = "\r\x1b[K";

std::string_view name_of(AdminCommand::Verb verb) {
  switch (verb) {
    case AdminCommand::Verb::status:
      return "status";
    case AdminCommand::Verb::flush:
      return "flush";
    case AdminCommand::Verb::compact:
      return "compact";
    case AdminCommand::Verb::checkpoint:
      return "checkpoint";
    case AdminCommand::Verb::verify:
      return "verify";
  }
  return "";
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

bool is_any(std::string_view host) {
  return host == "0.0.0.0" || host == "::";
}

// The value of ` name=N` in a line; 0 if it is not there.
uint64_t number_in(std::string_view line, std::string_view name) {
  const size_t at = line.find(name);
  uint64_t number = 0;
  if (at == std::string_view::npos) return 0;
  std::from_chars(line.data() + at + name.size(), line.data() + line.size(), number);
  return number;
}

// What the node tells, line by line.
class Telling {
 public:
  explicit Telling(AdminCommand::Verb verb)
      : of_(verb == AdminCommand::Verb::compact ? "merges" : "tables"),
        started_(Reactor::current().now()),
        text_at_(started_ + text_interval) {}

  Task<void> take(std::string_view line) {
    if (line.starts_with("progress ")) {
      co_await show(line);
    } else if (line.starts_with("damage ")) {
      co_await write(stderr_fd, fmt::format("gyre: {}\n", line));
    } else if (line.starts_with("ok ") || line.starts_with("failed ")) {
      ok_ = line.starts_with("ok ");
      outcome_ = line.substr(line.find(' ') + 1);
    }
  }

  bool complete() const { return ok_.has_value(); }
  bool ok() const { return ok_.value_or(false); }
  const std::string& outcome() const { return outcome_; }

  // Takes the bar away before other text.
  Task<void> write(int fd, std::string text) {
    if (std::exchange(bar_shown_, false)) text = std::string(clear_line) + text;
    static_cast<void>(co_await write_stream(fd, text));
  }
  Task<void> clear() {
    if (bar_shown_) co_await write(stderr_fd, "");
  }

 private:
  Task<void> show(std::string_view line) {
    const Nanos now = Reactor::current().now();
    Progress progress{.of = of_,
                      .records = number_in(line, " steps="),
                      .bytes = number_in(line, " bytes="),
                      .elapsed = now - started_};
    if (const uint64_t total = number_in(line, " of="); total != 0) progress.bytes_total = total;
    const unsigned columns = uring::terminal_columns(stderr_fd);
    if (columns > 0) {
      const std::string text = std::string(clear_line) + progress_bar(progress, columns - 1);
      static_cast<void>(co_await write_stream(stderr_fd, text));
      bar_shown_ = true;
    } else if (now >= text_at_) {
      text_at_ = now + text_interval;
      co_await write(stderr_fd, "gyre: " + progress_text(progress) + "\n");
    }
  }

  const char* of_;
  Nanos started_;
  Nanos text_at_;
  bool bar_shown_ = false;
  std::optional<bool> ok_;
  std::string outcome_;
};

Task<Result<void>> read_lines(http::Client& client, Telling& telling) {
  std::string begun;
  for (;;) {
    Result<http::Client::Piece> piece = co_await client.body();
    if (!piece) co_return fail(std::move(piece.error()));
    begun.append(piece->bytes);
    const bool ends = piece->ends;
    client.release();
    for (size_t end; (end = begun.find('\n')) != std::string::npos; begun.erase(0, end + 1)) {
      co_await telling.take(std::string_view(begun).substr(0, end));
    }
    if (begun.size() > line_bytes_max) co_return fail(Errc::corrupt, "an endless line");
    if (ends) co_return Result<void>{};
  }
}

// Asks the node for the address of its administration; "" after a complaint.
Task<int> find_admin(http::Client& client, const AdminCommand& command, std::string& url) {
  client.send_request("GET", "/admin");
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return co_await complain_about(command.target, std::move(answered.error()));
  }
  if (client.status() != 200) {
    co_return co_await complain_about_answer(client,
                                             fmt::format("admin {}", name_of(command.verb)));
  }
  Result<std::string> told = co_await client.text(answer_bytes_max);
  if (!told) co_return co_await complain_about(command.target, std::move(told.error()));
  while (told->ends_with('\n')) told->pop_back();
  Result<std::string> found = admin_url_from(command.target.url, *told);
  if (!found) co_return co_await complain(found.error().detail);
  url = std::move(*found);
  co_return exit_ok;
}

Task<int> talk(http::Client& client, const AdminCommand& command) {
  std::string path = fmt::format("/admin/{}", name_of(command.verb));
  if (command.verb == AdminCommand::Verb::checkpoint) {
    path += "?directory=" + http::percent_encode(command.directory);
  }
  client.set_field("Gyre-Admin: 1");
  client.send_request("POST", path);
  const std::string what = fmt::format("admin {}", name_of(command.verb));
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return co_await complain_about(command.target, std::move(answered.error()));
  }
  if (client.status() != 200) co_return co_await complain_about_answer(client, what);
  Telling telling(command.verb);
  Result<void> read = co_await read_lines(client, telling);
  co_await telling.clear();
  if (!read) co_return co_await complain_about(command.target, std::move(read.error()));
  if (!telling.complete()) {
    co_return co_await complain(what +
                                ": the answer was cut; the node's log says what became of it");
  }
  if (!telling.ok()) co_return co_await complain(what + ": " + telling.outcome());
  Result<void> written = co_await write_stream(stdout_fd, telling.outcome() + "\n");
  if (!written) co_return co_await complain_about_output(std::move(written.error()));
  co_return exit_ok;
}

}  // namespace

Result<std::string> admin_url_from(std::string_view given_url, std::string_view told_url) {
  const Result<http::Endpoint> given = http::parse_endpoint(given_url);
  const Result<http::Endpoint> told = http::parse_endpoint(told_url);
  if (!given || !told) {
    return fail(Errc::invalid, fmt::format("{}: the answer to GET /admin is no address: is that a "
                                           "Gyre node?",
                                           given_url));
  }
  if (is_any(told->host)) {
    return "http://" + http::Endpoint{given->host, told->port}.authority();
  }
  if (is_loopback(told->host) && !is_loopback(given->host)) {
    return fail(Errc::invalid,
                fmt::format("the node at {} is administered at {} only, on its own machine: run "
                            "this there, or start the node with --admin ADDR:PORT",
                            given_url, told_url));
  }
  return std::string(told_url);
}

Task<int> run_admin_verb(AdminCommand command) {
  std::string url;
  {
    http::Client client(endpoint_of(command.target), timeout_of(command.target));
    if (Result<void> connected = co_await client.connect(); !connected) {
      co_return co_await complain_about(command.target, std::move(connected.error()));
    }
    const int found = co_await find_admin(client, command, url);
    co_await client.close();
    if (found != exit_ok) co_return found;
  }
  command.target.url = url;
  co_return co_await with_client(command, &talk);
}

}  // namespace gyre
