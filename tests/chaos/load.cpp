#include "load.hpp"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <random>

#include "../contract/http_client.hpp"

namespace gyre::chaos {

using test::ConnectionEnded;
using test::HttpAnswer;
using test::HttpClient;

namespace {

constexpr size_t packet_requests_max = 16;
constexpr size_t packet_value_bytes_max = 3000;  // a packet fits socket buffers whole
constexpr size_t problems_max = 20;

struct GaveUp {};

}  // namespace

struct Load::Client {
  // One request that was sent.
  struct Request {
    size_t key = 0;
    bool reads = false;
    Operation operation;  // of a read: what it must find
  };

  Client(Load& of, unsigned number) : load(of), random(of.options_.seed * 1000 + number) {
    for (unsigned i = 0; i < of.options_.keys_per_client; ++i) {
      keys.emplace_back("client-" + std::to_string(number) + "-key-" + std::to_string(i));
    }
  }

  void run(uint16_t port);
  void talk(HttpClient& connection);
  bool send_one(HttpClient& connection);
  bool send_packet(HttpClient& connection);
  std::string request_on(size_t key, size_t size_bytes, unsigned kind);
  void read_answers(HttpClient& connection);
  void take_answer(const Request& request, const HttpAnswer& answer);
  void take_value(const Request& request, const HttpAnswer& answer);
  std::optional<size_t> certain_key();
  size_t any_size();
  uint64_t below(uint64_t end) { return random() % end; }
  void problem(std::string text) {
    if (problems.size() < problems_max) problems.push_back(std::move(text));
  }

