#include "quorum_load.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <random>

#include "base/hash.hpp"

namespace gyre::chaos {

using test::ConnectionEnded;
using test::HttpAnswer;
using test::HttpClient;
using test::NoAnswer;

namespace {

constexpr size_t problems_max = 20;
constexpr std::chrono::seconds away_from_home(1);
constexpr std::chrono::milliseconds after_refusal(5);
constexpr int64_t window_ns = 250'000'000;

std::string target_of(unsigned key, const std::string& replicas) {
  return test::entity(QuorumLoad::key_text(key)) + "&replicas=" + replicas;
}

}  // namespace

std::string StretchFigures::text() const {
  return fmt::format(
      "{:>5.1f} s  {:>7.0f} answers/s  (lowest {:>6.0f})  p50 {:>7.2f} ms  p99 {:>8.2f} ms  "
      "longest {:>8.2f} ms  503: "
      "{}  504: {}  no answer: {}",
      seconds, answered_per_second(), lowest_per_second, p50_ms, p99_ms, max_ms, refused,
      impossible, unanswered);
}

std::string QuorumLoad::key_text(unsigned key) {
  return "key-" + std::to_string(key);
}

// "NUMBER SIZE\n", then bytes that depend on both.
std::string QuorumLoad::value_text(uint64_t number, size_t size_bytes) {
  std::string text = fmt::format("{} {}\n", number, size_bytes);
  if (text.size() < size_bytes) {
    text += test::random_bytes(hash64(text) | 1, size_bytes - text.size());
  }
  return text;
}

std::optional<uint64_t> QuorumLoad::number_of(std::string_view text) {
  uint64_t number = 0;
  size_t size_bytes = 0;
  const char* end = text.data() + text.size();
  const auto [space, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || space == end) return std::nullopt;
  if (std::from_chars(space + 1, end, size_bytes).ec != std::errc()) return std::nullopt;
  if (size_bytes > (1u << 20) || value_text(number, size_bytes) != text) return std::nullopt;
  return number;
}

int64_t QuorumLoad::now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

struct QuorumLoad::Client {
  Client(QuorumLoad& of, unsigned its_number)
      : load(of),
        number(its_number),
        home(its_number % of.cluster_.size()),
        random(of.options_.seed * 1000 + its_number) {}

  void run();
  void talk(HttpClient& connection);
  void read(HttpClient& connection, unsigned key);
  void write(HttpClient& connection, unsigned key, bool removes);
  void note(int64_t begun, int64_t ended, int status);
  size_t any_size();
  uint64_t below(uint64_t end) { return random() % end; }
  void problem(std::string text) {
    if (problems.size() < problems_max) problems.push_back(std::move(text));
  }

