#include "store/data_directory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/hash.hpp"

namespace gyre {

namespace {

constexpr std::string_view title = "gyre data directory";
constexpr size_t identity_bytes_max = 4096;

std::string checksum_line(std::string_view text) {
  return fmt::format("checksum {:016x}\n", hash64(text));
}

// The value of a line "name value", or nothing.
std::string_view field(std::string_view text, std::string_view name) {
  const std::string prefix = fmt::format("\n{} ", name);
  const size_t at = text.find(prefix);
  if (at == std::string_view::npos) return {};
  const size_t begin = at + prefix.size();
  return text.substr(begin, text.find('\n', begin) - begin);
}

template <class Number>
bool parse_number(std::string_view text, int base, Number& out) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && !text.empty();
}

}  // namespace

std::string DataDirectory::uuid_text() const {
  std::string text;
  for (const uint8_t byte : uuid_) text += fmt::format("{:02x}", byte);
  return text;
}

std::string DataDirectory::shard_path(std::string_view directory, uint32_t shard) {
  return fmt::format("{}/shard-{:03}", directory, shard);
}

uint64_t DataDirectory::log_salt(uint32_t shard) const {
  const std::string text = fmt::format("{:016x}/{}", salt_, shard);
  return hash64(text);
}

uint32_t DataDirectory::node_number() const {
  uint32_t number = 0;
  std::memcpy(&number, uuid_.data(), sizeof number);
  return number;
}

std::string DataDirectory::describe() const {
  std::string text = fmt::format("{}\nformat {}\nuuid {}\nshards {}\nsalt {:016x}\n", title,
                                 format_version, uuid_text(), shard_count_, salt_);
  return text + checksum_line(text);
}

Result<void> DataDirectory::parse(std::string_view text) {
  const std::string name = fmt::format("{}/{}", path_, identity_name);
  const std::string advice =
      ". Restore the file from a backup, or start with another --data directory";
  if (!text.starts_with(title)) {
    return fail(Errc::corrupt, name + " does not say that this is a Gyre data directory" + advice);
  }
  uint32_t format = 0;
  if (!parse_number(field(text, "format"), 10, format)) {
    return fail(Errc::corrupt, name + " names no format version" + advice);
  }
  if (format > format_version) {
    return fail(Errc::unsupported,
                fmt::format("{} has format {}, this program reads up to {}: use a newer gyre", name,
                            format, format_version));
  }
  const size_t checksum = text.rfind("checksum ");
  if (checksum == std::string_view::npos ||
      text.substr(checksum) != checksum_line(text.substr(0, checksum))) {
    return fail(Errc::corrupt, name + " does not match its checksum" + advice);
  }
  const std::string_view uuid = field(text, "uuid");
  bool good = uuid.size() == 2 * uuid_.size() &&
              parse_number(field(text, "shards"), 10, shard_count_) &&
              parse_number(field(text, "salt"), 16, salt_);
  for (size_t i = 0; good && i < uuid_.size(); ++i) {
    good = parse_number(uuid.substr(2 * i, 2), 16, uuid_[i]);
  }
  if (!good || shard_count_ == 0 || shard_count_ > shards_max) {
    return fail(Errc::corrupt, name + " holds nonsense" + advice);
  }
  return {};
}

Task<Result<DataDirectory>> DataDirectory::read(std::string path, std::string name) {
  DataDirectory directory;
  directory.path_ = path;
  Result<std::string> text =
      co_await read_file(fmt::format("{}/{}", path, name), identity_bytes_max);
  if (!text) co_return fail(text.error());
  if (Result<void> parsed = directory.parse(*text); !parsed) co_return fail(parsed.error());
  co_return directory;
}

Task<Result<DataDirectory>> DataDirectory::open(std::string path, uint32_t shards) {
  if (Result<void> made = co_await make_directories(path); !made) co_return fail(made.error());
  DataDirectory directory;
  directory.path_ = path;
  Result<File> lock = co_await lock_file(fmt::format("{}/{}", path, lock_name));
  if (!lock) {
    if (lock.error().code == Errc::busy) {
      co_return fail(Errc::busy, fmt::format("the data directory {} is in use by another process: "
                                             "stop it, or start with another --data directory",
                                             path));
    }
    co_return fail(lock.error());
  }
  directory.lock_ = std::move(*lock);
  const std::string identity = fmt::format("{}/{}", path, identity_name);
  Result<FileStatus> status = co_await file_status(identity);
  if (!status) co_return fail(status.error());
  if (status->exists) {
    Result<std::string> text = co_await read_file(identity, identity_bytes_max);
    if (!text) co_return fail(text.error());
    if (Result<void> parsed = directory.parse(*text); !parsed) co_return fail(parsed.error());
    // An earlier life may have been killed between naming the file and syncing its name.
    if (Result<void> synced = co_await sync_directory(path); !synced) {
      co_return fail(synced.error());
    }
    co_return directory;
  }
  // Shards without an identity: the file was lost, and nobody knows how many there should be.
  Result<FileStatus> first = co_await file_status(directory.shard_path(0));
  if (!first) co_return fail(first.error());
  if (first->exists) {
    co_return fail(Errc::corrupt,
                   fmt::format("{} is missing though {} exists. Restore it from a backup, or start "
                               "with another --data directory",
                               identity, directory.shard_path(0)));
  }
  directory.created_ = true;
  directory.shard_count_ = std::clamp<uint32_t>(shards, 1, shards_max);
  Reactor& reactor = Reactor::current();
  const uint64_t random[2] = {reactor.random(), reactor.random()};
  std::memcpy(directory.uuid_.data(), random, sizeof random);
  directory.salt_ = reactor.random();
  Result<void> written =
      co_await replace_file(path, std::string(identity_name), directory.describe());
  if (!written) co_return fail(written.error());
  co_return directory;
}

Task<Result<void>> DataDirectory::write_identity_to(std::string path, std::string name) const {
  return replace_file(std::move(path), std::move(name), describe());
}

Task<void> DataDirectory::close() {
  if (lock_.is_open()) static_cast<void>(co_await lock_.close());
}

}  // namespace gyre
