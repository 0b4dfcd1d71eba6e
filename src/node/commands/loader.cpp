#include "node/commands/loader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "node/commands/client_commands.hpp"

namespace gyre {

namespace {

constexpr size_t queue_records_max = 256;        // of a lane, not sent yet
constexpr size_t window_records_max = 32;        // of a lane, sent and not answered
constexpr size_t window_bytes_max = 1u << 20;    // reached with one record at least
constexpr uint64_t item_overhead_bytes = 256;    // of a record in memory
constexpr unsigned connection_attempts_max = 8;  // in a row, without an answer
constexpr Nanos attempt_delay_min = milliseconds(100);
constexpr Nanos attempt_delay_max = seconds(2);
constexpr uint64_t retry_after_s_max = 60;
constexpr size_t refusal_bytes_max = 1024;

// Retry-After may also be a date; then, and without one, a second.
uint64_t read_retry_after(std::string_view text) {
  uint64_t wait_s = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wait_s);
  if (error != std::errc() || end != text.data() + text.size()) return 1;
  return std::clamp<uint64_t>(wait_s, 1, retry_after_s_max);
}

}  // namespace

// One connection and its records, oldest first: again_, window_, pending_, queue_.
struct Loader::Lane {
  Lane(const LoaderOptions& options)
      : client(options.endpoint, options.timeout), queue(queue_records_max) {}

  http::Client client;
  Channel<LoadItem> queue;
  std::deque<LoadItem> pending;  // to be sent before anything of the queue
  std::deque<LoadItem> window;   // sent, not answered
  std::deque<LoadItem> again;    // refused, or of unknown fate
  size_t window_bytes = 0;
  Nanos pause_until = 0;
  bool asked_to_wait = false;
  unsigned attempts_failed = 0;

  bool is_refused(std::string_view key) const {
    return std::any_of(again.begin(), again.end(),
                       [key](const LoadItem& item) { return item.key == key; });
  }
  LoadItem pop_window() {
    LoadItem item = std::move(window.front());
    window.pop_front();
    window_bytes -= item.value.size();
    return item;
  }
};

Loader::Loader(const LoaderOptions& options)
    : options_(options), memory_(options.memory_bytes_max) {
  for (unsigned i = 0; i < std::max(options.connections, 1u); ++i) {
    lanes_.push_back(std::make_unique<Lane>(options_));
  }
}

Loader::~Loader() = default;

void Loader::start(Scope& scope) {
  scope_ = &scope;
  for (auto& lane : lanes_) scope.spawn(run(lane.get()));
}

uint64_t Loader::charge(const LoadItem& item) const {
  // A record larger than the whole budget is let through alone.
  return std::min(item.key.size() + item.value.size() + item_overhead_bytes,
                  options_.memory_bytes_max);
}

Task<bool> Loader::add(LoadItem item) {
  if (!co_await memory_.acquire(charge(item))) co_return false;
  Lane& lane = *lanes_[hash64(item.key) % lanes_.size()];
  co_return co_await lane.queue.send(std::move(item));
}

void Loader::reject(uint64_t line, uint64_t line_bytes, const std::string& why) {
  failed_one(line, line_bytes, why);
}

void Loader::finish() {
  for (auto& lane : lanes_) lane->queue.close();
}

void Loader::give_up(std::string reason) {
  if (!given_up_.empty()) return;
  given_up_ = std::move(reason);
  scope_->request_stop();
}

// --- a connection -------------------------------------------------------------------------------

Task<void> Loader::run(Lane* lane) {
  while (co_await prepare(*lane) && co_await fill(*lane) && co_await take_answer(*lane)) {
  }
  co_await lane->client.close();
}

// What was refused moves to the front of what is to be sent, after the pause that goes with it.
Task<bool> Loader::prepare(Lane& lane) {
  if (lane.again.empty() || !lane.window.empty()) co_return true;
  const bool asked = std::exchange(lane.asked_to_wait, false);
  if (asked) ++waiting_;
  const bool slept = co_await sleep_until(lane.pause_until);
  if (asked) --waiting_;
  while (!lane.again.empty()) {
    lane.pending.push_front(std::move(lane.again.back()));
    lane.again.pop_back();
  }
  co_return slept;
}

