#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "scenarios.hpp"

namespace gyre::testing {

namespace {

std::string pattern(size_t size, unsigned seed) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 31 + seed + i / 4096) % 251);
  return text;
}

Task<void> write_and_read(std::string path, size_t size, unsigned seed) {
  const std::string content = pattern(size, seed);
  Result<File> file =
      co_await File::open(path, flag_read | flag_write | flag_create | flag_exclusive);
  REQUIRE(file.has_value());
  CHECK((co_await file->write_full(0, content)).has_value());
  CHECK((co_await file->sync()).has_value());
  std::string got(size + 100, '\0');
  Result<size_t> count = co_await file->read_full(0, {got.data(), got.size()});
  REQUIRE(count.has_value());
  got.resize(*count);
  CHECK((got == content));
  // A piece from the middle, at an odd place.
  if (size > 5000) {
    std::string middle(1000, '\0');
    Result<size_t> some = co_await file->read_full(3333, {middle.data(), middle.size()});
    CHECK(some.value() == 1000);
    CHECK((middle == content.substr(3333, 1000)));
  }
  CHECK((co_await file->truncate(size / 2)).has_value());
  CHECK((co_await file->sync_data()).has_value());
  CHECK((co_await file->close()).has_value());
  Result<FileStatus> status = co_await file_status(path);
  CHECK(status->exists);
  CHECK(status->size_bytes == size / 2);
  CHECK((co_await unlink_file(path)).has_value());
}

Task<void> direct(std::string path, unsigned seed) {
  constexpr size_t size = 256u << 10;
  Result<File> file = co_await File::open(path, flag_read | flag_write | flag_create | flag_direct);
  REQUIRE(file.has_value());
  CHECK((co_await file->allocate(0, 2 * size)).has_value());
  AlignedBuffer buffer(size);
  const std::string content = pattern(size, seed);
  std::memcpy(buffer.data(), content.data(), size);
  for (uint64_t offset : {uint64_t{0}, uint64_t{size}}) {
    CHECK((co_await file->write_full(offset, {buffer.data(), size}, flag_dsync)).has_value());
  }
  std::memset(buffer.data(), 0, size);
  for (uint64_t offset : {uint64_t{0}, uint64_t{4096}, uint64_t{size}}) {
    Result<size_t> count = co_await file->read_full(offset, buffer.span());
    REQUIRE(count.has_value());
    CHECK(*count == size);
    const std::string expected = content.substr(offset % size) + content.substr(0, offset % size);
    CHECK((std::string_view(buffer.data(), size) == expected));
  }
  // The end of the file in the middle of a buffer.
  CHECK((co_await file->truncate(size + 1000)).has_value());
  Result<size_t> rest = co_await file->read_full(size, buffer.span());
  REQUIRE(rest.has_value());
  CHECK(*rest == 1000);
  CHECK((std::string_view(buffer.data(), 1000) == content.substr(0, 1000)));
  CHECK((co_await file->close()).has_value());
}

}  // namespace

Task<void> files_are_written_and_read(Place place) {
  Scope scope;
  const size_t sizes[] = {1, 4095, 4096, 4097, 100'000, 1'500'000};
  for (unsigned i = 0; i < 6; ++i) {
    scope.spawn(write_and_read(place.directory + "/file" + std::to_string(i), sizes[i], i));
  }
  co_await scope.join();
  CHECK((co_await list_directory(place.directory + "/"))->empty());
}

Task<void> direct_files_are_written_and_read(Place place) {
  Scope scope;
  for (unsigned i = 0; i < 3; ++i) {
    scope.spawn(direct(place.directory + "/direct" + std::to_string(i), i));
  }
  co_await scope.join();
}

Task<void> names_come_and_go(Place place) {
  const std::string& top = place.directory;
  CHECK((co_await make_directories(top + "/a/b/c")).has_value());
  CHECK((co_await make_directories(top + "/a/b/c")).has_value());
  Result<File> file = co_await File::open(top + "/a/b/one", flag_write | flag_create);
  REQUIRE(file.has_value());
  CHECK((co_await make_directories(top + "/a/b/one")).error().code == Errc::already_exists);
  CHECK((co_await file->write_full(0, "12345")).has_value());
  CHECK((co_await link_file(top + "/a/b/one", top + "/a/b/two")).has_value());
  CHECK((co_await rename_file(top + "/a/b/two", top + "/a/b/three")).has_value());
  CHECK((co_await sync_directory(top + "/a/b")).has_value());
  Result<std::vector<DirEntry>> listed = co_await list_directory(top + "/a/b");
  REQUIRE(listed.has_value());
  REQUIRE(listed->size() == 3);
  CHECK((*listed)[0].name == "c");
  CHECK((*listed)[0].is_directory);
  CHECK((*listed)[1].name == "one");
  CHECK((*listed)[1].size_bytes == 5);
  CHECK((*listed)[2].name == "three");
  CHECK((co_await unlink_file(top + "/a/b/one")).has_value());
  CHECK((co_await unlink_file(top + "/a/b/one")).error().code == Errc::not_found);
  CHECK((co_await File::open(top + "/a/b/one", flag_read)).error().code == Errc::not_found);
  CHECK_FALSE((co_await file_status(top + "/a/b/one"))->exists);
  CHECK_FALSE((co_await remove_directory(top + "/a/b")).has_value());  // not empty
  CHECK((co_await unlink_file(top + "/a/b/three")).has_value());
  CHECK((co_await remove_directory(top + "/a/b/c")).has_value());
  CHECK((co_await remove_directory(top + "/a/b")).has_value());
  CHECK((co_await free_space_bytes(top + "/")).value() > 0);
  CHECK((co_await file->close()).has_value());
}

Task<void> small_files_are_replaced(Place place) {
  const std::string directory = place.directory + "/state";
  CHECK((co_await make_directories(directory)).has_value());
  CHECK((co_await read_file(directory + "/CURRENT", 100)).error().code == Errc::not_found);
  for (int i = 0; i < 5; ++i) {
    const std::string content = "version " + std::to_string(i);
    CHECK((co_await replace_file(directory, "CURRENT", content)).has_value());
    CHECK((co_await read_file(directory + "/CURRENT", 100)).value() == content);
  }
  CHECK((co_await read_file(directory + "/CURRENT", 5)).error().code == Errc::too_large);
  CHECK((co_await list_directory(directory))->size() == 1);
}

Task<void> locks_exclude(Place place) {
  const std::string path = place.directory + "/LOCK";
  Result<File> first = co_await lock_file(path);
  REQUIRE(first.has_value());
  Result<File> second = co_await lock_file(path);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().code == Errc::busy);
  CHECK((co_await first->close()).has_value());
  Result<File> third = co_await lock_file(path);
  CHECK(third.has_value());
}

}  // namespace gyre::testing
