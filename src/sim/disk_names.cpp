// The names of the simulated disk: a current and a durable tree, and the changes between them.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"
#include "sim/disk.hpp"

namespace gyre::sim {

Disk::Place Disk::find(std::string_view path) const {
  Place place{root, {}, root, 0};
  for (size_t at = 0; at < path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    GYRE_ASSERT(part != "..");
    if (part.size() > 255) return {0, {}, 0, -ENAMETOOLONG};
    if (place.inode == 0) return {0, {}, 0, -ENOENT};
    const Inode& directory = inodes_.at(place.inode);
    if (!directory.is_directory) return {0, {}, 0, -ENOTDIR};
    const auto entry = directory.entries.find(std::string(part));
    place = {place.inode, std::string(part), entry == directory.entries.end() ? 0 : entry->second,
             0};
  }
  return place;
}

InodeId Disk::make_inode(bool is_directory) {
  inodes_[next_inode_].is_directory = is_directory;
  return next_inode_++;
}

// Changes the current tree now and remembers the change until its directory is synced.
void Disk::change_names(NameChange change) {
  for (const Assignment& a : change) {
    ++inodes_.at(a.directory).pending_links;
    auto& entries = inodes_.at(a.directory).entries;
    const auto old = entries.find(a.name);
    const InodeId replaced = old == entries.end() ? 0 : old->second;
    if (a.inode != 0) {
      ++inodes_.at(a.inode).links;
      ++inodes_.at(a.inode).pending_links;
      entries[a.name] = a.inode;
    } else {
      entries.erase(a.name);
    }
    if (replaced != 0) unlink_current(replaced);
  }
  name_changes_.push_back(std::move(change));
}

void Disk::unlink_current(InodeId id) {
  --inodes_.at(id).links;
  charge(id);
  drop_if_unused(id);
}

void Disk::apply_durable(const NameChange& change) {
  for (const Assignment& a : change) {
    auto& entries = inodes_.at(a.directory).durable_entries;
    const auto old = entries.find(a.name);
    const InodeId replaced = old == entries.end() ? 0 : old->second;
    if (a.inode != 0) {
      ++inodes_.at(a.inode).durable_links;
      entries[a.name] = a.inode;
    } else {
      entries.erase(a.name);
    }
    if (replaced != 0) {
      --inodes_.at(replaced).durable_links;
      drop_if_unused(replaced);
    }
  }
}

// Commits every pending change that touches the directory, with its other half if it has one.
void Disk::sync_directory(InodeId directory) {
  std::vector<NameChange> kept;
  for (NameChange& change : name_changes_) {
    const bool touches = std::any_of(change.begin(), change.end(),
                                     [&](const Assignment& a) { return a.directory == directory; });
    if (!touches) {
      kept.push_back(std::move(change));
      continue;
    }
    apply_durable(change);
    for (const Assignment& a : change) {
      for (const InodeId id : {a.directory, a.inode}) {
        if (id == 0) continue;
        --inodes_.at(id).pending_links;
        drop_if_unused(id);
      }
    }
  }
  name_changes_ = std::move(kept);
}

// An inode lives while a name, an open descriptor or something a crash may bring back needs it.
void Disk::drop_if_unused(InodeId id) {
  Inode& inode = inodes_.at(id);
  if (inode.links != 0 || inode.opens != 0) return;
  if (inode.durable_links == 0 && inode.pending_links == 0) {
    used_bytes_ -= inode.charged_bytes;
    inodes_.erase(id);
  }
}

// Space belongs to files that are named or open now.
void Disk::charge(InodeId id) {
  Inode& inode = inodes_.at(id);
  const bool alive = inode.links != 0 || inode.opens != 0;
  const uint64_t bytes = alive ? inode.file.current().allocated_bytes() : 0;
  if (bytes < inode.charged_bytes) freed_since_commit_ += inode.charged_bytes - bytes;
  freed_per_commit_max_ = std::max(freed_per_commit_max_, freed_since_commit_);
  used_bytes_ = used_bytes_ - inode.charged_bytes + bytes;
  inode.charged_bytes = bytes;
}

// --- operations ----------------------------------------------------------------------------------

int32_t Disk::rename(const DiskRequest& request) {
  const Place from = find(request.path);
  const Place to = find(request.path2);
  if (from.error != 0) return from.error;
  if (to.error != 0) return to.error;
  if (from.inode == 0) return -ENOENT;
  if (from.inode == to.inode) return 0;
  const bool moves_directory = inodes_.at(from.inode).is_directory;
  if (to.inode != 0) {
    const Inode& target = inodes_.at(to.inode);
    if (target.is_directory && !moves_directory) return -EISDIR;
    if (!target.is_directory && moves_directory) return -ENOTDIR;
    if (target.is_directory && !target.entries.empty()) return -ENOTEMPTY;
  }
  // The new name first, so that the inode never has no link.
  change_names({{to.directory, to.name, from.inode}, {from.directory, from.name, 0}});
  return 0;
}

int32_t Disk::link(const DiskRequest& request) {
  const Place from = find(request.path);
  const Place to = find(request.path2);
  if (from.error != 0) return from.error;
  if (to.error != 0) return to.error;
  if (from.inode == 0) return -ENOENT;
  if (to.inode != 0) return -EEXIST;
  if (inodes_.at(from.inode).is_directory) return -EPERM;
  change_names({{to.directory, to.name, from.inode}});
  return 0;
}

int32_t Disk::unlink(const DiskRequest& request) {
  const Place place = find(request.path);
  if (place.error != 0) return place.error;
  if (place.inode == 0) return -ENOENT;
  const Inode& inode = inodes_.at(place.inode);
  if (inode.is_directory) return -EISDIR;
  change_names({{place.directory, place.name, 0}});
  return 0;
}

int32_t Disk::make_dir(const DiskRequest& request) {
  const Place place = find(request.path);
  if (place.error != 0) return place.error;
  if (place.inode != 0) return -EEXIST;
  change_names({{place.directory, place.name, make_inode(true)}});
  return 0;
}

int32_t Disk::remove_dir(const DiskRequest& request) {
  const Place place = find(request.path);
  if (place.error != 0) return place.error;
  if (place.inode == 0) return -ENOENT;
  if (place.inode == root) return -EBUSY;
  if (!inodes_.at(place.inode).is_directory) return -ENOTDIR;
  if (!inodes_.at(place.inode).entries.empty()) return -ENOTEMPTY;
  change_names({{place.directory, place.name, 0}});
  return 0;
}

int32_t Disk::lock_file(const DiskRequest& request, InodeId* opened) {
  Place place = find(request.path);
  if (place.error != 0) return place.error;
  if (place.inode == 0) {
    place.inode = make_inode(false);
    change_names({{place.directory, place.name, place.inode}});
  }
  Inode& inode = inodes_.at(place.inode);
  if (inode.is_directory) return -EISDIR;
  if (inode.locked) return -EWOULDBLOCK;
  inode.locked = true;
  ++inode.opens;
  *opened = place.inode;
  return 0;
}

int32_t Disk::list_dir(std::string_view path, std::vector<DirEntry>& out) {
  const Place place = find(path);
  if (place.error != 0) return place.error;
  if (place.inode == 0) return -ENOENT;
  const Inode& directory = inodes_.at(place.inode);
  if (!directory.is_directory) return -ENOTDIR;
  out.clear();
  for (const auto& [name, id] : directory.entries) {
    const Inode& inode = inodes_.at(id);
    const uint64_t size = inode.is_directory ? 0 : inode.file.current().size();
    out.push_back({name, inode.is_directory, size});
  }
  // A real directory has no order either.
  for (size_t i = out.size(); i > 1; --i) std::swap(out[i - 1], out[prng_.below(i)]);
  return 0;
}

int32_t Disk::stat(std::string_view path, FileStatus& out) const {
  out = {};
  const Place place = find(path);
  if (place.inode == 0) return place.error == -ENOENT ? 0 : place.error;
  out = stat(place.inode);
  return 0;
}

FileStatus Disk::stat(InodeId id) const {
  const Inode& inode = inodes_.at(id);
  return {.exists = true,
          .is_directory = inode.is_directory,
          .size_bytes = inode.is_directory ? 0 : inode.file.current().size(),
          .links = inode.links};
}

std::string Disk::path_of(InodeId id) const {
  if (id == root) return "/";
  for (const auto& [directory_id, directory] : inodes_) {
    for (const auto& [name, entry] : directory.entries) {
      if (entry != id) continue;
      const std::string above = path_of(directory_id);
      return above == "/" ? above + name : above + "/" + name;
    }
  }
  return fmt::format("(unlinked {})", id);
}

}  // namespace gyre::sim
