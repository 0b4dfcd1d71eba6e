// Commands on all keys of a database, by walking over them: their cost is linear, their memory bounded.
#include <algorithm>

#include <gyre/call.hpp>
#include <gyre/when.hpp>

#include "node/node.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/error_texts.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/key_walk.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/scan_cursor.hpp"
#include "node/resp/scan_position.hpp"
#include "node/resp/task_exchange.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

constexpr std::string_view pattern_too_long =
    "ERR the pattern has too many stars for these keys: matching it takes too long";
constexpr std::string_view too_many_keys =
    "OOM the matching keys take too much memory for one answer; use SCAN";
constexpr uint64_t page_looked_at = 4096;  // by one visit of KEYS to a shard
constexpr uint64_t page_key_bytes = 256u << 10;
// COUNT is a hint: what one answer of SCAN is held to.
constexpr uint64_t scan_count_max = 65'536;
constexpr uint64_t scan_key_bytes_max = 1u << 20;

resp::Exchange* start_walk(Invocation& in, TaskExchange::Work work) {
  auto* exchange = new TaskExchange(in, work);
  exchange->touches_everything();
  return exchange;
}

// --- SCAN ----------------------------------------------------------------------------------------

struct ScanOptions {
  uint64_t cursor = 0;
  int64_t count = 10;
  std::string_view pattern = "*";
  bool strings = true;  // TYPE asks for them, or isn't given
};

// "" or the error.
template <class Words>
std::string_view parse_scan(const Words& words, ScanOptions& out) {
  const std::optional<uint64_t> cursor = parse_cursor(words[1]);
  if (!cursor) return error_text::invalid_cursor;
  out.cursor = *cursor;
  for (size_t i = 2; i < words.size(); i += 2) {
    if (i + 1 == words.size()) return error_text::syntax;
    const std::string_view value = words[i + 1];
    if (resp::is_word(words[i], "count")) {
      const auto count = resp::parse_integer(value);
      if (!count) return error_text::not_integer;
      if (*count < 1) return error_text::syntax;
      out.count = *count;
    } else if (resp::is_word(words[i], "match")) {
      out.pattern = value;
    } else if (resp::is_word(words[i], "type")) {
      out.strings = resp::is_word(value, "string");
    } else {
      return error_text::syntax;
    }
  }
  return {};
}

// Where a scan is: a shard, and a key that it goes on behind.
struct ScanPlace {
  uint32_t shard = 0;
  std::string after;
};

struct ScanAnswer {
  KeyPage page;
  uint64_t cursor = 0;  // of where it goes on in this shard, unless it is at its end
};

// On the core of the shard, whose server remembers positions.
Task<Result<ScanAnswer>> scan_here(RespServer* server, ScanCursor from, KeyPageQuery query) {
  std::string after;
  if (const std::string* known = server->scan_positions().find(from.number)) after = *known;
  query.after = after;
  Result<KeyPage> page = co_await find_keys(server->core(), from.shard, query);
  if (!page) co_return fail(page.error());
  ScanAnswer answer{.page = std::move(*page)};
  if (!answer.page.at_end) {
    answer.cursor =
        ScanCursor{from.shard, server->scan_positions().remember(answer.page.last)}.encode();
  }
  co_return answer;
}

void write_scan(TaskExchange& self, const ScanOptions& options, uint64_t cursor,
                std::vector<std::string> keys) {
  resp::ReplyWriter out = self.out();
  out.array(2);
  out.bulk(std::to_string(cursor));
  if (!options.strings) keys.clear();
  out.array(keys.size());
  for (const std::string& key : keys) out.bulk(key);
}

Task<void> scan_cluster(TaskExchange& self, ScanOptions options) {
  Core& core = self.server().core();
  const std::string after =
      co_await find_scan_position(core, ScanCursor::decode(options.cursor).value_or(ScanCursor{}));
  ClusterWalk walk(core, self.connection().scope(), self.database(),
                   glob_literal_prefix(options.pattern), after);
  Result<KeyPage> page = co_await find_keys(
      walk,
      {.database = self.database(),
       .after = after,
       .pattern = options.pattern,
       .looked_at_max = std::min<uint64_t>(static_cast<uint64_t>(options.count), scan_count_max),
       .key_bytes_max = scan_key_bytes_max});
  if (!page) co_return self.out().error(page.error().detail);
  if (page->match == GlobMatch::too_long) co_return self.out().error(pattern_too_long);
  uint64_t cursor = 0;
  if (!page->at_end) {
    cursor = (co_await remember_scan_position(core, std::move(page->last))).encode();
  }
  write_scan(self, options, cursor, std::move(page->keys));
}

