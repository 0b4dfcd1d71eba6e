// A client of the log writer that only takes notes, and checks what always holds: records are logged
// and committed in order, and completed once.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "shard_rig.hpp"
#include "store/log_writer.hpp"

namespace gyre::test {

struct NotedWrite : LogWrite {
  std::string key;
  std::string value;
  bool logged = false;
  bool completed = false;
  Errc status = Errc::ok;
  uint64_t place = 0;  // in the order of completions
};

class Notes final : public LogClient {
 public:
  explicit Notes(sim::Disk& disk) : disk_(disk) {}

  void logged(LogWrite& write) noexcept override {
    auto& noted = static_cast<NotedWrite&>(write);
    CHECK(!noted.logged);
    CHECK(write.seq == ++logged_seq);
    noted.logged = true;
  }
  void committed(uint64_t seq) noexcept override {
    CHECK(seq > committed_seq);
    CHECK(seq <= logged_seq);
    committed_seq = seq;
  }
  void completed(LogWrite& write, Errc status) noexcept override {
    auto& noted = static_cast<NotedWrite&>(write);
    CHECK(!noted.completed);
    noted.completed = true;
    noted.status = status;
    noted.place = completions;
    ++completions;
    first_completion.set();
    if (status != Errc::ok) return;
    CHECK(write.seq <= committed_seq);
    // A value in fragments does not lie in one piece.
    if (check_durable && noted.value.size() < 1000) CHECK(is_durable(noted.value));
  }
  void log_failed(const Error& error) noexcept override {
    CHECK(failure.empty());
    failure = error.message();
  }

  // Whether some segment holds the bytes where a power cut leaves them.
  bool is_durable(const std::string& bytes) const {
    std::vector<DirEntry> entries;
    disk_.list_dir("log", entries);
    for (const DirEntry& entry : entries) {
      if (disk_.durable_content("log/" + entry.name).find(bytes) != std::string::npos) return true;
    }
    return false;
  }

  uint64_t logged_seq = 0;
  uint64_t committed_seq = 0;
  uint64_t completions = 0;
  Event first_completion;
  bool check_durable = false;
  std::string failure;

 private:
  sim::Disk& disk_;
};

inline void submit(LogWriter& log, NotedWrite& write, std::string key, std::string value) {
  write.key = std::move(key);
  write.value = std::move(value);
  write.record.version = {1, 1};
  write.record.key = write.key;
  write.record.value = write.value;
  if (!log.try_append(write)) log.enqueue(write);
}

inline Task<Result<void>> open_log(LogWriter& log) {
  if (Result<void> made = co_await make_directories("log"); !made) co_return made;
  co_return co_await log.open({}, {});
}

inline LogWriterOptions log_options() {
  return {.directory = "log", .salt = 3};
}

}  // namespace gyre::test
