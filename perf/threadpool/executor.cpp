#include "executor.hpp"

#include <fmt/format.h>
#include <rocksdb/perf_context.h>
#include <time.h>

#include <array>
#include <charconv>
#include <vector>

#include "base/limits.hpp"
#include "coordinator.hpp"
#include "http/etag.hpp"
#include "http/target.hpp"

namespace gyre::threadpool {

namespace {

using http::Method;

constexpr std::string_view entity_methods = "GET, HEAD, PUT, DELETE";
constexpr std::string_view read_methods = "GET, HEAD";
constexpr std::string_view known_paths =
    "unknown path; known are /v0/entity, /v0/entities, /v0/status, /livez, /readyz, /metrics";
constexpr std::string_view not_enough = "Not Enough Replicas";
constexpr uint32_t retry_after_s = 1;
constexpr size_t answer_bytes_kept = 512u << 10;
// A value that goes out with its head in one piece; longer ones are sent from where they lie.
constexpr size_t value_bytes_copied = 4096;

// "Date: …\r\n", made once a second by each thread.
std::string_view date_line() {
  thread_local time_t made_for = 0;
  thread_local std::array<char, 48> line;
  thread_local size_t size = 0;
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != made_for) {
    made_for = now.tv_sec;
    tm parts{};
    gmtime_r(&now.tv_sec, &parts);
    size = strftime(line.data(), line.size(), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
  }
  return {line.data(), size};
}

void append_head(std::string& out, http::ResponseHead head) {
  head.date_line = date_line();
  std::array<char, http::response_head_bytes_max> buffer;
  char* end = http::write_response_head(buffer.data(), head);
  out.append(buffer.data(), static_cast<size_t>(end - buffer.data()));
}

http::ResponseHead head_for(const AnswerStyle& style, uint16_t status) {
  return {.status = status, .close = style.close, .say_keep_alive = style.say_keep_alive};
}

void answer_text(const AnswerStyle& style, std::string_view body, http::ContentType type,
                 Answer& answer) {
  http::ResponseHead head = head_for(style, 200);
  head.content_type = type;
  head.content_length = body.size();
  append_head(answer.bytes, head);
  if (!style.head_only) answer.bytes += body;
}

Request::Route route_of(std::string_view path) {
  using Route = Request::Route;
  if (path == "/v0/entity") return Route::entity;
  if (path == "/v0/entities") return Route::entities;
  if (path == internal_path) return Route::internal;
  if (path == "/v0/status") return Route::status;
  if (path == "/livez") return Route::livez;
  if (path == "/readyz") return Route::readyz;
  if (path == "/metrics") return Route::metrics;
  return Route::unknown;
}

bool is_read(Method method) {
  return method == Method::get || method == Method::head;
}

std::span<char> parameters_scratch() {
  thread_local std::vector<char> scratch(http::parameters_scratch_bytes);
  return scratch;
}

// Parameters that were checked, or what is wrong with the request.
struct Checked {
  http::Parameters parameters;
  http::ParseError error;
};

// How many nodes there are, and how many of them hold a key unless the request says otherwise.
struct Nodes {
  uint32_t count = 1;
  uint32_t replication = 1;
};

Checked check_entity(const Request& request, Nodes nodes) {
  if (!is_read(request.method) && request.method != Method::put && request.method != Method::del) {
    return {{}, {405, "only GET, HEAD, PUT and DELETE are allowed here"}};
  }
  const http::ParametersResult parsed = http::parse_parameters(request.query, parameters_scratch());
  if (!parsed.error.empty()) return {{}, {400, parsed.error}};
  const http::Parameters& parameters = parsed.parameters;
  if (!parameters.id || parameters.id->empty()) {
    return {{}, {400, "the parameter id is missing or empty; use /v0/entity?id=KEY"}};
  }
  if (parameters.id->size() > limits::http_key_bytes_max) {
    return {{}, {400, "the key is longer than 65536 bytes"}};
  }
  const http::Replicas replicas =
      http::resolve_replicas(parameters, nodes.count, nodes.replication);
  if (!replicas.error.empty()) return {{}, {400, replicas.error}};
  if (request.has_if_match || (request.has_if_none_match && !is_read(request.method))) {
    return {{},
            {501, "conditional writes do not exist here: leave If-Match and If-None-Match out"}};
  }
  return {parameters, {}};
}

Checked check_entities(const Request& request, Nodes nodes) {
  if (request.method != Method::get) return {{}, {405, "only GET is allowed here"}};
  const http::ParametersResult parsed = http::parse_parameters(request.query, parameters_scratch());
  if (!parsed.error.empty()) return {{}, {400, parsed.error}};
  const http::Parameters& parameters = parsed.parameters;
  if (!parameters.start || parameters.start->empty()) {
    return {{},
            {400, "the parameter start is missing or empty; use /v0/entities?start=KEY[&end=KEY]"}};
  }
  if (parameters.end && parameters.end->empty()) {
    return {{}, {400, "the parameter end is empty; leave it out for an open end"}};
  }
  const http::Replicas replicas =
      http::resolve_replicas(parameters, nodes.count, nodes.replication);
  if (!replicas.error.empty()) return {{}, {400, replicas.error}};
  if (nodes.count > 1 && parameters.scope == http::Parameters::Scope::cluster) {
    return {{}, {501, "ranges over several nodes do not exist here: ask one with scope=node"}};
  }
  return {parameters, {}};
}

Checked check_route(const Request& request, Nodes nodes) {
  switch (request.route) {
    case Request::Route::entity:
      return check_entity(request, nodes);
    case Request::Route::entities:
      return check_entities(request, nodes);
    case Request::Route::internal:
      if (nodes.count == 1) return {{}, {400, known_paths}};
      if (request.method == Method::get || request.method == Method::put) return {};
      return {{}, {405, "only GET and PUT are allowed here"}};
    case Request::Route::unknown:
      return {{}, {400, known_paths}};
    case Request::Route::malformed:
      return {{}, {400, "the path is not percent-encoded correctly"}};
    default:
      if (is_read(request.method)) return {};
      return {{}, {405, "only GET and HEAD are allowed here"}};
  }
}

std::string_view methods_of(Request::Route route) {
  // What a method that the parser itself refuses could have been is every one.
  if (route == Request::Route::internal) return "GET, PUT";
  if (route == Request::Route::entity || route == Request::Route::unknown) return entity_methods;
  return route == Request::Route::entities ? "GET" : read_methods;
}

// What a peer asks: key, and of a PUT the record's version and when it expires.
struct PeerQuestion {
  std::string_view key;
  RecordHeader header;
};

bool read_peer_question(std::string_view query, PeerQuestion& question) {
  http::QueryWalk walk(query);
  for (std::string_view name, value; walk.next(name, value);) {
    if (name == "key") {
      const http::Decoded key =
          http::percent_decode(value, parameters_scratch(), http::Plus::is_plus);
      if (key.status != http::Decoded::Status::ok) return false;
      question.key = key.text;
      continue;
    }
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size()) return false;
    if (name == "hlc") question.header.version.hlc = number;
    if (name == "origin") question.header.version.origin = number;
    if (name == "expires") question.header.expires_at_ms = number;
  }
  return !question.key.empty();
}

http::Replicas replicas_of(const http::Parameters& parameters, const Coordinator& coordinator) {
  return http::resolve_replicas(parameters, coordinator.nodes(), coordinator.replication());
}

Nodes nodes_of(const Coordinator* coordinator) {
  if (coordinator == nullptr) return {};
  return {coordinator->nodes(), coordinator->replication()};
}

void refuse_by_store(const AnswerStyle& style, const rocksdb::Status& status, Answer& answer) {
  const bool later = status.IsBusy() || status.IsIncomplete() || status.IsTimedOut();
  Executor::refuse(style, later ? 503 : 500, "the store failed: " + status.ToString(), answer, {},
                   later ? retry_after_s : 0);
}

}  // namespace