Task<void> run_scan(TaskExchange& self) {
  ScanOptions options;
  static_cast<void>(parse_scan(self, options));  // it could be parsed before
  if (self.server().core().has_coordinator()) co_return co_await scan_cluster(self, options);
  Node& node = self.server().node();
  // What we never gave is the beginning.
  ScanCursor at = ScanCursor::decode(options.cursor).value_or(ScanCursor{});
  if (at.shard >= node.shard_count()) at = {};
  std::vector<std::string> keys;
  uint64_t cursor = 0;
  uint64_t left = std::min<uint64_t>(static_cast<uint64_t>(options.count), scan_count_max);
  for (;;) {
    const KeyPageQuery query{.database = self.database(),
                             .pattern = options.pattern,
                             .looked_at_max = left,
                             .key_bytes_max = scan_key_bytes_max};
    const unsigned owner = node.owner_of(at.shard);
    RespServer* const server = node.core(owner).resp();
    Result<ScanAnswer> found =
        co_await spawn_on(owner, [&]() { return scan_here(server, at, query); });
    if (!found) {
      self.out().error("ERR " + found.error().message());
      co_return;
    }
    if (found->page.match == GlobMatch::too_long) {
      self.out().error(pattern_too_long);
      co_return;
    }
    left -= std::min(left, found->page.looked_at);
    std::move(found->page.keys.begin(), found->page.keys.end(), std::back_inserter(keys));
    cursor = found->cursor;
    if (!found->page.at_end) break;
    if (++at.shard == node.shard_count()) break;
    at.number = 0;
    if (left == 0) {
      cursor = at.encode();
      break;
    }
  }
  write_scan(self, options, cursor, std::move(keys));
}

// --- KEYS ----------------------------------------------------------------------------------------

// Bulk strings of the matching keys of one shard; `count` of them. Memory for them is reserved at home.
struct KeysOfShard {
  std::string bulks;
  uint64_t count = 0;
};

// True: there are more.
Result<bool> add_page(const Result<KeyPage>& page, KeysOfShard& out) {
  if (!page) return fail(page.error());
  if (page->match == GlobMatch::too_long) return fail(Errc::invalid, std::string(pattern_too_long));
  resp::ReplyWriter bulks(out.bulks, resp::Protocol::resp2);
  for (const std::string& key : page->keys) bulks.bulk(key);
  out.count += page->keys.size();
  return !page->at_end;
}

Task<Result<bool>> add_keys(TaskExchange& self, uint32_t shard, std::string& after,
                            KeysOfShard& out) {
  Node& node = self.server().node();
  Core* const owner = &node.core(node.owner_of(shard));
  const KeyPageQuery query{.database = self.database(),
                           .after = after,
                           .pattern = self[1],
                           .looked_at_max = page_looked_at,
                           .key_bytes_max = page_key_bytes};
  Result<KeyPage> page =
      co_await spawn_on(owner->index(), [&]() { return find_keys(*owner, shard, query); });
  if (page) after = page->last;
  co_return add_page(page, out);
}

Task<Result<bool>> add_keys_of_cluster(TaskExchange& self, ClusterWalk& walk, KeysOfShard& out) {
  co_return add_page(co_await find_keys(walk, {.database = self.database(),
                                               .after = {},
                                               .pattern = self[1],
                                               .looked_at_max = page_looked_at,
                                               .key_bytes_max = page_key_bytes}),
                     out);
}

// From the walk if there is one, else from this node's shards.
Task<void> gather_keys(TaskExchange& self, ClusterWalk* walk) {
  Semaphore& memory = self.server().core().transit_memory();
  const uint32_t sources = walk != nullptr ? 1 : self.server().node().shard_count();
  KeysOfShard keys;
  uint64_t reserved = 0;
  std::string error;
  for (uint32_t source = 0; source < sources && error.empty(); ++source) {
    std::string after;
    for (bool more = true; more && error.empty();) {
      const Result<bool> added = co_await (walk != nullptr ? add_keys_of_cluster(self, *walk, keys)
                                                           : add_keys(self, source, after, keys));
      more = added && *added;
      if (!added) {
        const bool ours = walk != nullptr || added.error().code == Errc::invalid;
        error = ours ? added.error().detail : "ERR " + added.error().message();
      }
      // Twice: it is copied into the answer.
      const uint64_t wanted = 2 * keys.bulks.size();
      if (wanted <= reserved) continue;
      const uint64_t step = std::max<uint64_t>(wanted - reserved, page_key_bytes);
      if (memory.try_acquire(step)) {
        reserved += step;
      } else {
        error = too_many_keys;
      }
    }
  }
  if (error.empty()) {
    self.out().array(keys.count);
    self.out().raw(keys.bulks);
  } else {
    self.out().error(error);
  }
  memory.release(reserved);
}

Task<void> run_keys(TaskExchange& self) {
  Core& core = self.server().core();
  if (!core.has_coordinator()) co_return co_await gather_keys(self, nullptr);
  ClusterWalk walk(core, self.connection().scope(), self.database(), glob_literal_prefix(self[1]));
  co_await gather_keys(self, &walk);
}

