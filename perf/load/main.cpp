// gyre-load: the load generator. Reads its command line, runs, reports.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "load/report.hpp"
#include "load/session.hpp"
#include "load/verdict.hpp"

namespace {

using namespace gyre::load;

// False if it could not be written.
bool print(std::FILE* to, const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), to) == text.size();
  return std::fflush(to) == 0 && written;
}

void complain(const std::string& text) {
  print(stderr, "gyre-load: " + text + "\n");
}

bool complain_of_file(const std::string& path, const std::string& why) {
  if (!why.empty()) complain(path + " could not be written: " + why);
  return why.empty();
}

std::vector<std::string> files_of(const Options& options) {
  std::vector<std::string> files;
  for (const std::string* path : {&options.json_file, &options.hdr_file, &options.series_file}) {
    if (!path->empty() && (path != &options.json_file || *path != "-")) files.push_back(*path);
  }
  return files;
}

// False if a report could not be written.
bool write_reports(const Options& options, const Outcome& outcome, const Verdict& verdict) {
  const bool json_only = options.json_file == "-";
  const std::string json = json_text(options, outcome, verdict);
  const std::string text = wrk2_text(options, outcome) + summary_text(options, outcome, verdict);
  bool written = print(stdout, json_only ? json : text);
  // A reader that went away has seen what it wanted.
  if (!written && errno == EPIPE) written = true;
  if (!written) complain_of_file("standard output", std::strerror(errno));
  const auto write = [&](const std::string& path, const std::string& content) {
    if (!path.empty()) written &= complain_of_file(path, write_file(path, content));
  };
  if (!json_only) write(options.json_file, json);
  write(options.hdr_file, hgrm_text(outcome));
  write(options.series_file, series_text(outcome));
  return written;
}

}  // namespace

int main(int argc, char** argv) {
  auto line = parse_command_line(std::vector<std::string>(argv + 1, argv + argc));
  if (!line) {
    complain(line.error().detail);
    return exit_usage;
  }
  if (!line->print.empty()) {
    print(stdout, line->print);
    return exit_ok;
  }
  const Options& options = line->options;
  // Better now than after an hour.
  for (const std::string& path : files_of(options)) {
    if (!complain_of_file(path, why_not_writable(path))) return exit_failed;
  }
  const Outcome outcome = run_session(options);
  const Verdict verdict = judge(options, outcome);
  if (outcome.stopped != Stop::none) complain(outcome.stop_text);
  if (outcome.filled > 0 && !options.quiet) {
    print(stderr, fmt::format("gyre-load: {} keys filled\n", outcome.filled));
  }
  if (outcome.loaded && !write_reports(options, outcome, verdict) && verdict.exit_code == exit_ok) {
    return exit_failed;
  }
  return verdict.exit_code;
}