  Load& load;
  std::mt19937_64 random;
  std::vector<KeyHistory> keys;
  std::vector<Request> requests;     // sent, not answered
  std::vector<size_t> refused_keys;  // by answers to these requests
  std::vector<std::string> problems;
  std::string refusal;
};

void Load::Client::run(uint16_t port) {
  while (!load.stopping_) {
    requests.clear();  // of a connection that broke: in doubt
    try {
      HttpClient connection(port);
      talk(connection);
    } catch (const ConnectionEnded&) {
      ++load.counts_.connections_lost;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } catch (const GaveUp&) {
      ++load.counts_.timeouts;
    } catch (const std::exception& error) {
      problem(error.what());
    }
  }
}

void Load::Client::talk(HttpClient& connection) {
  while (!load.stopping_) {
    const bool sent = below(3) == 0 ? send_packet(connection) : send_one(connection);
    if (!sent) {  // all keys rest
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      continue;
    }
    read_answers(connection);
  }
}

// Mostly small, but every path of the store: inline, whole in a frame, fragments, extents.
size_t Load::Client::any_size() {
  const uint64_t dice = below(100);
  if (dice < 10) return 0;
  if (dice < 55) return below(300);
  if (dice < 80) return below(8 << 10);
  if (dice < 97) return below(200 << 10);
  return (2u << 20) - below(3);
}

std::optional<size_t> Load::Client::certain_key() {
  for (int attempt = 0; attempt < 20; ++attempt) {
    const size_t key = below(keys.size());
    if (!keys[key].in_doubt()) return key;
  }
  return std::nullopt;
}

// Notes the request as sent; kind: 0 to 9.
std::string Load::Client::request_on(size_t key, size_t size_bytes, unsigned kind) {
  KeyHistory& history = keys[key];
  const std::string target = test::entity(history.key());
  if (kind < 2) {
    requests.push_back({key, true, history.last()});
    return test::get_request(target);
  }
  const bool removes = kind < 4;
  const Operation operation{history.sequence_next(), removes ? 0 : size_bytes, removes};
  history.sent(operation);
  requests.push_back({key, false, operation});
  return operation.removes ? test::delete_request(target)
                           : test::put_request(target, value_of(history.key(), operation));
}

bool Load::Client::send_one(HttpClient& connection) {
  const std::optional<size_t> key = certain_key();
  if (!key) return false;
  connection.send(request_on(*key, any_size(), static_cast<unsigned>(below(10))));
  return true;
}

bool Load::Client::send_packet(HttpClient& connection) {
  const std::optional<size_t> some[2] = {certain_key(), certain_key()};
  if (!some[0] || !some[1]) return false;
  std::string packet;
  for (size_t count = 1 + below(packet_requests_max); count > 0; --count) {
    packet += request_on(*some[below(2)], below(packet_value_bytes_max),
                         static_cast<unsigned>(below(10)));
  }
  connection.send(packet);
  return true;
}

void Load::Client::read_answers(HttpClient& connection) {
  refused_keys.clear();
  for (const Request& request : requests) {
    pollfd readable{.fd = connection.fd(), .events = POLLIN, .revents = 0};
    if (!connection.has_bytes() &&
        poll(&readable, 1, static_cast<int>(load.options_.answer_timeout_ms)) == 0) {
      throw GaveUp();
    }
    take_answer(request, connection.read_answer());
  }
  requests.clear();
}

void Load::Client::take_answer(const Request& request, const HttpAnswer& answer) {
  KeyHistory& history = keys[request.key];
  LoadCounts& counts = load.counts_;
  if (answer.status == 503) {
    ++counts.refused;
    refusal = answer.body;
    if (request.reads) return;
    history.refused(request.operation.sequence);
    refused_keys.push_back(request.key);
    return;
  }
  // The disk failed in the middle of it: it may have happened.
  if (answer.status == 500 && load.options_.disk_may_fail) {
    ++counts.refused;
    refusal = answer.body;
    refused_keys.push_back(request.key);
    return;
  }
  if (answer.status == 408) throw GaveUp();
  if (request.reads) return take_value(request, answer);
  if (answer.status != (request.operation.removes ? 202 : 201)) {
    return problem(history.key() + ": answered " + std::to_string(answer.status) + " " +
                   answer.body);
  }
  history.acknowledged(request.operation.sequence);
  ++counts.acknowledged;
  counts.acknowledged_bytes += request.operation.size_bytes;
}

// All that was sent before on this connection was answered before, in this order.
void Load::Client::take_value(const Request& request, const HttpAnswer& answer) {
  ++load.counts_.reads;
  const std::string& key = keys[request.key].key();
  if (answer.status != 200 && answer.status != 404) {
    return problem(key + ": answered " + std::to_string(answer.status) + " " + answer.body);
  }
  const Operation& last = request.operation;
  if (std::find(refused_keys.begin(), refused_keys.end(), request.key) != refused_keys.end()) {
    return;
  }
  const bool good = last.removes ? answer.status == 404
                                 : answer.status == 200 && answer.body == value_of(key, last);
  if (!good) {
    problem(key + ": a read after operation " + std::to_string(last.sequence) + " answered " +
            std::to_string(answer.status) + " '" + answer.body.substr(0, 60) + "'");
  }
}

Load::Load(const LoadOptions& options) : options_(options) {
  for (unsigned number = 0; number < options.clients; ++number) {
    clients_.push_back(std::make_unique<Client>(*this, number));
  }
}

Load::~Load() {
  stop();
}

void Load::start(uint16_t port) {
  stopping_ = false;
  for (const auto& each : clients_) {
    threads_.emplace_back([client = each.get(), port] { client->run(port); });
  }
}

void Load::stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::vector<std::string> Load::take_problems() {
  std::vector<std::string> all;
  for (const auto& each : clients_) {
    all.insert(all.end(), each->problems.begin(), each->problems.end());
    each->problems.clear();
  }
  return all;
}

std::string Load::refusal() const {
  for (const auto& each : clients_) {
    if (!each->refusal.empty()) return each->refusal;
  }
  return "";
}

std::vector<std::string> Load::look(uint16_t port, bool settle) {
  std::vector<std::string> problems;
  HttpClient connection(port);
  for (const auto& each : clients_) {
    for (KeyHistory& history : each->keys) {
      HttpAnswer answer = connection.get(test::entity(history.key()));
      if (answer.status != 200 && answer.status != 404) {
        problems.push_back(history.key() + ": answered " + std::to_string(answer.status) + " " +
                           answer.body);
        continue;
      }
      std::optional<std::string> found;
      if (answer.status == 200) found = std::move(answer.body);
      std::string objection = settle ? history.settle(found) : history.objection(found);
      if (!objection.empty()) problems.push_back(std::move(objection));
    }
  }
  const std::vector<std::string> more = look_at_range(port);
  problems.insert(problems.end(), more.begin(), more.end());
  return problems;
}

std::vector<std::string> Load::look_at_range(uint16_t port) {
  std::vector<std::string> problems;
  HttpClient connection(port);
  const HttpAnswer answer = connection.get(test::range("client-", "client."));
  if (answer.status != 200) {
    return {"a range answered " + std::to_string(answer.status) + " " + answer.body};
  }
  std::map<std::string, std::string> found;
  for (const std::string& chunk : answer.chunks) {
    const size_t newline = chunk.find('\n');
    if (!found.emplace(chunk.substr(0, newline), chunk.substr(newline + 1)).second) {
      problems.push_back("twice in a range: " + chunk.substr(0, newline));
    }
  }
  for (const auto& each : clients_) {
    for (const KeyHistory& history : each->keys) {
      std::optional<std::string> value;
      if (auto node = found.extract(history.key()); !node.empty()) value = std::move(node.mapped());
      const std::string objection = history.objection(value);
      if (!objection.empty()) problems.push_back("in a range: " + objection);
    }
  }
  for (const auto& [key, value] : found) problems.push_back("in a range, never written: " + key);
  return problems;
}

}  // namespace gyre::chaos