// --- DBSIZE, RANDOMKEY, FLUSHDB, FLUSHALL ---------------------------------------------------------

Task<Result<KeyCount>> count_in(Node& node, uint32_t shard, unsigned database) {
  Core* const owner = &node.core(node.owner_of(shard));
  co_return co_await spawn_on(owner->index(),
                              [&]() { return count_keys(*owner, shard, database); });
}

Task<Result<void>> remove_in(Node& node, uint32_t shard, unsigned database) {
  Core* const owner = &node.core(node.owner_of(shard));
  co_return co_await spawn_on(owner->index(),
                              [&]() { return remove_keys(*owner, shard, database); });
}

// Of all shards. The sample is one of all keys, each as likely.
Task<Result<KeyCount>> count_all(TaskExchange& self) {
  Core& core = self.server().core();
  if (core.has_coordinator()) {
    co_return co_await count_keys_of_cluster(core, self.connection().scope(), self.database());
  }
  Node& node = self.server().node();
  std::vector<Task<Result<KeyCount>>> counting;
  for (uint32_t shard = 0; shard < node.shard_count(); ++shard) {
    counting.push_back(count_in(node, shard, self.database()));
  }
  std::vector<Result<KeyCount>> counts = co_await when_all<Result<KeyCount>>(std::move(counting));
  KeyCount all;
  for (Result<KeyCount>& one : counts) {
    if (!one) co_return fail(one.error());
    all.count += one->count;
    if (one->count != 0 && Reactor::current().random() % all.count < one->count) {
      all.sample = std::move(one->sample);
    }
  }
  co_return all;
}

std::string walk_failure(TaskExchange& self, const Error& error) {
  return self.server().core().has_coordinator() ? error.detail : "ERR " + error.message();
}

Task<void> run_dbsize(TaskExchange& self) {
  const Result<KeyCount> keys = co_await count_all(self);
  if (keys) {
    self.out().integer(static_cast<int64_t>(keys->count));
  } else {
    self.out().error(walk_failure(self, keys.error()));
  }
}

Task<void> run_randomkey(TaskExchange& self) {
  const Result<KeyCount> keys = co_await count_all(self);
  if (!keys) {
    self.out().error(walk_failure(self, keys.error()));
  } else if (keys->count == 0) {
    self.out().null();
  } else {
    self.out().bulk(key_of_stored(keys->sample));
  }
}

// Database after database, if it is all of them.
Task<void> remove_all_of_cluster(TaskExchange& self, unsigned database) {
  const bool all = database == all_databases;
  const unsigned end = all ? database_count : database + 1;
  for (unsigned each = all ? 0 : database; each < end; ++each) {
    const Result<void> removed =
        co_await remove_keys_of_cluster(self.server().core(), self.connection().scope(), each);
    if (!removed) co_return self.out().error(removed.error().detail);
  }
  self.out().ok();
}

Task<void> remove_all(TaskExchange& self, unsigned database) {
  if (self.server().core().has_coordinator()) {
    co_return co_await remove_all_of_cluster(self, database);
  }
  Node& node = self.server().node();
  std::vector<Task<Result<void>>> removing;
  for (uint32_t shard = 0; shard < node.shard_count(); ++shard) {
    removing.push_back(remove_in(node, shard, database));
  }
  const std::vector<Result<void>> removed = co_await when_all<Result<void>>(std::move(removing));
  for (const Result<void>& one : removed) {
    if (one) continue;
    self.out().error("MISCONF " + one.error().message());
    co_return;
  }
  self.out().ok();
}

Task<void> run_flushdb(TaskExchange& self) {
  return remove_all(self, self.database());
}

Task<void> run_flushall(TaskExchange& self) {
  return remove_all(self, all_databases);
}

resp::Exchange* start_flush(Invocation& in, TaskExchange::Work work) {
  const bool known =
      in.size() == 1 ||
      (in.size() == 2 && (resp::is_word(in[1], "async") || resp::is_word(in[1], "sync")));
  return known ? start_walk(in, work) : in.syntax_error();
}

}  // namespace

resp::Exchange* scan(Invocation& in) {
  ScanOptions options;
  if (const std::string_view error = parse_scan(in, options); !error.empty()) {
    return in.error(error);
  }
  return start_walk(in, run_scan);
}

resp::Exchange* keys(Invocation& in) {
  return start_walk(in, run_keys);
}

resp::Exchange* dbsize(Invocation& in) {
  return start_walk(in, run_dbsize);
}

resp::Exchange* randomkey(Invocation& in) {
  return start_walk(in, run_randomkey);
}

resp::Exchange* flushdb(Invocation& in) {
  return start_flush(in, run_flushdb);
}

resp::Exchange* flushall(Invocation& in) {
  return start_flush(in, run_flushall);
}

}  // namespace gyre::resp_commands
