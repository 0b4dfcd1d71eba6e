#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "base/limits.hpp"
#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

constexpr int disk = 4;

// Answers the read in flight from `content`, but at most `count` bytes.
void answer_read(Stage& stage, std::string_view content, size_t count) {
  Op& op = stage.backend.get(OpCode::read);
  const size_t from = std::min<size_t>(op.offset, content.size());
  const size_t size = std::min({count, static_cast<size_t>(op.len), content.size() - from});
  std::memcpy(op.data, content.data() + from, size);
  stage.backend.complete(op, {.result = static_cast<int32_t>(size)});
  stage.tick();
}
void answer(Stage& stage, OpCode code, int32_t result) {
  stage.backend.complete(code, result);
  stage.tick();
}

Task<void> read_it(uint64_t offset, size_t size, bool aligned, std::string& got,
                   Result<size_t>& result) {
  File file(disk);
  if (aligned) {
    AlignedBuffer buffer(size);
    result = co_await file.read_full(offset, buffer.span().first(size));
    if (result) got.assign(buffer.data(), *result);
  } else {
    got.resize(size);
    result = co_await file.read_full(offset, {got.data(), size});
    if (result) got.resize(*result);
  }
  co_await file.close();
}
Task<void> write_it(std::string content, bool aligned, Result<void>& result) {
  File file(disk);
  if (aligned) {
    AlignedBuffer buffer(content.size());
    std::memcpy(buffer.data(), content.data(), content.size());
    result = co_await file.write_full(0, {buffer.data(), content.size()}, flag_dsync);
  } else {
    result = co_await file.write_full(0, content);
  }
  co_await file.close();
}

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23 + (i / 4096) % 3);
  return text;
}

}  // namespace

