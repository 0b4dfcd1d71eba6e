#include "load/workload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "load/machine.hpp"

namespace gyre::load {

namespace {

// Head and value of a request that fit here are written in one go, else they are appended.
constexpr size_t contiguous_bytes_max = Socket::reserve_bytes_max;

char* put(char* to, std::string_view bytes) {
  std::memcpy(to, bytes.data(), bytes.size());
  return to + bytes.size();
}

}  // namespace

Workload::Workload(const Options& options, unsigned part, std::atomic<uint64_t>& newest)
    : options_(options),
      random_(options.profile.seed + part, "workload"),
      keys_(options.distribution, options.keys, options.zipf_exponent, part, options.threads),
      newest_(newest),
      sequence_(wall_us()),
      weight_sum_(options.weight_sum()),
      key_(options.prefix + std::string(key_digits, '0')) {
  const std::string& prefix = options.prefix;
  const std::string asked = options.replicas.empty() ? "?" : "?replicas=" + options.replicas + "&";
  if (options.redis) {
    before_value_ = after_value_ = "\r\n";
    heads_.assign(options.targets.size(), redis_heads(options));
    return;
  }
  for (const Target& target : options.targets) {
    const std::string host = options.host.empty() ? target.endpoint.authority() : options.host;
    std::string common = " HTTP/1.1\r\nHost: " + host + "\r\n";
    for (const std::string& header : options.headers) common += header + "\r\n";
    std::vector<Head> heads(operation_count);
    const auto head = [&](Operation operation) -> Head& {
      return heads[static_cast<size_t>(operation)];
    };
    const std::string get =
        options.get_path.empty() ? "/v0/entity" + asked + "id=" : options.get_path;
    head(Operation::get) = {"GET " + get + prefix, "", common + "\r\n"};
    head(Operation::put) = {"PUT /v0/entity" + asked + "id=" + prefix, "",
                            common + "Content-Length: "};
    head(Operation::remove) = {"DELETE /v0/entity" + asked + "id=" + prefix, "", common + "\r\n"};
    head(Operation::range) = {"GET /v0/entities" + asked + "start=" + prefix, "&end=" + prefix,
                              common + "\r\n"};
    head(Operation::path) = {"GET " + options.path + common + "\r\n", "", ""};
    heads_.push_back(std::move(heads));
  }
}

std::vector<Workload::Head> Workload::redis_heads(const Options& options) {
  std::vector<Head> heads(operation_count);
  const auto set = [&](Operation operation, int words, std::string_view name, std::string after) {
    heads[static_cast<size_t>(operation)] = {
        fmt::format("*{}\r\n$3\r\n{}\r\n${}\r\n{}", words, name, options.prefix.size() + key_digits,
                    options.prefix),
        "", std::move(after)};
  };
  set(Operation::get, 2, "GET", "\r\n");
  set(Operation::put, 3, "SET", "\r\n$");
  set(Operation::remove, 2, "DEL", "\r\n");
  return heads;
}

std::string_view Workload::key_text(uint64_t key) {
  write_key_digits(key_.data() + options_.prefix.size(), key);
  return key_;
}

void Workload::choose(Request& request) {
  uint64_t pick = weight_sum_ == 1 ? 0 : random_.below(weight_sum_);
  size_t index = 0;
  while (pick >= options_.weights[index]) pick -= options_.weights[index++];
  request.operation = static_cast<Operation>(index);
  request.filling = false;
  request.barrier = 0;
  if (request.operation == Operation::path) return;
  const bool latest = options_.distribution == Distribution::latest;
  if (latest && request.operation == Operation::put) {
    request.key = newest_.fetch_add(1, std::memory_order_relaxed) + 1;
  } else {
    // The newest keys may still be on their way to the server.
    uint64_t newest = latest ? newest_.load(std::memory_order_relaxed) : 0;
    newest -= std::min<uint64_t>(newest, options_.uses(Operation::put) ? options_.connections : 0);
    request.key = keys_.choose(random_, newest);
  }
  if (request.operation == Operation::put) choose_value(request);
}

void Workload::choose_fill(Request& request, uint64_t key) {
  request.operation = Operation::put;
  request.filling = true;
  request.key = key;
  request.barrier = 0;
  choose_value(request);
}

void Workload::choose_value(Request& request) {
  request.value_bytes = options_.values.draw(random_);
  request.sent.sequence = ++sequence_;
}

void Workload::write(const Request& request, size_t target, Socket& socket) {
  const Head& head = heads_[target][static_cast<size_t>(request.operation)];
  const size_t size = head.before.size() + head.middle.size() + head.after.size() + 64;
  const bool has_value = request.operation == Operation::put;
  const bool in_one = has_value && size + request.value_bytes <= contiguous_bytes_max;
  if (size > contiguous_bytes_max) {  // long headers: rare, and nobody counts on their speed
    socket.append(head.before);
    char digits[key_digits];
    write_key_digits(digits, request.key);
    if (request.operation != Operation::path) socket.append({digits, key_digits});
    if (request.operation == Operation::range) {
      socket.append(head.middle);
      write_key_digits(digits, std::min(request.key + options_.range_records, keys_max - 1));
      socket.append({digits, key_digits});
    }
    socket.append(head.after);
    if (has_value) socket.append(fmt::format("{}{}", request.value_bytes, before_value_));
  } else {
    char* const begin = socket.reserve(in_one ? size + request.value_bytes : size);
    char* at = put(begin, head.before);
    if (request.operation != Operation::path) {
      write_key_digits(at, request.key);
      at += key_digits;
    }
    if (request.operation == Operation::range) {
      at = put(at, head.middle);
      write_key_digits(at, std::min(request.key + options_.range_records, keys_max - 1));
      at += key_digits;
    }
    at = put(at, head.after);
    if (has_value) {
      at = fmt::format_to(at, "{}{}", request.value_bytes, before_value_);
      if (in_one) {
        write_value(at, request.value_bytes, key_text(request.key), request.sent.sequence);
        at = put(at + request.value_bytes, after_value_);
      }
    }
    socket.commit(static_cast<size_t>(at - begin));
  }
  if (has_value && !in_one) {
    value_.resize(request.value_bytes);
    write_value(value_.data(), request.value_bytes, key_text(request.key), request.sent.sequence);
    socket.append(value_);
    socket.append(after_value_);
  }
}

}  // namespace gyre::load