// --- requests and answers -----------------------------------------------------------------------

void Request::assign(const http::RequestHead& head) {
  method = head.method;
  has_if_match = head.has_if_match;
  has_if_none_match = head.has_if_none_match;
  style = {.head_only = head.method == Method::head,
           .close = !head.keep_alive,
           .say_keep_alive = head.http_minor == 0 && head.keep_alive,
           .http_1_0 = head.http_minor == 0};
  query.assign(head.query);
  if_none_match.assign(head.if_none_match);
  body.clear();
  refusal = {};
  retry_after_s = 0;
  if (head.path.find('%') == std::string_view::npos) {
    route = route_of(head.path);
    return;
  }
  std::array<char, 64> decoded;
  const http::Decoded path = http::percent_decode(head.path, decoded, http::Plus::is_plus);
  route = path.status == http::Decoded::Status::ok          ? route_of(path.text)
          : path.status == http::Decoded::Status::malformed ? Route::malformed
                                                            : Route::unknown;
}

void Answer::clear() {
  if (bytes.capacity() > answer_bytes_kept) std::string().swap(bytes);
  bytes.clear();
  tail = {};
  found.memory.Reset();
  if (kept.capacity() > answer_bytes_kept) std::string().swap(kept);
  stream.reset();
  close = false;
  cut = false;
}