  QuorumLoad& load;
  unsigned number;
  size_t home;
  size_t at = 0;
  int64_t home_failed = 0;
  uint64_t values = 0;
  std::mt19937_64 random;
  QuorumHistory history;
  std::vector<Request> requests;
  std::vector<std::string> problems;
};

void QuorumLoad::Client::run() {
  at = home;
  while (!load.stopping_) {
    const int64_t begun = now();
    try {
      const auto connection = load.cluster_.connect(at, load.options_.patience);
      talk(*connection);
      continue;
    } catch (const NoAnswer&) {
    } catch (const ConnectionEnded&) {
    } catch (const std::exception& error) {
      problem(error.what());
    }
    if (at == home) home_failed = now();
    at = (at + 1) % load.cluster_.size();
    // Nobody is there: not as fast as that can be found out.
    if (now() - begun < 1'000'000) std::this_thread::sleep_for(after_refusal);
  }
}

void QuorumLoad::Client::talk(HttpClient& connection) {
  while (!load.stopping_) {
    if (at != home && now() - home_failed > away_from_home / std::chrono::nanoseconds(1)) {
      at = home;
      return;
    }
    const QuorumLoadOptions& options = load.options_;
    const uint64_t kind = below(10);
    if (kind < 5) {
      read(connection, static_cast<unsigned>(below(options.keys)));
    } else {
      write(connection, static_cast<unsigned>(below(options.keys + options.cold_keys)), kind == 9);
    }
  }
}

// Mostly small ones, some that fill blocks, few that travel in pieces.
size_t QuorumLoad::Client::any_size() {
  const uint64_t dice = below(100);
  if (dice < 90) return 20 + below(200);
  if (dice < 98 || !load.options_.large_values) return below(20 << 10);
  return below(200 << 10);
}

void QuorumLoad::Client::note(int64_t begun, int64_t ended, int status) {
  requests.push_back({begun, ended, static_cast<uint32_t>(at), status});
  if (status == 200 || status == 201 || status == 202 || status == 404) ++load.answered_;
}

void QuorumLoad::Client::read(HttpClient& connection, unsigned key) {
  QuorumRead event{.key = key, .value = {}, .begun = now(), .ended = 0, .version = ""};
  HttpAnswer answer;
  try {
    answer = connection.get(target_of(key, "2/3"));
  } catch (const std::exception&) {
    note(event.begun, now(), 0);
    throw;
  }
  event.ended = now();
  note(event.begun, event.ended, answer.status);
  if (answer.status == 200) {
    event.value = number_of(answer.body);
    event.version = answer.header("etag");
    if (!event.value) {
      return problem(fmt::format("{}: damaged, {} bytes: '{}'", key_text(key), answer.body.size(),
                                 answer.body.substr(0, 60)));
    }
  }
  if (answer.status == 200 || answer.status == 404) {
    history.add(event);
  } else if (answer.status == 503) {
    std::this_thread::sleep_for(after_refusal);
  } else if (answer.status != 504) {
    problem(fmt::format("{}: answered {} {}", key_text(key), answer.status, answer.body));
  }
}

void QuorumLoad::Client::write(HttpClient& connection, unsigned key, bool removes) {
  QuorumWrite event{.key = key,
                    .value = removes ? 0 : (uint64_t{number} + 1) << 32 | ++values,
                    .begun = now(),
                    .ended = 0,
                    .outcome = Outcome::unknown,
                    .version = ""};
  const std::string value = removes ? "" : value_text(event.value, any_size());
  const std::string target = target_of(key, "2/3");
  event.begun = now();
  HttpAnswer answer;
  try {
    answer = removes ? connection.del(target) : connection.put(target, value);
  } catch (const std::exception&) {
    event.ended = now();
    note(event.begun, event.ended, 0);
    history.add(event);
    throw;
  }
  event.ended = now();
  note(event.begun, event.ended, answer.status);
  if (answer.status == (removes ? 202 : 201)) {
    event.outcome = Outcome::acknowledged;
    event.version = answer.header("etag");
    if (event.version.empty()) problem("acknowledged without a version");
  } else if (answer.status == 503) {
    event.outcome = Outcome::refused;
  } else if (answer.status != 504) {
    problem(fmt::format("{}: answered {} {}", key_text(key), answer.status, answer.body));
  }
  history.add(event);
  if (answer.status == 503) std::this_thread::sleep_for(after_refusal);
}

QuorumLoad::QuorumLoad(const LabCluster& cluster, const QuorumLoadOptions& options)
    : cluster_(cluster), options_(options) {
  for (unsigned number = 0; number < options.clients; ++number) {
    clients_.push_back(std::make_unique<Client>(*this, number));
  }
}

QuorumLoad::~QuorumLoad() {
  stop();
}

void QuorumLoad::start() {
  stopping_ = false;
  for (const auto& each : clients_) {
    threads_.emplace_back([client = each.get()] { client->run(); });
  }
}

void QuorumLoad::stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const auto& each : clients_) {
    history_.add(each->history);
    each->history = {};
    requests_.insert(requests_.end(), each->requests.begin(), each->requests.end());
    each->requests.clear();
    problems_.insert(problems_.end(), each->problems.begin(), each->problems.end());
    each->problems.clear();
  }
}

StretchFigures QuorumLoad::figures(int64_t from, int64_t to,
                                   std::optional<size_t> without_node) const {
  StretchFigures out;
  out.seconds = static_cast<double>(to - from) / 1e9;
  std::vector<int64_t> times;
  std::vector<size_t> in_window(static_cast<size_t>((to - from) / window_ns));
  for (const Request& request : requests_) {
    if (request.begun < from || request.begun >= to || without_node == request.node) continue;
    times.push_back(request.ended - request.begun);
    switch (request.status) {
      case 0:
        ++out.unanswered;
        break;
      case 503:
        ++out.refused;
        break;
      case 504:
        ++out.impossible;
        break;
      default:
        ++out.answered;
        if (const auto window = static_cast<size_t>((request.ended - from) / window_ns);
            window < in_window.size()) {
          ++in_window[window];
        }
    }
  }
  if (!in_window.empty()) {
    out.lowest_per_second = static_cast<double>(*std::ranges::min_element(in_window)) * 1e9 /
                            static_cast<double>(window_ns);
  }
  if (times.empty()) return out;
  std::ranges::sort(times);
  const auto at = [&](size_t percent) {
    return static_cast<double>(times[std::min(times.size() - 1, times.size() * percent / 100)]) /
           1e6;
  };
  out.p50_ms = at(50);
  out.p99_ms = at(99);
  out.max_ms = at(100);
  return out;
}

std::vector<QuorumRead> QuorumLoad::read_all(const std::string& replicas) {
  std::vector<QuorumRead> last;
  for (size_t node = 0; node < cluster_.size(); ++node) {
    last.clear();
    const auto connection = cluster_.connect(node);
    for (unsigned key = 0; key < options_.keys + options_.cold_keys; ++key) {
      QuorumRead event{.key = key, .value = {}, .begun = now(), .ended = 0, .version = ""};
      const HttpAnswer answer = connection->get(target_of(key, replicas));
      event.ended = now();
      if (answer.status == 200) {
        event.value = number_of(answer.body);
        event.version = answer.header("etag");
      }
      if (answer.status != (event.value ? 200 : 404)) {
        problems_.push_back(fmt::format("at the end, {} through node {}: {} '{}'", key_text(key),
                                        node, answer.status, answer.body.substr(0, 60)));
        continue;
      }
      history_.add(event);
      last.push_back(event);
    }
  }
  return last;
}

}  // namespace gyre::chaos
