// gyre-load: the load generator. Reads its command line, runs, reports.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "load/report.hpp"
#include "load/session.hpp"
#include "load/verdict.hpp"

namespace {

using namespace gyre::load;

void print(std::FILE* to, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

void complain(const std::string& text) {
  print(stderr, "gyre-load: " + text + "\n");
}

// False if a file could not be written.
bool write_reports(const Options& options, const Outcome& outcome, const Verdict& verdict) {
  bool written = true;
  const auto write = [&](const std::string& path, const std::string& text) {
    if (const std::string why = write_file(path, text); !why.empty()) {
      complain(path + " could not be written: " + why);
      written = false;
    }
  };
  if (options.json_file == "-") {
    print(stdout, json_text(options, outcome, verdict));
  } else {
    print(stdout, wrk2_text(options, outcome) + summary_text(options, outcome, verdict));
    if (!options.json_file.empty()) write(options.json_file, json_text(options, outcome, verdict));
  }
  if (!options.hdr_file.empty()) write(options.hdr_file, hgrm_text(outcome));
  if (!options.series_file.empty()) write(options.series_file, series_text(outcome));
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
