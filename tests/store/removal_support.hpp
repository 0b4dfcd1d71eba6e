// Files to be removed, and what a removal must not do to them.
#pragma once

#include <string>

#include <gyre/task.hpp>

namespace gyre::test {

// Makes a file of this size and its name durable.
Task<bool> write_whole(std::string path, uint64_t size_bytes);

// Removes a file that has a second name, as in a checkpoint. What is wrong then, or "".
std::string linked_file_is_cut();

}  // namespace gyre::test
