// How many random reads the disk itself gives: what a cache that is too small can at best have.
#pragma once

#include <string>

#include <gyre/backend.hpp>
#include <gyre/result.hpp>

namespace gyre::engine {

inline constexpr unsigned probe_depth = 128;
inline constexpr unsigned probe_read_bytes = 8192;

// Reads of `probe_read_bytes` at `probe_depth` at a time, O_DIRECT, from a file that is made in
// `directory` and removed again. Reads per second.
Result<double> probe_random_reads(const std::string& directory, uint64_t file_bytes,
                                  Nanos duration);

}  // namespace gyre::engine
