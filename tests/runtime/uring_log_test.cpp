// Log lines: bounded, in order, never blocking.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <climits>
#include <string>
#include <string_view>

#include "runtime/uring/log_buffer.hpp"
#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::uring;

namespace {

std::string drain(LogBuffer& buffer, size_t step) {
  std::string all;
  while (!buffer.empty()) {
    std::string_view chunk = buffer.chunk();
    REQUIRE_FALSE(chunk.empty());
    chunk = chunk.substr(0, step);
    all += chunk;
    buffer.consume(chunk.size());
  }
  return all;
}

struct Pipe {
  int ends[2] = {-1, -1};
  explicit Pipe(int flags = 0) { REQUIRE(::pipe2(ends, O_CLOEXEC | flags) == 0); }
  ~Pipe() { ::close(ends[0]), ::close(ends[1]); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  std::string read_available() const {
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    std::string all(1 << 20, '\0');
    size_t size = 0;
    for (ssize_t got; (got = ::read(ends[0], all.data() + size, all.size() - size)) > 0;)
      size += got;
    all.resize(size);
    return all;
  }
};

struct Tally {
  uint64_t lines = 0, dropped = 0, last = 0;
  bool in_order = true;
  void add(std::string_view text) {
    while (!text.empty()) {
      const size_t end = text.find('\n');
      const std::string line(text.substr(0, end));
      text.remove_prefix(end + 1);
      if (line.ends_with(" log lines dropped")) {
        dropped += std::stoull(line);
        continue;
      }
      const uint64_t number = std::stoull(line.substr(line.find(' ') + 1));
      in_order = in_order && (lines == 0 || number > last);
      last = number;
      ++lines;
    }
  }
};

}  // namespace

TEST_CASE("lines come out as they went in, whatever the pieces") {
  for (size_t step : {size_t{1}, size_t{3}, size_t{4096}}) {
    LogBuffer buffer(1000);
    CHECK(buffer.empty());
    std::string expected;
    for (int i = 0; i < 20; ++i) {
      const std::string line = "line " + std::to_string(i);
      CHECK(buffer.append(line));
      expected += line + "\n";
    }
    CHECK(drain(buffer, step) == expected);
    CHECK(buffer.empty());
  }
}

TEST_CASE("lines over the bound are dropped, counted, and the next line says how many") {
  LogBuffer buffer(60);
  CHECK(buffer.append(std::string(30, 'a')));
  CHECK_FALSE(buffer.append(std::string(30, 'b')));
  CHECK_FALSE(buffer.append(std::string(30, 'c')));
  CHECK(buffer.lines_dropped() == 2);
  CHECK(drain(buffer, 4096) == std::string(30, 'a') + "\n2 log lines dropped\n");
  CHECK(buffer.append("later"));
  CHECK(drain(buffer, 4096) == "later\n");
}

TEST_CASE("the count of dropped lines comes before the line after the gap") {
  LogBuffer buffer(50);
  CHECK(buffer.append(std::string(40, 'a')));
  CHECK_FALSE(buffer.append(std::string(40, 'b')));
  const std::string_view chunk = buffer.chunk();
  buffer.consume(chunk.size());
  CHECK(buffer.append("c"));
  CHECK(drain(buffer, 4096) == "1 log lines dropped\nc\n");
}

TEST_CASE("a chunk ends with a line and fits a pipe's atomic write") {
  LogBuffer buffer(1 << 20);
  for (int i = 0; i < 1000; ++i) buffer.append(std::string(70, 'x'));
  while (!buffer.empty()) {
    const std::string_view chunk = buffer.chunk();
    CHECK(chunk.size() <= PIPE_BUF);
    CHECK(chunk.back() == '\n');
    buffer.consume(chunk.size());
  }
  buffer.append(std::string(PIPE_BUF * 2, 'y'));  // longer than one write: in pieces, but whole
  CHECK(drain(buffer, 1 << 20) == std::string(PIPE_BUF * 2, 'y') + "\n");
}

TEST_CASE("a pipe that nobody reads costs lines, never a wait, and later says how many") {
  for (int flags : {0, O_NONBLOCK}) {
    Pipe pipe(flags);
    Tally tally;
    uint64_t written = 0;
    {
      Loop loop({.log_fd = pipe.ends[1]});
      while (loop.backend.stats().log_lines_dropped < 1000) {
        loop.backend.log("line " + std::to_string(written++) + std::string(100, '.'));
        if (written % 64 == 0) loop.ticks(1);
        REQUIRE(written < 100'000);
      }
      const uint64_t enters = loop.backend.stats().enters;
      loop.ticks(50);  // a full pipe is waited for, not polled in a loop
      CHECK(loop.backend.stats().enters - enters < 200);
      for (int i = 0; i < 2000 && tally.lines + tally.dropped < written; ++i) {
        tally.add(pipe.read_available());
        loop.ticks(1);
      }
    }
    tally.add(pipe.read_available());
    CHECK(tally.in_order);
    CHECK(tally.dropped >= 1000);
    CHECK(tally.lines + tally.dropped == written);
  }
}

TEST_CASE("what is left of the log is written at the end") {
  Pipe pipe;
  {
    Loop loop({.log_fd = pipe.ends[1]});
    for (int i = 0; i < 200; ++i) loop.backend.log("line " + std::to_string(i));
  }
  Tally tally;
  tally.add(pipe.read_available());
  CHECK(tally.lines == 200);
}

TEST_CASE("the end comes also when nobody reads the log") {
  Pipe pipe;
  Loop loop({.log_fd = pipe.ends[1]});
  for (int i = 0; i < 3000; ++i) loop.backend.log("line " + std::to_string(i));
  loop.ticks(20);
  CHECK(loop.backend.stats().log_lines_dropped == 0);
}

TEST_CASE("a closed stderr swallows the log") {
  Loop loop({.log_fd = -1});
  for (int i = 0; i < 100; ++i) loop.backend.log("line " + std::to_string(i));
  loop.ticks(5);
  CHECK_FALSE(loop.backend.completions_pending());
}