bool RangeStream::fill(std::string& out, size_t bytes) {
  const size_t enough = out.size() + bytes;
  while (out.size() < enough) {
    if (!cursor->next()) {
      ended = true;
      if (!cursor->status().ok()) return false;
      if (chunked) out += http::last_chunk;
      cursor.reset();
      return true;
    }
    const std::string_view key = cursor->key();
    const std::string_view value = cursor->value();
    if (chunked) {
      std::array<char, http::chunk_header_bytes_max> header;
      char* end = http::write_chunk_header(header.data(), key.size() + 1 + value.size());
      out.append(header.data(), static_cast<size_t>(end - header.data()));
    }
    out += key;
    out += '\n';
    out += value;
    if (chunked) out += http::chunk_end;
  }
  return true;
}

// --- execution ----------------------------------------------------------------------------------

http::ParseError Executor::check(const Request& request) const {
  return check_route(request, nodes_of(coordinator_)).error;
}

void Executor::refuse(const AnswerStyle& style, uint16_t status, std::string_view reason,
                      Answer& answer, std::string_view allow, uint32_t retry_after) {
  std::array<char, http::error_answer_bytes_max> buffer;
  char* end = http::write_error_answer(buffer.data(), {.status = status,
                                                       .reason = reason,
                                                       .close = style.close,
                                                       .say_keep_alive = style.say_keep_alive,
                                                       .without_body = style.head_only,
                                                       .retry_after_s = retry_after,
                                                       .allow = allow,
                                                       .date_line = date_line()});
  answer.bytes.append(buffer.data(), static_cast<size_t>(end - buffer.data()));
  answer.close = style.close;
}

void Executor::execute(Request& request, Answer& answer) {
  counters_.requests.fetch_add(1, std::memory_order_relaxed);
  answer.close = request.style.close;
  if (request.refusal) {
    const std::string_view allow =
        request.refusal.status == 405 ? methods_of(request.route) : std::string_view();
    return refuse(request.style, request.refusal.status, request.refusal.reason, answer, allow,
                  request.retry_after_s);
  }
  const Checked checked = check_route(request, nodes_of(coordinator_));
  if (checked.error) {
    const std::string_view allow =
        checked.error.status == 405 ? methods_of(request.route) : std::string_view();
    return refuse(request.style, checked.error.status, checked.error.reason, answer, allow);
  }
  const http::Parameters& parameters = checked.parameters;
  switch (request.route) {
    case Request::Route::entity:
      if (is_read(request.method)) return read(request, parameters, answer);
      return write(request, parameters, answer);
    case Request::Route::internal:
      return serve_peer(request, answer);
    case Request::Route::entities: {
      answer.stream = std::make_unique<RangeStream>();
      answer.stream->cursor =
          store_.range(*parameters.start, parameters.end.value_or(std::string_view()));
      answer.stream->chunked = !request.style.http_1_0;
      // An empty range that ends before it starts is one to RocksDB too.
      http::ResponseHead head = head_for(request.style, 200);
      head.content_type = http::ContentType::bytes;
      head.body = http::ResponseHead::Body::chunked;
      if (request.style.http_1_0) {
        head.body = http::ResponseHead::Body::until_close;
        head.close = answer.close = true;
      }
      return append_head(answer.bytes, head);
    }
    default:
      return observe(request, answer);
  }
}

void Executor::go_on(Answer& answer) {
  constexpr size_t slice_bytes = 128u << 10;
  if (!answer.stream->fill(answer.bytes, slice_bytes)) answer.cut = true;
  count_blocks_read();
}

// RocksDB counts for each thread.
void Executor::count_blocks_read() {
  uint64_t& read = rocksdb::get_perf_context()->block_read_count;
  if (read == 0) return;
  counters_.blocks_read.fetch_add(read, std::memory_order_relaxed);
  read = 0;
}

void Executor::read(const Request& request, const http::Parameters& parameters, Answer& answer) {
  const AnswerStyle& style = request.style;
  if (transit_.is_short()) {
    return refuse(style, 503, "too many answers wait for their readers; try again", answer, {},
                  retry_after_s);
  }
  Found& found = answer.found;
  if (coordinator_ != nullptr) {
    const bool enough = coordinator_->read(*parameters.id, replicas_of(parameters, *coordinator_),
                                           found, answer.kept);
    count_blocks_read();
    if (!enough) return refuse(style, 504, not_enough, answer);
  } else {
    const rocksdb::Status status = store_.get(*parameters.id, found);
    count_blocks_read();
    if (!status.ok()) return refuse_by_store(style, status, answer);
  }
  if (!found.found) return refuse(style, 404, "no value is stored under this key", answer);
  http::ResponseHead head = head_for(style, 200);
  head.etag = found.version;
  if (request.has_if_none_match &&
      http::if_none_match_matches(request.if_none_match, found.version)) {
    head.status = 304;
    head.body = http::ResponseHead::Body::none;
    return append_head(answer.bytes, head);
  }
  head.content_type = http::ContentType::bytes;
  head.content_length = found.bytes.size();
  append_head(answer.bytes, head);
  if (style.head_only) return;
  if (found.bytes.size() <= value_bytes_copied) {
    answer.bytes += found.bytes;
  } else {
    answer.tail = found.bytes;
  }
}

