#include "coordinator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "http/client.hpp"

namespace gyre::threadpool {

namespace {

constexpr auto hedge_after = std::chrono::milliseconds(30);
constexpr size_t calls_waiting_max = 4096;

}  // namespace

// A read under way.
struct Coordinator::Reading {
  std::string_view key;
  size_t from = 0;
  Placement::Replicas order{};  // in which nodes are asked
  size_t asked = 0;
  std::shared_ptr<const PeerRequest> request;
  std::shared_ptr<Gather> gather;
  Clock::time_point deadline;
  Found* local = nullptr;
};

Coordinator::Coordinator(const Options& options, RecordStore& store, TransitMemory& transit)
    : store_(store),
      transit_(transit),
      placement_(options.peers),
      replication_(options.replication),
      timeout_(options.peer_timeout_ms),
      threads_per_peer_(options.threads_per_peer) {
  for (const std::string& url : options.peers) {
    if (url == options.advertise) self_ = peers_.size();
    peers_.push_back(url == options.advertise
                         ? nullptr
                         : std::make_unique<PeerClient>(*http::parse_endpoint(url), timeout_,
                                                        calls_waiting_max));
  }
}

void Coordinator::start() {
  for (const auto& peer : peers_) {
    if (peer) peer->start(threads_per_peer_);
  }
}

void Coordinator::stop() {
  for (const auto& peer : peers_) {
    if (peer) peer->stop();
  }
}

std::shared_ptr<PeerRequest> Coordinator::read_request(std::string_view key) {
  auto request = std::make_shared<PeerRequest>(transit_, 0);
  request->head = fmt::format("GET {}?key={} HTTP/1.1\r\nHost: peer\r\n\r\n", internal_path,
                              http::percent_encode(key));
  return request;
}

std::shared_ptr<PeerRequest> Coordinator::write_request(std::string_view key,
                                                        const Version& version,
                                                        uint64_t expires_at_ms, std::string body,
                                                        uint64_t charged_bytes) {
  auto request = std::make_shared<PeerRequest>(transit_, charged_bytes);
  request->head = fmt::format(
      "PUT {}?key={}&hlc={}&origin={}&expires={} HTTP/1.1\r\nHost: peer\r\nContent-Length: "
      "{}\r\n\r\n",
      internal_path, http::percent_encode(key), version.hlc, version.origin, expires_at_ms,
      body.size());
  request->body = std::move(body);
  return request;
}

// --- writes -------------------------------------------------------------------------------------

bool Coordinator::write(std::string_view key, Write write, const http::Replicas& replicas,
                        Version& version) {
  version = store_.next_version();
  const Placement::Replicas nodes = placement_.replicas_of(key, replicas.from);
  const std::shared_ptr<const PeerRequest> request =
      write_request(key, version, write.expires_at_ms, std::move(write.body), write.charged_bytes);
  const auto gather = std::make_shared<Gather>(replicas.from);
  const Clock::time_point deadline = Clock::now() + timeout_;
  size_t own = replicas.from;
  for (size_t i = 0; i < replicas.from; ++i) {
    if (nodes[i] == self_) {
      own = i;
    } else {
      peers_[nodes[i]]->call({request, gather, i, deadline});
    }
  }
  if (own < replicas.from) {
    const bool stored = store_.store(key, request->body, write.expires_at_ms, version).ok();
    gather->finish(own, stored ? std::optional<std::string>("") : std::nullopt);
  }
  return gather->wait(replicas.ack, replicas.from - replicas.ack, deadline).answered >=
         replicas.ack;
}

// --- reads --------------------------------------------------------------------------------------

// This node first, suspects last.
Placement::Replicas Coordinator::order_of(const Placement::Replicas& replicas, size_t from) const {
  Placement::Replicas order{};
  Placement::Replicas suspects{};
  size_t good = 0;
  size_t suspected = 0;
  for (size_t i = 0; i < from; ++i) {
    if (replicas[i] == self_) {
      std::copy_backward(order.begin(), order.begin() + good, order.begin() + good + 1);
      order[0] = self_;
      ++good;
    } else if (peers_[replicas[i]]->is_suspect()) {
      suspects[suspected++] = replicas[i];
    } else {
      order[good++] = replicas[i];
    }
  }
  std::copy_n(suspects.begin(), suspected, order.begin() + good);
  return order;
}

bool Coordinator::read(std::string_view key, const http::Replicas& replicas, Found& found,
                       std::string& kept) {
  Reading reading{.key = key,
                  .from = replicas.from,
                  .order = order_of(placement_.replicas_of(key, replicas.from), replicas.from),
                  .asked = 0,
                  .request = read_request(key),
                  .gather = std::make_shared<Gather>(replicas.from),
                  .deadline = Clock::now() + timeout_,
                  .local = &found};
  found = {};
  if (!collect(reading, replicas.ack)) return false;
  merge(reading, found, kept);
  return true;
}

bool Coordinator::collect(Reading& reading, size_t enough) {
  const auto ask = [&](size_t count) {
    bool own = false;
    for (; count > 0 && reading.asked < reading.from; --count) {
      const size_t number = reading.asked++;
      const size_t node = reading.order[number];
      if (node == self_) {
        own = true;
      } else {
        peers_[node]->call({reading.request, reading.gather, number, reading.deadline});
      }
    }
    if (!own) return;  // else it is the first
    const bool answered = store_.get(reading.key, *reading.local).ok();
    reading.gather->finish(0, answered ? std::optional<std::string>("") : std::nullopt);
  };
  ask(enough);
  Clock::time_point hedge_at = Clock::now() + hedge_after;
  for (size_t failed = 0;;) {
    const bool may_hedge = reading.asked < reading.from;
    const Gather::Counts counts = reading.gather->wait(
        enough, failed, may_hedge ? std::min(hedge_at, reading.deadline) : reading.deadline);
    if (counts.answered >= enough) return true;
    if (counts.failed > reading.from - enough || Clock::now() >= reading.deadline) return false;
    if (counts.failed > failed) {
      ask(counts.failed - failed);
      failed = counts.failed;
    } else if (may_hedge) {
      for (size_t call : reading.gather->unfinished(reading.asked)) {
        peers_[reading.order[call]]->suspect();
      }
      ask(1);
      hedge_at = Clock::now() + hedge_after;
    }
  }
}

void Coordinator::merge(Reading& reading, Found& found, std::string& kept) {
  std::vector<std::optional<std::string>> bodies = reading.gather->take();
  size_t best = bodies.size();  // none has it
  Version newest;
  std::vector<Version> versions(bodies.size());
  for (size_t i = 0; i < bodies.size(); ++i) {
    if (!bodies[i]) continue;
    const bool local = reading.order[i] == self_;
    RecordHeader header;
    if (local ? !found.stored : !read_record_header(*bodies[i], header)) continue;
    versions[i] = local ? found.version : header.version;
    if (best == bodies.size() || versions[i] > newest) {
      best = i;
      newest = versions[i];
    }
  }
  if (best == bodies.size()) return;
  store_.observe(newest);
  if (reading.order[best] != self_) {
    kept = std::move(*bodies[best]);
    found.assign(kept);
  }
  std::shared_ptr<const PeerRequest> repair;
  for (size_t i = 0; i < bodies.size(); ++i) {
    if (!bodies[i] || versions[i] == newest) continue;
    const std::string_view bytes = found.stored_bytes;
    if (reading.order[i] == self_) {
      store_.store(reading.key, bytes, found.expires_at_ms, newest).PermitUncheckedError();
      continue;
    }
    if (!repair) {
      transit_.charge(bytes.size());
      repair =
          write_request(reading.key, newest, found.expires_at_ms, std::string(bytes), bytes.size());
    }
    peers_[reading.order[i]]->call({repair, nullptr, 0, Clock::now() + timeout_});
  }
}

}  // namespace gyre::threadpool
