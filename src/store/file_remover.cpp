#include "store/file_remover.hpp"

#include <algorithm>
#include <utility>

#include <gyre/reactor.hpp>
#include <gyre/time.hpp>

#include "store/file_names.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr int rest_per_busy = 3;
constexpr Nanos rest_max = milliseconds(100);  // a disk that stalls says nothing about its pace

Task<Result<void>> wait_for(Event& event) {
  if (!co_await event.wait()) co_return fail(Errc::cancelled);
  co_return Result<void>{};
}

}  // namespace

void FileRemover::remove(File file, std::string name, uint64_t size_bytes) {
  queue_.push_back({std::move(file), std::move(name), size_bytes});
  waiting_bytes_ += size_bytes;
  if (std::exchange(running_, true)) return;
  scope_.spawn_background(run());
}

Task<void> FileRemover::run() {
  while (!queue_.empty()) {
    Waiting next = std::move(queue_.front());
    queue_.pop_front();
    // Whoever closes a file that has lost its name frees its blocks, on this core.
    if (next.file.is_open()) static_cast<void>(co_await next.file.close());
    std::string path = join_path(directory_, next.name);
    if (next.size_bytes <= piece_bytes_ || in_haste_.is_set()) {
      co_await remove_whole(std::move(path), next.size_bytes);
    } else {
      co_await remove_in_pieces(std::move(path));
    }
    ++stats_.files;
    stats_.bytes += next.size_bytes;
    waiting_bytes_ -= next.size_bytes;
  }
  in_haste_.reset();
  running_ = false;
}

Task<void> FileRemover::remove_whole(std::string path, uint64_t size_bytes) {
  const Nanos began = Reactor::current().now();
  static_cast<void>(co_await unlink_file(std::move(path)));
  uncommitted_bytes_ += size_bytes;
  if (uncommitted_bytes_ < piece_bytes_ || in_haste_.is_set()) co_return;
  static_cast<void>(co_await sync_directory(directory_));
  uncommitted_bytes_ = 0;
  co_await rest(Reactor::current().now() - began);
}

Task<void> FileRemover::remove_in_pieces(std::string path) {
  Result<File> file = co_await File::open(path, flag_write);
  static_cast<void>(co_await unlink_file(std::move(path)));
  if (!file) co_return;
  const Result<FileStatus> status = co_await file->status();
  const bool is_last_name = status && (status->links == 0 || store_test_faults.cut_linked_files);
  uint64_t left = is_last_name ? status->size_bytes : 0;
  while (left != 0 && !in_haste_.is_set()) {
    const Nanos began = Reactor::current().now();
    left = left > piece_bytes_ ? left - piece_bytes_ : 0;
    if (!co_await file->truncate(left)) break;
    if (!co_await file->sync()) break;
    ++stats_.pieces;
    uncommitted_bytes_ = 0;
    co_await rest(Reactor::current().now() - began);
  }
  static_cast<void>(co_await file->close());
}

Task<void> FileRemover::rest(Nanos busy) {
  if (waiting_bytes_ > backlog_bytes_max) co_return;
  static_cast<void>(
      co_await with_timeout<void>(std::min(rest_per_busy * busy, rest_max), wait_for(in_haste_)));
}

}  // namespace gyre
