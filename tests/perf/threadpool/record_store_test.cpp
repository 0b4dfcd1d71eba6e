#include "record_store.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

using namespace gyre;
using namespace gyre::threadpool;

namespace {

struct Store {
  Store() {
    std::string path = std::filesystem::temp_directory_path() / "gyre-threadpool-XXXXXX";
    REQUIRE(mkdtemp(path.data()) != nullptr);
    options = parse_command_line({"--memory", "256M", "--cores", "1", "--data", path + "/db",
                                  "--durability", "interval"})
                  .options;
    root = path;
    open();
  }
  ~Store() {
    store.reset();
    std::filesystem::remove_all(root);
  }
  void open() {
    store.reset();
    Result<std::unique_ptr<RecordStore>> opened = RecordStore::open(options);
    REQUIRE(opened.has_value());
    store = std::move(*opened);
  }
  std::string get(std::string_view key) {
    Found found;
    CHECK(store->get(key, found).ok());
    return found.found ? std::string(found.bytes) : "absent";
  }
  Version put(std::string_view key, std::string_view value, uint64_t expires_at_ms = 0) {
    Version version;
    CHECK(store->put(key, value, expires_at_ms, version).ok());
    return version;
  }
  std::string range(std::string_view start, std::string_view end) {
    std::string text;
    const auto cursor = store->range(start, end);
    while (cursor->next()) {
      text.append(cursor->key()).append("=").append(cursor->value()).append(" ");
    }
    CHECK(cursor->status().ok());
    return text;
  }

  // Bytes that this process has fetched from the disk.
  static uint64_t disk_read_bytes() {
    std::ifstream file("/proc/self/io");
    uint64_t bytes = 0;
    for (std::string name; file >> name >> bytes;) {
      if (name == "read_bytes:") return bytes;
    }
    FAIL("/proc/self/io tells no read_bytes");
    return 0;
  }
  bool can_be_direct() const {
    const int fd = ::open((root + "/probe").c_str(), O_RDWR | O_CREAT | O_DIRECT, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }

  std::string root;
  Options options;
  std::unique_ptr<RecordStore> store;
};

}  // namespace

TEST_CASE_FIXTURE(Store, "values, versions and removals, over a restart too") {
  const Version first = put("k", "one");
  const Version second = put("k", "two");
  CHECK(first < second);
  put("empty", "");
  put("gone", "x");
  Version removal;
  CHECK(store->remove("gone", removal).ok());
  open();
  CHECK(get("k") == "two");
  CHECK(get("empty").empty());
  CHECK(get("gone") == "absent");
  Found found;
  CHECK(store->get("k", found).ok());
  CHECK(found.version == second);
  CHECK(put("k", "three") != second);
  CHECK(store->records_recovered() == 0);  // a good close leaves nothing in the log
}

TEST_CASE_FIXTURE(Store, "with --direct tables are read from the disk, though just written") {
  if (!can_be_direct()) {
    MESSAGE("not checked: the file system of " << root << " has no O_DIRECT");
    return;
  }
  put("k", std::string(10'000, 'v'));
  for (const bool direct : {false, true}) {
    options.direct = direct;
    open();
    const uint64_t before = disk_read_bytes();
    CHECK(get("k").size() == 10'000);
    CHECK((disk_read_bytes() > before) == direct);
  }
}

TEST_CASE_FIXTURE(Store, "what has expired is neither read nor listed") {
  put("a", "past", wall_ms() - 1);
  put("b", "future", wall_ms() + 3'600'000);
  CHECK(get("a") == "absent");
  CHECK(get("b") == "future");
  CHECK(range("a", "") == "b=future ");
}

TEST_CASE_FIXTURE(Store, "a range has a start, an exclusive end, and one point in time") {
  for (const char* key : {"a", "b", "c", "\xff"}) put(key, "1");
  CHECK(range("b", "") == "b=1 c=1 \xff=1 ");
  CHECK(range("a", "c") == "a=1 b=1 ");
  CHECK(range("c", "a").empty());
  const auto cursor = store->range("a", "");
  put("aa", "later");
  CHECK(cursor->next());
  CHECK(cursor->next());
  CHECK(cursor->key() == "b");
}

TEST_CASE_FIXTURE(Store, "a directory in use is refused") {
  const Result<std::unique_ptr<RecordStore>> second = RecordStore::open(options);
  REQUIRE(!second.has_value());
  CHECK(second.error().detail.find("in use") != std::string::npos);
}
