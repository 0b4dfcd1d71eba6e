// A program with a store inside: opens a directory, writes, reads, scans both ways, closes.
//
//   embed DIRECTORY
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gyre/run.hpp>
#include <gyre/store.hpp>

namespace {

using gyre::Result;
using gyre::Task;

Task<Result<void>> fill(gyre::Store& store) {
  const std::pair<const char*, const char*> towns[] = {{"town/bergen", "60.39 N"},
                                                       {"town/lagos", "6.46 N"},
                                                       {"town/quito", "0.18 S"},
                                                       {"town/turku", "60.45 N"}};
  for (const auto& [key, value] : towns) {
    // Answered when it is on the disk. Writes of tasks that run at once share a disk write.
    const Result<gyre::Version> written = co_await store.put(key, value);
    if (!written) co_return gyre::fail(written.error());
  }
  const Result<gyre::Version> removed = co_await store.remove("town/lagos");
  if (!removed) co_return gyre::fail(removed.error());
  co_return Result<void>{};
}

Task<Result<void>> print(gyre::Store& store, gyre::ScanRange range) {
  Result<std::unique_ptr<gyre::StoreScan>> scan = co_await store.scan(std::move(range));
  if (!scan) co_return gyre::fail(scan.error());
  for (;;) {
    const Result<bool> more = co_await (*scan)->next();
    if (!more) co_return gyre::fail(more.error());
    if (!*more) co_return Result<void>{};
    const Result<std::string> value = co_await (*scan)->value();
    if (!value) co_return gyre::fail(value.error());
    const std::string key((*scan)->key());
    std::printf("  %s = %s\n", key.c_str(), value->c_str());
  }
}

Task<Result<void>> use(gyre::Store& store) {
  if (Result<void> filled = co_await fill(store); !filled) co_return filled;

  const Result<std::optional<gyre::StoredValue>> found = co_await store.get("town/quito");
  if (!found) co_return gyre::fail(found.error());
  std::printf("town/quito: %s\n", found->has_value() ? (*found)->bytes.c_str() : "not there");
  const Result<std::optional<gyre::StoredValue>> gone = co_await store.get("town/lagos");
  if (!gone) co_return gyre::fail(gone.error());
  std::printf("town/lagos: %s\n", gone->has_value() ? (*gone)->bytes.c_str() : "not there");

  std::printf("all towns:\n");
  Result<void> printed = co_await print(store, gyre::ScanRange::of_prefix("town/"));
  if (!printed) co_return printed;
  std::printf("from r back:\n");
  co_return co_await print(
      store, {.start = "", .end = "town/r", .direction = gyre::ScanDirection::reverse});
}

Task<void> program(std::string directory, bool& good) {
  Result<std::unique_ptr<gyre::Store>> store = co_await gyre::Store::open(std::move(directory));
  if (!store) {
    std::fprintf(stderr, "embed: %s\n", store.error().message().c_str());
    co_return;
  }
  const Result<void> used = co_await use(**store);
  if (!used) std::fprintf(stderr, "embed: %s\n", used.error().message().c_str());
  const Result<void> closed = co_await (*store)->close();
  if (!closed) std::fprintf(stderr, "embed: %s\n", closed.error().message().c_str());
  good = used && closed;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: embed DIRECTORY\n");
    return 2;
  }
  bool good = false;
  const Result<void> ran = gyre::run_event_loop(program(argv[1], good));
  if (!ran) std::fprintf(stderr, "embed: %s\n", ran.error().message().c_str());
  return ran && good ? 0 : 1;
}
