// `gyre load`: the lines of a file become records of a node (record_text.hpp), with a progress bar
// on a terminal, or a line now and then elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "base/limits.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/loader.hpp"
#include "node/commands/record_text.hpp"
#include "node/progress.hpp"
#include "runtime/uring/terminal.hpp"

namespace gyre {

namespace {

// Both parts escaped twice as long, the tab between them.
constexpr size_t key_text_bytes_max = 2 * limits::http_key_bytes_max;
constexpr size_t line_bytes_max = key_text_bytes_max + 1 + 2 * limits::value_bytes_max_hard;
constexpr Nanos bar_interval = milliseconds(200);
constexpr Nanos text_interval = seconds(10);
constexpr std::string_view clear_line = "\r\x1b[K";

struct Load {
  Load(const LoadCommand& of, const LoaderOptions& options) : command(of), loader(options) {}

  const LoadCommand& command;
  Loader loader;
  int input_fd = stdin_fd;
  std::optional<uint64_t> bytes_total;
  Nanos started = 0;
  size_t failures_shown = 0;

  Progress progress() const {
    return {.records = loader.stored(),
            .failed = loader.failed(),
            .bytes = loader.bytes_done(),
            .bytes_total = bytes_total,
            .elapsed = Reactor::current().now() - started,
            .waiting = loader.waiting()};
  }
};

// --- input --------------------------------------------------------------------------------------

Task<bool> add_line(Load& load, uint64_t number, std::string_view line) {
  Result<TextRecord> record = parse_record_line(line);
  if (!record) {
    load.loader.reject(number, line.size() + 1, record.error().detail);
    co_return true;
  }
  co_return co_await load.loader.add({.line = number,
                                      .line_bytes = line.size() + 1,
                                      .key = std::move(record->key),
                                      .value = std::move(record->value)});
}

// A file of something else should fail at once, not after it was read into memory.
std::string why_no_records(std::string_view line, uint64_t number) {
  if (line.size() > key_text_bytes_max && line.find('\t') == std::string_view::npos) {
    return fmt::format(
        "line {} has no tab within its first {} bytes: load takes lines of KEY, tab and VALUE, as "
        "`gyre scan` prints them",
        number, key_text_bytes_max);
  }
  if (line.size() > line_bytes_max) {
    return fmt::format("line {} is longer than the longest record", number);
  }
  return {};
}

// Reads lines until the end, or until the load is given up.
Task<void> read_records(Load* load) {
  const auto buffer = std::make_unique<char[]>(stream_piece_bytes);
  std::string begun;  // a line whose end is still to come
  uint64_t number = 1;
  for (;;) {
    Result<size_t> read = co_await read_stream(load->input_fd, {buffer.get(), stream_piece_bytes});
    if (!read) {
      if (read.error().code == Errc::cancelled) co_return;
      load->loader.give_up(
          fmt::format("{} can't be read: {}", load->command.file, cause_of(read.error())));
      co_return;
    }
    if (*read == 0) break;
    std::string_view bytes(buffer.get(), *read);
    for (size_t end; (end = bytes.find('\n')) != std::string_view::npos; ++number) {
      std::string_view line = bytes.substr(0, end);
      if (!begun.empty()) line = begun.append(line);
      if (!co_await add_line(*load, number, line)) co_return;
      begun.clear();
      bytes.remove_prefix(end + 1);
      co_await maybe_yield();
    }
    begun.append(bytes);
    if (const std::string why = why_no_records(begun, number); !why.empty()) {
      load->loader.give_up(why);
      co_return;
    }
  }
  if (!begun.empty()) {
    load->loader.reject(number, begun.size(),
                        "does not end in a newline, so that it may be cut: not stored. Add the "
                        "newline if the line is whole");
  }
  load->loader.finish();
}

// --- what people see ----------------------------------------------------------------------------

std::string new_failures(Load& load) {
  std::string text;
  for (const auto& failures = load.loader.failures(); load.failures_shown < failures.size();) {
    text += "gyre: " + failures[load.failures_shown++] + "\n";
    if (load.failures_shown == Loader::failures_kept_max) {
      text += "gyre: further failures are counted, not shown\n";
    }
  }
  return text;
}

// Failures as they come, and how far the load is.
Task<void> report(Load* load) {
  const Nanos start = Reactor::current().now();
  Nanos text_at = start + text_interval;
  for (;;) {
    if (!co_await sleep_for(bar_interval)) co_return;
    const unsigned columns = uring::terminal_columns(stderr_fd);
    std::string text = new_failures(*load);
    if (columns > 0) {
      text = std::string(clear_line) + text + progress_bar(load->progress(), columns - 1);
    } else if (Reactor::current().now() >= text_at) {
      text_at = Reactor::current().after(text_interval);
      text += "gyre: " + progress_text(load->progress()) + "\n";
    }
    if (!text.empty()) static_cast<void>(co_await write_stream(stderr_fd, text));
  }
}

Task<int> summarize(Load& load) {
  const Loader& loader = load.loader;
  const Progress progress = load.progress();
  std::string text(uring::terminal_columns(stderr_fd) > 0 ? clear_line : "");
  text += new_failures(load);
  text +=
      fmt::format("gyre: {} records stored from {} in {} ({})\n", format_number(progress.records),
                  format_bytes(progress.bytes), format_seconds(progress.elapsed),
                  format_rate(progress.bytes, progress.elapsed));
  if (loader.failed() > 0) {
    text += fmt::format("gyre: {} lines were not stored\n", format_number(loader.failed()));
  }
  static_cast<void>(co_await write_stream(stderr_fd, text));
  if (loader.given_up().empty()) co_return loader.failed() == 0 ? exit_ok : exit_failed;
  if (loader.lost()) co_await complain_about(load.command.target, *loader.lost());
  co_return co_await complain(
      fmt::format("the load was given up: {}. It can be run again: what is stored already is "
                  "stored once more.",
                  loader.given_up()));
}

Task<int> run_load_here(const LoadCommand& command) {
  Load load(command, {.endpoint = endpoint_of(command.target),
                      .timeout = timeout_of(command.target),
                      .connections = command.connections});
  File file;
  if (command.file != "-") {
    Result<File> opened = co_await File::open(command.file, flag_read);
    if (!opened) {
      co_return co_await complain(
          fmt::format("{} can't be opened: {}", command.file, cause_of(opened.error())));
    }
    file = std::move(*opened);
    load.input_fd = file.fd();
    Result<FileStatus> status = co_await file_status(command.file);
    if (status && status->is_directory) {
      co_return co_await complain(command.file + " is a directory: load takes a file");
    }
    if (status && status->size_bytes > 0) load.bytes_total = status->size_bytes;
  }
  load.started = Reactor::current().now();
  Scope reporting(nullptr, "load report");
  reporting.spawn(report(&load));
  Scope scope(nullptr, "load");
  load.loader.start(scope);
  scope.spawn(read_records(&load));
  co_await scope.join();
  reporting.request_stop();
  co_await reporting.join();
  if (file.is_open()) static_cast<void>(co_await file.close());
  co_return co_await summarize(load);
}

}  // namespace

int run_load(const LoadCommand& command) {
  return run_on_reactor([&command] { return run_load_here(command); });
}

}  // namespace gyre