void Executor::write(Request& request, const http::Parameters& parameters, Answer& answer) {
  const bool is_put = request.method == Method::put;
  const uint64_t ttl_ms = parameters.ttl_ms.value_or(0);
  const uint64_t expires_at_ms = ttl_ms != 0 ? wall_ms() + ttl_ms : 0;
  Version version;
  if (coordinator_ != nullptr) {
    Coordinator::Write write{.expires_at_ms = is_put ? expires_at_ms : tombstone_expiry};
    if (is_put) {
      write.body = std::move(request.body);
      write.charged_bytes = std::exchange(request.charged_bytes, 0);
    }
    if (!coordinator_->write(*parameters.id, std::move(write),
                             replicas_of(parameters, *coordinator_), version)) {
      return refuse(request.style, 504, not_enough, answer);
    }
  } else {
    const rocksdb::Status status =
        is_put ? store_.put(*parameters.id, request.body, expires_at_ms, version)
               : store_.remove(*parameters.id, version);
    if (!status.ok()) return refuse_by_store(request.style, status, answer);
  }
  http::ResponseHead head = head_for(request.style, is_put ? 201 : 202);
  head.etag = version;
  append_head(answer.bytes, head);
}

// The stored record as it is, header included; 404 if there is none. A PUT is 201 also if something
// newer is here.
void Executor::serve_peer(const Request& request, Answer& answer) {
  const AnswerStyle& style = request.style;
  PeerQuestion question;
  if (!read_peer_question(request.query, question)) {
    return refuse(style, 400, "not what a node asks its peers", answer);
  }
  if (request.method == Method::put) {
    const rocksdb::Status status = store_.store(
        question.key, request.body, question.header.expires_at_ms, question.header.version);
    if (!status.ok()) return refuse_by_store(style, status, answer);
    return append_head(answer.bytes, head_for(style, 201));
  }
  Found& found = answer.found;
  const rocksdb::Status status = store_.get(question.key, found);
  count_blocks_read();
  if (!status.ok()) return refuse_by_store(style, status, answer);
  http::ResponseHead head = head_for(style, found.stored ? 200 : 404);
  if (!found.stored) return append_head(answer.bytes, head);
  head.content_length = record_header_bytes + found.stored_bytes.size();
  append_head(answer.bytes, head);
  append_record_header(answer.bytes, {found.version, found.expires_at_ms});
  if (found.stored_bytes.size() <= value_bytes_copied) {
    answer.bytes += found.stored_bytes;
  } else {
    answer.tail = found.stored_bytes;
  }
}

void Executor::observe(const Request& request, Answer& answer) {
  using http::ContentType;
  const AnswerStyle& style = request.style;
  if (request.route == Request::Route::livez) {
    return answer_text(style, "ok\n", ContentType::text, answer);
  }
  if (request.route == Request::Route::metrics) {
    return answer_text(style, metrics(), ContentType::prometheus, answer);
  }
  if (draining_) {
    return refuse(style, 503, "shutting down", answer, {}, retry_after_s);
  }
  if (request.route == Request::Route::status) {
    return answer_text(style, "", ContentType::none, answer);
  }
  const bool verbose = request.query == "verbose" || request.query.starts_with("verbose=");
  answer_text(style, verbose ? "[+] serving ok\n" : "ok\n", ContentType::text, answer);
}

std::string Executor::metrics() const {
  std::string text;
  const auto add = [&text](std::string_view name, std::string_view type, uint64_t value,
                           std::string_view help) {
    text += fmt::format("# HELP gyre_{0} {1}\n# TYPE gyre_{0} {2}\ngyre_{0} {3}\n", name, help,
                        type, value);
  };
  add("requests_total", "counter", counters_.requests, "Requests that were executed.");
  add("queue_overflows_total", "counter", counters_.overflows,
      "Requests that found the task queue full.");
  add("cache_misses_total", "counter", counters_.blocks_read,
      "Table blocks that were not in the cache.");
  add("connections", "gauge", counters_.connections, "Connections that are open.");
  add("output_bytes", "gauge", counters_.output_bytes, "Bytes of answers that wait for readers.");
  add("transit_memory_used_bytes", "gauge", transit_.used(),
      "Bytes of request bodies and of answers that wait for readers.");
  return text;
}

}  // namespace gyre::threadpool