TEST_CASE("read_full goes on after short reads and EINTR, until full or the end of the file") {
  const std::string content = pattern(20'000);
  Stage stage;
  std::string got;
  Result<size_t> result = 0;
  stage.start(read_it(0, 12'288, true, got, result));
  stage.tick(2);
  answer_read(stage, content, 4096);
  CHECK(stage.backend.last(OpCode::read).offset == 4096);
  answer(stage, OpCode::read, -EINTR);
  answer(stage, OpCode::read, -EAGAIN);
  CHECK(stage.backend.last(OpCode::read).offset == 4096);
  answer_read(stage, content, 8192);
  stage.finish();
  CHECK(result.value() == 12'288);
  CHECK(got == content.substr(0, 12'288));
  CHECK(stage.backend.submissions(OpCode::read) == 4);
}

TEST_CASE("every continuation of a direct read is aligned, however short the reads are") {
  const std::string content = pattern(10'000);
  for (const size_t piece : {size_t{4096}, size_t{5000}, size_t{4500}, size_t{16'384}}) {
    CAPTURE(piece);
    Stage stage;
    std::string got;
    Result<size_t> result = 0;
    stage.start(read_it(0, 16'384, true, got, result));
    stage.tick(2);
    size_t end = piece;
    for (int i = 0; i < 20 && stage.backend.find(OpCode::read) != nullptr; ++i) {
      Op& op = stage.backend.get(OpCode::read);
      CHECK(op.offset % 4096 == 0);
      CHECK(reinterpret_cast<uintptr_t>(op.data) % 4096 == 0);
      CHECK(op.len % 4096 == 0);
      if (i == 2) {
        answer(stage, OpCode::read, -EINTR);
        continue;
      }
      answer_read(stage, content, end - op.offset);
      end += 1500;
    }
    stage.finish();
    CHECK(result.value() == content.size());
    CHECK(got == content);
  }
}

TEST_CASE("reading at or beyond the end answers nothing; a failure is passed on") {
  Stage stage;
  std::string got;
  Result<size_t> result = 0;
  stage.start(read_it(1 << 20, 4096, true, got, result));
  stage.tick(2);
  answer(stage, OpCode::read, 0);
  stage.finish();
  CHECK(result.value() == 0);
  stage.start(read_it(0, 100, false, got, result));
  stage.tick(2);
  answer(stage, OpCode::read, 10);
  answer(stage, OpCode::read, -EIO);
  stage.finish();
  CHECK(result.error().code == Errc::io);
  CHECK(result.error().os_error == EIO);
}

TEST_CASE("write_full of aligned memory continues on an aligned position") {
  const std::string content = pattern(16'384);
  Stage stage;
  Result<void> result;
  stage.start(write_it(content, true, result));
  stage.tick(2);
  std::string file(content.size(), '.');
  const int32_t counts[] = {4096, 5000, -EINTR, 4096, 16'384};
  for (const int32_t count : counts) {
    const auto& write = stage.backend.last(OpCode::write);
    CHECK(write.offset % 4096 == 0);
    CHECK(write.len % 4096 == 0);
    CHECK(reinterpret_cast<uintptr_t>(write.data) % 4096 == 0);
    CHECK(write.flags == flag_dsync);
    const int32_t size = count < 0 ? count : std::min(count, static_cast<int32_t>(write.len));
    if (size > 0) file.replace(write.offset, static_cast<size_t>(size), write.bytes, 0, size);
    answer(stage, OpCode::write, size);
  }
  stage.finish();
  CHECK(result.has_value());
  CHECK(file == content);
}

TEST_CASE("a buffered write continues exactly where it ended, and a full disk is an error") {
  const std::string content = pattern(10'000);
  Stage stage;
  Result<void> result;
  stage.start(write_it(content, false, result));
  stage.tick(2);
  answer(stage, OpCode::write, 100);
  CHECK(stage.backend.last(OpCode::write).offset == 100);
  const bool rest_offered = stage.backend.last(OpCode::write).bytes == content.substr(100);
  CHECK(rest_offered);
  answer(stage, OpCode::write, 50);
  CHECK(stage.backend.last(OpCode::write).offset == 150);
  answer(stage, OpCode::write, -ENOSPC);
  stage.finish();
  CHECK(result.error().code == Errc::no_space);
}

TEST_CASE("a write that makes no progress fails instead of trying for ever") {
  for (const bool aligned : {true, false}) {
    CAPTURE(aligned);
    Stage stage;
    Result<void> result;
    stage.start(write_it(pattern(8192), aligned, result));
    stage.tick(2);
    for (int i = 0; i < 10 && stage.backend.find(OpCode::write) != nullptr; ++i) {
      answer(stage, OpCode::write, aligned ? 100 : 0);
    }
    CHECK(stage.backend.find(OpCode::write) == nullptr);
    stage.finish();
    CHECK_FALSE(result.has_value());
  }
}

TEST_CASE("replace_file: new content is durable under another name before it takes the name") {
  struct Body {
    static Task<void> run(Result<void>& result) {
      result = co_await replace_file("/data", "CURRENT", "manifest-7\n");
    }
  };
  Stage stage;
  stage.backend.answers[OpCode::open] = disk;
  stage.backend.answers[OpCode::fsync] = 0;
  stage.backend.answers[OpCode::rename] = 0;
  stage.backend.answers[OpCode::write] = 11;
  Result<void> result = fail(Errc::busy);
  stage.run(Body::run(result));
  CHECK(result.has_value());
  std::vector<OpCode> order;
  for (const auto& submission : stage.backend.history) order.push_back(submission.code);
  CHECK(order == std::vector<OpCode>{OpCode::open, OpCode::write, OpCode::fsync, OpCode::close,
                                     OpCode::rename, OpCode::open, OpCode::fsync, OpCode::close});
  CHECK(stage.backend.history[0].path == "/data/CURRENT.tmp");
  CHECK(stage.backend.history[0].flags == (flag_write | flag_create | flag_truncate));
  CHECK(stage.backend.history[1].bytes == "manifest-7\n");
  CHECK(stage.backend.history[4].path == "/data/CURRENT.tmp");
  CHECK(stage.backend.history[4].path2 == "/data/CURRENT");
  CHECK(stage.backend.history[5].path == "/data");
}

TEST_CASE("replace_file stops at the first failure and never renames what is not durable") {
  struct Body {
    static Task<void> run(Result<void>& result) {
      result = co_await replace_file("/data", "CURRENT", "x");
    }
  };
  for (const OpCode failing : {OpCode::open, OpCode::write, OpCode::fsync, OpCode::rename}) {
    CAPTURE(to_string(failing));
    Stage stage;
    for (const OpCode code : {OpCode::open, OpCode::write, OpCode::fsync, OpCode::rename}) {
      stage.backend.answers[code] = code == failing ? -EIO : 1;
    }
    Result<void> result;
    stage.run(Body::run(result));
    CHECK_FALSE(result.has_value());
    CHECK(stage.backend.submissions(OpCode::rename) == (failing == OpCode::rename ? 1 : 0));
    CHECK(stage.backend.submissions(OpCode::close) == (failing == OpCode::open ? 0 : 1));
  }
}

TEST_CASE("a file that goes out of scope is closed in the background, a moved one once") {
  struct Body {
    static Task<void> run() {
      File first(disk);
      CHECK(Reactor::current().descriptors_open == 1);
      File second = std::move(first);
      CHECK_FALSE(first.is_open());
      second = File(disk + 1);
      CHECK(Reactor::current().descriptors_open == 1);
      Result<File> none = co_await File::open("/nowhere", flag_read);
      CHECK(none.error().code == Errc::not_found);
    }
  };
  Stage stage;
  stage.backend.answers[OpCode::open] = -ENOENT;
  stage.run(Body::run());
  CHECK(stage.backend.submissions(OpCode::close) == 2);
}

TEST_CASE("make_directories makes what is missing, from the top, and each durable in its parent") {
  struct Body {
    static Task<void> run(Result<void>& result) { result = co_await make_directories("/a/b/c/"); }
  };
  Stage stage;
  stage.backend.answers[OpCode::make_dir] = 0;
  stage.backend.answers[OpCode::open] = disk;
  stage.backend.answers[OpCode::fsync] = 0;
  Result<void> result = fail(Errc::busy);
  stage.start(Body::run(result));
  for (int i = 0; i < 20 && !stage.ended(); ++i) {
    stage.tick();
    if (Op* op = stage.backend.find(OpCode::stat)) {
      const bool exists = std::string_view(op->path) == "/a";
      if (exists) *static_cast<FileStatus*>(op->out) = {.exists = true, .is_directory = true};
      stage.backend.complete(*op, {.result = exists ? 0 : -ENOENT});
    }
  }
  stage.finish();
  CHECK(result.has_value());
  std::vector<std::string> made;
  std::vector<std::string> synced;
  for (const auto& submission : stage.backend.history) {
    if (submission.code == OpCode::make_dir) made.push_back(submission.path);
    if (submission.code == OpCode::open) synced.push_back(submission.path);
  }
  CHECK(made == std::vector<std::string>{"/a/b", "/a/b/c"});
  // The root too: whoever made /a may have ended before its name was durable.
  CHECK(synced == std::vector<std::string>{"/", "/a", "/a/b"});
}

TEST_CASE("make_directories takes a directory whose parent can't be opened, but no disk error") {
  struct Body {
    static Task<void> run(Result<void>& result) { result = co_await make_directories("/a/b"); }
  };
  for (const int error : {EACCES, EIO}) {
    Stage stage;
    stage.backend.answers[OpCode::open] = -error;
    Result<void> result = fail(Errc::busy);
    stage.start(Body::run(result));
    for (int i = 0; i < 20 && !stage.ended(); ++i) {
      stage.tick();
      if (Op* op = stage.backend.find(OpCode::stat)) {
        *static_cast<FileStatus*>(op->out) = {.exists = true, .is_directory = true};
        stage.backend.complete(*op, {.result = 0});
      }
    }
    stage.finish();
    CHECK(result.has_value() == (error == EACCES));
  }
}

TEST_CASE("a lock that somebody holds is busy; a whole small file is read, a larger one refused") {
  struct Body {
    static Task<void> run(Stage& stage) {
      stage.backend.answers[OpCode::lock_file] = -EWOULDBLOCK;
      Result<File> lock = co_await lock_file("/data/LOCK");
      CHECK(lock.error().code == Errc::busy);
      stage.backend.answers[OpCode::lock_file] = disk;
      Result<File> mine = co_await lock_file("/data/LOCK");
      CHECK(mine.has_value());
      stage.backend.answers[OpCode::open] = disk + 1;
      stage.backend.answers[OpCode::read] = 11;  // every read gives 11 bytes
      Result<std::string> large = co_await read_file("/data/CURRENT", 10);
      CHECK(large.error().code == Errc::too_large);
      co_await mine->close();
    }
  };
  Stage stage;
  stage.run(Body::run(stage));
}

TEST_CASE("aligned buffers are aligned, rounded up, pooled up to 1 MiB, and moved") {
  release_aligned_pool();
  for (const size_t size :
       {size_t{1}, size_t{4096}, size_t{4097}, size_t{1} << 20, size_t{3} << 20}) {
    AlignedBuffer buffer(size);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 4096 == 0);
    CHECK(buffer.size() >= size);
    CHECK(buffer.size() % 4096 == 0);
    std::memset(buffer.data(), 'x', buffer.size());
  }
  char* first = nullptr;
  {
    AlignedBuffer buffer(8192);
    first = buffer.data();
    AlignedBuffer other(std::move(buffer));
    CHECK(buffer.data() == nullptr);
    AlignedBuffer third;
    third = std::move(other);
    CHECK(third.data() == first);
  }
  AlignedBuffer again(5000);
  CHECK(again.data() == first);
  CHECK(AlignedBuffer().size() == 0);
}

TEST_CASE("an open that finds no descriptor waits for one") {
  struct Body {
    static Task<void> run(bool& opened) {
      Result<File> file = co_await File::open("a", flag_read);
      opened = file.has_value();
    }
  };
  for (const int error : {EMFILE, ENFILE}) {
    CAPTURE(error);
    Stage stage;
    bool opened = false;
    stage.start(Body::run(opened));
    stage.tick(2);
    for (int i = 0; i < 5; ++i) {
      answer(stage, OpCode::open, -error);
      stage.tick(20);
      CHECK(stage.backend.find(OpCode::open) == nullptr);  // no spinning
      stage.advance(milliseconds(limits::open_retry_delay_ms));
      CHECK(stage.backend.last(OpCode::open).path == "a");
    }
    answer(stage, OpCode::open, disk);
    stage.finish();
    CHECK(opened);
    CHECK(stage.backend.submissions(OpCode::open) == 6);
    CHECK(stage.backend.log_lines.size() == 1);
  }
}

TEST_CASE("an open gives up when descriptors stay away, and at once for other reasons") {
  struct Body {
    static Task<void> run(int& error) {
      Result<File> file = co_await File::open("a", flag_read);
      error = file ? 0 : file.error().os_error;
    }
  };
  for (const int reason : {EMFILE, EACCES}) {
    CAPTURE(reason);
    Stage stage;
    stage.backend.sleep_moves_clock = true;
    stage.backend.answers[OpCode::open] = -reason;
    int error = 0;
    stage.run(Body::run(error));
    CHECK(error == reason);
    CHECK(stage.backend.submissions(OpCode::open) ==
          (reason == EMFILE ? limits::open_retries_max + 1 : 1));
  }
}

TEST_CASE("a directory is listed once a descriptor is there") {
  struct Body {
    static Task<void> run(bool& listed) { listed = (co_await list_directory("d")).has_value(); }
  };
  Stage stage;
  bool listed = false;
  stage.start(Body::run(listed));
  stage.tick(2);
  answer(stage, OpCode::list_dir, -EMFILE);
  stage.tick(5);
  CHECK(stage.backend.find(OpCode::list_dir) == nullptr);
  stage.advance(milliseconds(limits::open_retry_delay_ms));
  stage.tick(2);
  answer(stage, OpCode::list_dir, 0);
  stage.finish();
  CHECK(listed);
}
