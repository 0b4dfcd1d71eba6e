// `gyre scan`: a range as lines of text, printed while it arrives.
//
// In the answer each record is one chunk, key, newline, value: the chunks' ends are what tells
// records apart, because a value may hold newlines. A key that holds one can't be told from its
// value and is printed up to it.
#include <fmt/format.h>

#include "node/commands/client_commands.hpp"
#include "node/commands/record_text.hpp"

namespace gyre {

namespace {

class ScanPrinter {
 public:
  explicit ScanPrinter(const ScanCommand& command)
      : keys_only_(command.keys_only), limit_(command.limit) {}

  // False if the answer is not made of records.
  bool take(const http::Client::Piece& piece) {
    std::string_view bytes = piece.bytes;
    unfinished_ = !piece.chunk_ends;
    if (in_key_) {
      const size_t newline = bytes.find('\n');
      append_escaped(line_, bytes.substr(0, newline));
      if (newline == std::string_view::npos) return !piece.chunk_ends;
      bytes.remove_prefix(newline + 1);
      in_key_ = false;
      if (!keys_only_) line_ += '\t';
    }
    if (!keys_only_) append_escaped(line_, bytes);
    if (piece.chunk_ends) {
      line_ += '\n';
      in_key_ = true;
      ++records_;
    }
    return true;
  }

  std::string& text() { return line_; }
  bool between_records() const { return !unfinished_; }
  bool limit_reached() const { return limit_ && records_ >= *limit_; }
  uint64_t records() const { return records_; }

 private:
  std::string line_;  // not printed yet
  bool keys_only_;
  std::optional<uint64_t> limit_;
  bool in_key_ = true;
  bool unfinished_ = false;
  uint64_t records_ = 0;
};

std::string scan_target(const ScanCommand& command) {
  std::string target = "/v0/entities?start=" + http::percent_encode(command.start);
  if (command.end) target += "&end=" + http::percent_encode(*command.end);
  return target;
}

Task<int> scan_broken(const ScanCommand& command, const ScanPrinter& printer, Error error) {
  co_await complain_about(command.target, std::move(error));
  co_return co_await complain(
      fmt::format("the scan is incomplete: it ended after {} records. Go on from the last key that "
                  "was printed.",
                  printer.records()));
}

Task<int> print_records(http::Client& client, const ScanCommand& command) {
  ScanPrinter printer(command);
  while (!printer.limit_reached()) {
    Result<http::Client::Piece> piece = co_await client.body();
    if (!piece) {
      static_cast<void>(co_await write_stream(stdout_fd, printer.text()));
      co_return co_await scan_broken(command, printer, std::move(piece.error()));
    }
    const bool good = piece->ends ? printer.between_records() : printer.take(*piece);
    if (!good) {
      co_return co_await scan_broken(
          command, printer,
          Error::of(Errc::invalid, "the answer is not made of records, one in each chunk"));
    }
    const bool last = piece->ends || printer.limit_reached();
    if (last || printer.text().size() >= stream_piece_bytes || !client.readable()) {
      client.release();
      Result<void> written = co_await write_stream(stdout_fd, printer.text());
      if (!written) co_return co_await complain_about_output(std::move(written.error()));
      printer.text().clear();
    }
    if (last) break;
  }
  co_return exit_ok;
}

Task<int> scan_range(http::Client& client, const ScanCommand& command) {
  client.send_request("GET", scan_target(command));
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return co_await complain_about(command.target, std::move(answered.error()));
  }
  if (client.status() == 200) co_return co_await print_records(client, command);
  co_return co_await complain_about_answer(client, "scan from " + printable(command.start));
}

}  // namespace

int run_scan(const ScanCommand& command) {
  return run_on_reactor([&command] { return with_client(command, &scan_range); });
}

}  // namespace gyre