// Sends as much as may be under way. False if nothing is and nothing will be.
Task<bool> Loader::fill(Lane& lane) {
  while (lane.again.empty() && lane.window.size() < window_records_max &&
         lane.window_bytes < window_bytes_max) {
    if (lane.pending.empty()) {
      if (lane.queue.size() == 0 && !lane.window.empty()) break;
      std::optional<LoadItem> item = co_await lane.queue.receive();
      if (!item) break;
      lane.pending.push_back(std::move(*item));
    }
    if (!lane.client.connected()) {
      Result<void> connected = co_await lane.client.connect();
      if (!connected) {
        if (!co_await reconnect_later(lane, std::move(connected.error()))) co_return false;
        if (!co_await prepare(lane)) co_return false;
        continue;
      }
    }
    LoadItem item = std::move(lane.pending.front());
    lane.pending.pop_front();
    lane.client.send_request("PUT", "/v0/entity?id=" + http::percent_encode(item.key), item.value);
    lane.window_bytes += item.value.size();
    lane.window.push_back(std::move(item));
  }
  co_return !lane.window.empty();
}

Task<bool> Loader::take_answer(Lane& lane) {
  http::Client& client = lane.client;
  if (Result<void> answered = co_await client.answer(); !answered) {
    co_return co_await reconnect_later(lane, std::move(answered.error()));
  }
  const uint16_t status = client.status();
  const uint64_t retry_after_s = read_retry_after(client.field("retry-after"));
  std::string text = fmt::format("{} {}", status, client.reason());
  Result<std::string> body = co_await client.text(refusal_bytes_max);
  if (!body) co_return co_await reconnect_later(lane, std::move(body.error()));
  while (body->ends_with('\n')) body->pop_back();
  if (!body->empty()) text += ": " + *body;
  ++answers_;
  lane.attempts_failed = 0;
  judge(lane, status, retry_after_s, text);
  if (client.reusable()) co_return true;
  // The server ends the connection with this answer: nothing is known of what was sent behind it.
  co_await client.close();
  while (!lane.window.empty()) lane.again.push_back(lane.pop_window());
  co_return true;
}

void Loader::judge(Lane& lane, uint16_t status, uint64_t retry_after_s, const std::string& text) {
  LoadItem item = lane.pop_window();
  if (status / 100 == 2) {
    refused_since_ = nanos_never;
    if (lane.is_refused(item.key)) {
      lane.again.push_back(std::move(item));  // an older record of this key is still to come
    } else {
      stored_one(std::move(item));
    }
    return;
  }
  if (status != 503 && status != 429) {
    failed_one(item.line, item.line_bytes, fmt::format("key {}: {}", printable(item.key), text));
    memory_.release(charge(item));
    return;
  }
  const Nanos now = Reactor::current().now();
  refused_since_ = std::min(refused_since_, now);
  if (now - refused_since_ >= options_.patience) {
    give_up(fmt::format("the node has taken nothing for {}; its last answer was {}",
                        format_duration_ms(static_cast<uint64_t>(options_.patience / 1'000'000)),
                        text));
  }
  lane.again.push_back(std::move(item));
  lane.asked_to_wait = true;
  lane.pause_until = std::max(lane.pause_until, now + seconds(static_cast<int64_t>(retry_after_s)));
}

// Everything under way is sent again, unless this has failed too often.
Task<bool> Loader::reconnect_later(Lane& lane, Error error) {
  co_await lane.client.close();
  if (error.code == Errc::cancelled) co_return false;
  while (!lane.window.empty()) lane.again.push_back(lane.pop_window());
  while (!lane.pending.empty()) {
    lane.again.push_back(std::move(lane.pending.front()));
    lane.pending.pop_front();
  }
  // Where there never was an answer there is no node to wait for.
  if (++lane.attempts_failed >= connection_attempts_max || answers_ == 0) {
    if (given_up_.empty()) lost_ = std::move(error);
    give_up("no connection to the node");
    co_return false;
  }
  const Nanos delay =
      std::min<Nanos>(attempt_delay_min << (lane.attempts_failed - 1), attempt_delay_max);
  lane.pause_until = Reactor::current().after(delay);
  co_return true;
}

void Loader::stored_one(LoadItem item) {
  ++stored_;
  bytes_done_ += item.line_bytes;
  memory_.release(charge(item));
}

void Loader::failed_one(uint64_t line, uint64_t line_bytes, std::string why) {
  ++failed_;
  bytes_done_ += line_bytes;
  if (failures_.size() < failures_kept_max) {
    failures_.push_back(fmt::format("line {}: {}", line, why));
  }
}

}  // namespace gyre
