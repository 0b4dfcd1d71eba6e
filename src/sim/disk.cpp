#include "sim/disk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"

namespace gyre::sim {

Disk::Disk(DiskOptions disk_options, Prng prng) : options(std::move(disk_options)), prng_(prng) {
  Inode& top = inodes_[root];
  top.is_directory = true;
  top.links = top.durable_links = 1;
}

std::unique_ptr<Disk> Disk::clone(Prng prng) const {
  auto copy = std::make_unique<Disk>(options, prng);
  copy->inodes_ = inodes_;
  copy->name_changes_ = name_changes_;
  copy->next_inode_ = next_inode_;
  copy->used_bytes_ = used_bytes_;
  copy->close_all();
  return copy;
}

// --- operations ----------------------------------------------------------------------------------

bool Disk::is_write_point(const DiskRequest& request) const {
  switch (request.code) {
    case OpCode::write:
    case OpCode::fsync:
    case OpCode::allocate:
    case OpCode::truncate:
    case OpCode::rename:
    case OpCode::link:
    case OpCode::unlink:
    case OpCode::make_dir:
    case OpCode::remove_dir:
      return true;
    case OpCode::open: {
      if ((request.flags & (flag_create | flag_truncate)) == 0) return false;
      const Place place = find(request.path);
      return place.inode == 0 || (request.flags & flag_truncate) != 0;
    }
    case OpCode::lock_file:
      return find(request.path).inode == 0;
    default:
      return false;
  }
}

int32_t Disk::execute(const DiskRequest& request, InodeId* opened) {
  if (stopped_) return -EIO;
  const bool point = is_write_point(request);
  if (point) ++points_;
  if (const int error = injected_error(request); error != 0) return -error;
  if (!point || points_ != stop_point_) return apply(request, opened, true);

  stopped_ = true;
  stop_description_ = fmt::format(
      "{} {} at write point {}", to_string(request.code),
      request.path != nullptr ? std::string(request.path) : path_of(request.inode), points_);
  if (stop_phase_ == CrashPhase::before) return -EIO;
  InodeId ignored = 0;
  const int32_t result =
      apply(request, opened != nullptr ? opened : &ignored, stop_phase_ == CrashPhase::after);
  return result;
}

void Disk::execute_interrupted(const DiskRequest& request) {
  if (!is_write_point(request)) return;
  InodeId opened = 0;
  apply(request, &opened, false);
}

int32_t Disk::apply(const DiskRequest& request, InodeId* opened, bool lasting) {
  switch (request.code) {
    case OpCode::open:
      return open(request, opened);
    case OpCode::read:
      return read(request);
    case OpCode::write:
      return write(request, lasting);
    case OpCode::fsync:
      return fsync(request, lasting);
    case OpCode::allocate:
      return allocate(request);
    case OpCode::truncate:
      return truncate(request);
    case OpCode::rename:
      return rename(request);
    case OpCode::link:
      return link(request);
    case OpCode::unlink:
      return unlink(request);
    case OpCode::make_dir:
      return make_dir(request);
    case OpCode::remove_dir:
      return remove_dir(request);
    case OpCode::lock_file:
      return lock_file(request, opened);
    default:
      GYRE_ASSERT(false);
      return -EINVAL;
  }
}

bool Disk::strikes(uint32_t ppm, InodeId inode) {
  if (!prng_.chance_ppm(ppm)) return false;
  return options.path_part.empty() || path_of(inode).find(options.path_part) != std::string::npos;
}

// Planned faults first, then those by chance. A failed fsync loses what it should have kept.
int Disk::injected_error(const DiskRequest& request) {
  int error = 0;
  const std::string path = planned_.empty()
                               ? std::string()
                               : (request.path != nullptr ? request.path : path_of(request.inode));
  for (PlannedFault& fault : planned_) {
    if (fault.code != request.code || fault.times == 0 ||
        path.find(fault.path_part) == std::string::npos) {
      continue;
    }
    if (fault.nth > 1) {
      --fault.nth;
      continue;
    }
    --fault.times;
    error = fault.error;
    break;
  }
  if (error == 0 && request.code == OpCode::read &&
      strikes(options.read_error_ppm, request.inode)) {
    error = EIO;
  }
  if (error == 0 && request.code == OpCode::write &&
      strikes(options.write_error_ppm, request.inode)) {
    error = EIO;
  }
  if (error == 0 && request.code == OpCode::fsync &&
      strikes(options.fsync_error_ppm, request.inode)) {
    error = EIO;
  }
  if (error == 0) return 0;
  count_fault(request.code == OpCode::read    ? "read error"
              : request.code == OpCode::write ? "write error"
              : request.code == OpCode::fsync ? "fsync error"
                                              : "other disk error");
  if (request.code == OpCode::fsync) inodes_.at(request.inode).file.drop_pending();
  return error;
}

int32_t Disk::open(const DiskRequest& request, InodeId* opened) {
  Place place = find(request.path);
  if (place.error != 0) return place.error;
  const uint16_t flags = request.flags;
  if (place.inode == 0) {
    if (!(flags & flag_create)) return -ENOENT;
    place.inode = make_inode(false);
    change_names({{place.directory, place.name, place.inode}});
  } else {
    if ((flags & flag_create) && (flags & flag_exclusive)) return -EEXIST;
    const bool is_directory = inodes_.at(place.inode).is_directory;
    if (is_directory && (flags & (flag_write | flag_create))) return -EISDIR;
    if (!is_directory && (flags & flag_directory)) return -ENOTDIR;
    if ((flags & flag_truncate) && inodes_.at(place.inode).file.current().size() != 0) {
      inodes_.at(place.inode).file.resize(0);
      charge(place.inode);
    }
  }
  ++inodes_.at(place.inode).opens;
  *opened = place.inode;
  return 0;
}

int32_t Disk::read(const DiskRequest& request) {
  const Inode& inode = inodes_.at(request.inode);
  if (inode.is_directory) return -EISDIR;
  size_t length = request.length;
  if (length > 1 && strikes(options.short_read_ppm, request.inode)) {
    count_fault("short read");
    length = 1 + prng_.below(length - 1);
    if (length > FileContent::sector_bytes) length -= length % FileContent::sector_bytes;
  }
  const size_t n = inode.file.current().read(request.offset, request.out, length);
  const auto in_reach = [&](uint64_t at) { return at - request.offset < n; };
  if (std::any_of(inode.corrupted.begin(), inode.corrupted.end(), in_reach))
    count_fault("corrupted bytes read");
  if (n != 0 && strikes(options.bit_rot_ppm, request.inode)) {
    count_fault("bit rot");
    char& byte = request.out[prng_.below(n)];
    byte = static_cast<char>(byte ^ (1 << prng_.below(8)));
  }
  return static_cast<int32_t>(n);
}

int32_t Disk::write(const DiskRequest& request, bool lasting) {
  Inode& inode = inodes_.at(request.inode);
  std::string_view data = request.data;
  const uint64_t free = free_bytes();
  if (inode.file.current().missing_bytes(request.offset, data.size()) > free) {
    count_fault("no space");
    // As much as fits, in whole pages.
    uint64_t fits = free / Pages::page_bytes * Pages::page_bytes;
    const uint64_t within = request.offset % Pages::page_bytes;
    fits = fits > within ? fits - within : 0;
    if (fits == 0 || fits >= data.size()) return -ENOSPC;
    data = data.substr(0, fits);
  }
  if (data.size() > FileContent::sector_bytes && strikes(options.short_write_ppm, request.inode)) {
    count_fault("short write");
    const size_t n = 1 + prng_.below(data.size() - 1);
    data = data.substr(0, std::max(FileContent::sector_bytes, n - n % FileContent::sector_bytes));
  }
  bool durable = (request.flags & flag_dsync) != 0 && lasting;
  if (durable && (options.skip_durability & skip_dsync)) {
    count_fault("skipped dsync");
    durable = false;
  }
  inode.file.write(request.offset, data, durable);
  std::erase_if(inode.corrupted, [&](uint64_t at) { return at - request.offset < data.size(); });
  charge(request.inode);
  return static_cast<int32_t>(data.size());
}

int32_t Disk::allocate(const DiskRequest& request) {
  if (request.length == 0) return -EINVAL;
  Inode& inode = inodes_.at(request.inode);
  if (inode.file.current().missing_bytes(request.offset, request.length) > free_bytes()) {
    count_fault("no space");
    return -ENOSPC;
  }
  inode.file.reserve(request.offset, request.length);
  charge(request.inode);
  return 0;
}

int32_t Disk::truncate(const DiskRequest& request) {
  inodes_.at(request.inode).file.resize(request.length);
  charge(request.inode);
  return 0;
}

int32_t Disk::fsync(const DiskRequest& request, bool lasting) {
  if (!lasting) return 0;
  freed_since_commit_ = 0;
  Inode& inode = inodes_.at(request.inode);
  if (inode.is_directory) {
    if (options.skip_durability & skip_dir_fsync) {
      count_fault("skipped directory fsync");
    } else {
      sync_directory(request.inode);
    }
  } else if (options.skip_durability & skip_fsync) {
    count_fault("skipped fsync");
  } else {
    inode.file.sync();
  }
  return 0;
}

void Disk::close(InodeId id, bool unlock) {
  Inode& inode = inodes_.at(id);
  GYRE_ASSERT(inode.opens != 0);
  if (unlock) inode.locked = false;
  --inode.opens;
  if (inode.links == 0 && inode.opens == 0) bytes_freed_by_close_ += inode.charged_bytes;
  charge(id);
  drop_if_unused(id);
}

// --- questions -----------------------------------------------------------------------------------

uint64_t Disk::free_bytes() const {
  return options.capacity_bytes > used_bytes_ ? options.capacity_bytes - used_bytes_ : 0;
}

bool Disk::is_directory(InodeId inode) const {
  return inodes_.at(inode).is_directory;
}

std::string Disk::content(std::string_view path) const {
  const Place place = find(path);
  if (place.inode == 0) return {};
  const Pages& pages = inodes_.at(place.inode).file.current();
  std::string out(pages.size(), '\0');
  pages.read(0, out.data(), out.size());
  return out;
}

std::string Disk::durable_content(std::string_view path) const {
  const Place place = find(path);
  if (place.inode == 0) return {};
  const Pages& pages = inodes_.at(place.inode).file.durable();
  std::string out(pages.size(), '\0');
  pages.read(0, out.data(), out.size());
  return out;
}

bool Disk::corrupt(std::string_view path, uint64_t offset, char mask) {
  const Place place = find(path);
  if (place.inode == 0 || offset >= inodes_.at(place.inode).file.current().size()) return false;
  inodes_.at(place.inode).file.corrupt(offset, mask);
  inodes_.at(place.inode).corrupted.push_back(offset);
  return true;
}

bool Disk::replace(std::string_view path, std::string_view content) {
  const Place place = find(path);
  if (place.inode == 0) return false;
  FileContent& file = inodes_.at(place.inode).file;
  file.resize(content.size());
  file.write(0, content, false);
  file.sync();
  charge(place.inode);
  return true;
}

// --- crashes -------------------------------------------------------------------------------------

void Disk::close_all() {
  std::vector<InodeId> ids;
  for (const auto& [id, inode] : inodes_) ids.push_back(id);
  for (const InodeId id : ids) {
    Inode& inode = inodes_.at(id);
    inode.opens = 0;
    inode.locked = false;
    charge(id);
    drop_if_unused(id);
  }
}

void Disk::crash(CrashMode mode) {
  // Half of the crashes keep a prefix of all changes of names, as a journal does; the other half
  // decide for each, but never keep a change of a name after losing an earlier one.
  const bool journal = prng_.one_in(2);
  const uint64_t prefix = prng_.below(name_changes_.size() + 1);
  std::vector<std::pair<InodeId, std::string>> lost_names;
  for (size_t i = 0; i < name_changes_.size(); ++i) {
    const NameChange& change = name_changes_[i];
    const bool after_lost = std::any_of(change.begin(), change.end(), [&](const Assignment& a) {
      return std::find(lost_names.begin(), lost_names.end(), std::pair(a.directory, a.name)) !=
             lost_names.end();
    });
    const bool wanted = journal ? i < prefix : prng_.one_in(2);
    if (mode != CrashMode::lost && wanted && !after_lost) {
      for (const Assignment& a : change) {
        auto& entries = inodes_.at(a.directory).durable_entries;
        if (a.inode != 0) {
          entries[a.name] = a.inode;
        } else {
          entries.erase(a.name);
        }
      }
    } else {
      for (const Assignment& a : change) lost_names.emplace_back(a.directory, a.name);
    }
  }
  name_changes_.clear();

  // What the durable tree reaches from its root is what there is.
  std::map<InodeId, Inode> survivors;
  std::vector<InodeId> todo{root};
  while (!todo.empty()) {
    const InodeId id = todo.back();
    todo.pop_back();
    if (const auto there = survivors.find(id); there != survivors.end()) {
      ++there->second.links;
      ++there->second.durable_links;
      continue;
    }
    Inode inode = std::move(inodes_.at(id));
    inode.entries = inode.durable_entries;
    inode.links = inode.durable_links = 1;
    inode.pending_links = inode.opens = 0;
    inode.locked = false;
    inode.charged_bytes = 0;
    for (const auto& [name, child] : inode.entries) todo.push_back(child);
    survivors.emplace(id, std::move(inode));
  }
  inodes_ = std::move(survivors);
  used_bytes_ = 0;
  for (auto& [id, inode] : inodes_) {
    inode.file.crash(mode, prng_);
    charge(id);
  }
  stopped_ = false;
  stop_point_ = 0;
  points_ = 0;
}

}  // namespace gyre::sim
