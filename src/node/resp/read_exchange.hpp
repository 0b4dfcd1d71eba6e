// A command that looks at one key. What is in this core's memory is answered at once.
#pragma once

#include "node/resp/invocation.hpp"
#include "store/shard.hpp"

namespace gyre {

// Writes the answer; `read` means something if the key is present. Runs on the key's core.
using ReadApply = void (*)(resp::ReplyWriter& to, resp::Command words, const StoreRead& read,
                           bool present);
// The bytes of a large value: in read.large_buffer, or only its size is told.
enum class LargeBytes : uint8_t { unwanted, wanted };

// Of the command's word `key_index`.
resp::Exchange* read_key(Invocation& in, size_t key_index, LargeBytes large, ReadApply apply);

}  // namespace gyre
