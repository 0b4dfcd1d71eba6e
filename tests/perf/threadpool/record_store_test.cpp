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

TEST_CASE("of records from anywhere the newest stays, whatever the order they come in") {
  Store node;
  node.options.peers = {"http://127.0.0.1:1"};
  node.open();
  const Version older{.hlc = hlc_from_us(1000), .origin = 1};
  const Version newer{.hlc = hlc_from_us(1000), .origin = 2};
  CHECK(node.store->store("k", "new", 0, newer).ok());
  CHECK(node.store->store("k", "old", 0, older).ok());
  CHECK(node.get("k") == "new");
  CHECK(node.store->store("d", "value", 0, older).ok());
  CHECK(node.store->store("d", "", tombstone_expiry, newer).ok());
  CHECK(node.store->store("d", "value", 0, older).ok());
  CHECK(node.get("d") == "absent");
  CHECK(node.range("a", "") == "k=new ");
  Found found;
  CHECK(node.store->get("d", found).ok());
  CHECK(found.stored);
  CHECK(found.version == newer);
  CHECK(found.expires_at_ms == tombstone_expiry);
  node.open();
  CHECK(node.get("d") == "absent");
}

TEST_CASE("the clock is moved past every version that comes") {
  Store node;
  const Version far{.hlc = hlc_from_us(uint64_t{1} << 51), .origin = 7};
  CHECK(node.store->store("k", "v", 0, far).ok());
  CHECK(node.store->next_version() > far);
}

TEST_CASE("what has expired is still known as a record, so that an older one does not come back") {
  Store node;
  node.options.peers = {"http://127.0.0.1:1"};
  node.open();
  const Version version{.hlc = hlc_from_us(1000), .origin = 1};
  CHECK(node.store->store("k", "v", 1, version).ok());  // in 1970
  Found found;
  CHECK(node.store->get("k", found).ok());
  CHECK(found.stored);
  CHECK_FALSE(found.found);
  CHECK(found.stored_bytes == "v");
}

TEST_CASE("a record's header is the same on its way and in the store") {
  std::string bytes;
  append_record_header(bytes, {.version = {.hlc = 5, .origin = 6}, .expires_at_ms = 7});
  CHECK(bytes.size() == record_header_bytes);
  bytes += "value";
  RecordHeader header;
  CHECK(read_record_header(bytes, header));
  CHECK(header.version == Version{.hlc = 5, .origin = 6});
  CHECK(header.expires_at_ms == 7);
  Found found;
  CHECK(found.assign(bytes));
  CHECK_FALSE(found.found);  // expired
  CHECK(found.stored_bytes == "value");
  CHECK_FALSE(read_record_header(bytes.substr(0, 23), header));
}
