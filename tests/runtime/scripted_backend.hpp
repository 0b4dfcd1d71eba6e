// A Backend fed by hand: it records what is submitted, and the test decides what completes, with
// which result and when. No kernel, no clock, no chance.
//
//   - every completion is delivered by the next reap, in the order in which it was scripted
//   - now() stands still until the test moves it, or, with `sleep_moves_clock`, until an enter
//     that may block does
//   - codes in `answers` complete by themselves (close does, with 0, unless the test forbids it),
//     and a cancelled operation completes with -ECANCELED unless `answer_cancels` is off
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/backend.hpp>

namespace gyre::testing {

// What an operation looked like when it was submitted.
struct Submission {
  OpCode code;
  uint16_t flags;
  int fd;
  uint32_t len;
  uint64_t offset;
  uint64_t length;
  const void* data;
  std::string path;
  std::string path2;
  std::string bytes;  // what a send or write would have put out
};

class ScriptedBackend final : public Backend {
 public:
  explicit ScriptedBackend(size_t buffers = 4, size_t buffer_bytes = 256)
      : buffer_bytes_(buffer_bytes), memory_(buffers * buffer_bytes, 'x') {
    for (size_t i = 0; i < buffers; ++i) free_.push_back(static_cast<uint16_t>(i));
    answers[OpCode::close] = 0;
  }

  // --- the script ----------------------------------------------------------------------------
  std::map<OpCode, int32_t> answers;
  bool answer_cancels = true;
  bool sleep_moves_clock = false;
  Nanos clock = seconds(1);
  Nanos clock_step = 0;  // how far each look at the clock moves it
  uint64_t wall_clock_us = 1'700'000'000'000'000;
  bool pending_answer = false;  // what completions_pending says when nothing is scripted

  // --- what happened -------------------------------------------------------------------------
  std::vector<Submission> history;
  std::vector<Op*> in_flight;
  std::vector<Op*> cancelled;
  std::vector<std::string> log_lines;
  std::map<unsigned, int> wakes;
  Nanos last_wait = -1;
  int cpu_yields = 0;

  size_t submissions(OpCode code) const {
    return static_cast<size_t>(
        std::count_if(history.begin(), history.end(),
                      [code](const Submission& submission) { return submission.code == code; }));
  }
  const Submission& last(OpCode code) const {
    for (size_t i = history.size(); i-- > 0;) {
      if (history[i].code == code) return history[i];
    }
    throw std::logic_error("never submitted: " + std::string(to_string(code)));
  }
  // The oldest operation of this kind in flight.
  Op* find(OpCode code, int fd = -1) const {
    for (Op* op : in_flight) {
      if (op->code == code && (fd < 0 || op->fd == fd)) return op;
    }
    return nullptr;
  }
  Op& get(OpCode code, int fd = -1) const {
    if (Op* op = find(code, fd)) return *op;
    throw std::logic_error("not in flight: " + std::string(to_string(code)));
  }

  void complete(Op& op, Completion completion) { completions_.push_back({&op, completion}); }
  void complete(OpCode code, int32_t result) { complete(get(code), {.result = result}); }
  // A multishot receive puts `bytes` into a provided buffer.
  void receive(int fd, std::string_view bytes, bool more = true) {
    if (free_.empty()) throw std::logic_error("no provided buffer left");
    if (bytes.size() > buffer_bytes_) throw std::logic_error("longer than a provided buffer");
    const uint16_t id = free_.front();
    free_.erase(free_.begin());
    std::memcpy(buffer(id).data(), bytes.data(), bytes.size());
    complete(get(OpCode::recv, fd), {.result = static_cast<int32_t>(bytes.size()),
                                     .more = more,
                                     .has_buffer = true,
                                     .buffer = id});
  }
  void end_receive(int fd, int32_t result) { complete(get(OpCode::recv, fd), {.result = result}); }

  // --- Backend -------------------------------------------------------------------------------
  void submit(Op& op) override {
    if (op.in_flight) throw std::logic_error("submitted twice");
    if (op.on_complete == nullptr) throw std::logic_error("nobody waits for the completion");
    op.in_flight = true;
    ++stats_.submitted;
    in_flight.push_back(&op);
    history.push_back(describe(op));
    if (auto answer = answers.find(op.code); answer != answers.end()) {
      complete(op, {.result = answer->second});
    }
  }
  void cancel(Op& op) override {
    cancelled.push_back(&op);
    if (answer_cancels) complete(op, {.result = -ECANCELED});
  }
  size_t reap() override {
    std::deque<Scripted> now = std::exchange(completions_, {});
    size_t delivered = 0;
    for (const Scripted& scripted : now) {
      Op& op = *scripted.op;
      const auto at = std::find(in_flight.begin(), in_flight.end(), &op);
      if (at == in_flight.end()) {  // it completed before the cancel could
        ++stats_.stale_completions;
        continue;
      }
      if (!scripted.completion.more) {
        in_flight.erase(at);
        op.in_flight = false;
        ++stats_.completed;
      }
      ++delivered;
      op.on_complete(op, scripted.completion);
    }
    return delivered;
  }
  void enter(Nanos wait) override {
    ++stats_.enters;
    last_wait = wait;
    if (wait == 0) return;
    ++stats_.sleeps;
    if (sleep_moves_clock && completions_.empty() && wait != nanos_never) clock += wait;
  }
  void yield_cpu() override { ++cpu_yields; }
  bool completions_pending() const override { return pending_answer || !completions_.empty(); }

  Nanos now() override { return clock += clock_step; }
  uint64_t wall_us() override { return wall_clock_us; }
  uint64_t random() override {
    return random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  }

  std::span<char> buffer(uint16_t id) override {
    return {memory_.data() + id * buffer_bytes_, buffer_bytes_};
  }
  void recycle(uint16_t id) override {
    if (std::find(free_.begin(), free_.end(), id) != free_.end()) {
      throw std::logic_error("recycled twice");
    }
    std::memset(buffer(id).data(), 'x', buffer_bytes_);  // whoever still looks sees it
    free_.push_back(id);
  }
  size_t buffers_free() const override { return free_.size(); }
  size_t buffer_count() const override { return memory_.size() / buffer_bytes_; }

  void wake(unsigned core) override { ++wakes[core]; }
  uint64_t peer(int) override { return 1; }
  void log(std::string_view line) override { log_lines.emplace_back(line); }

 private:
  struct Scripted {
    Op* op;
    Completion completion;
  };

  static Submission describe(const Op& op) {
    Submission submission{.code = op.code,
                          .flags = op.flags,
                          .fd = op.fd,
                          .len = op.len,
                          .offset = op.offset,
                          .length = op.length,
                          .data = op.data,
                          .path = op.path != nullptr ? op.path : "",
                          .path2 = op.path2 != nullptr ? op.path2 : "",
                          .bytes = {}};
    if (op.code == OpCode::send) {
      const auto* parts = static_cast<const iovec*>(op.data);
      for (uint32_t i = 0; i < op.len; ++i) {
        submission.bytes.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
      }
    } else if (op.code == OpCode::write) {
      submission.bytes.assign(static_cast<const char*>(op.data), op.len);
    }
    return submission;
  }

  size_t buffer_bytes_;
  std::vector<char> memory_;
  std::vector<uint16_t> free_;
  std::deque<Scripted> completions_;
  uint64_t random_ = 1;
};

}  // namespace gyre::testing
