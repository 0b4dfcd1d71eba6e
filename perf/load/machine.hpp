// What the report says about the machine and the generator's own use of it.
#pragma once

#include <cstdint>
#include <string>

#include <gyre/backend.hpp>

namespace gyre::load {

struct Machine {
  std::string cpu;
  unsigned cpus = 0;
  std::string kernel;
  std::string governor;     // empty if there is none
  std::string huge_pages;   // transparent ones: always, madvise, never
  double load_average = 0;  // of the last minute
};
Machine describe_machine();

Nanos thread_cpu();        // CPU time of the calling thread so far
Nanos thread_run_delay();  // and how long it was ready while others had its CPU; 0 if not known
std::string utc_now();     // 2026-01-31T12:00:00Z
uint64_t wall_us();

// Raises the limit of descriptors where allowed; the limit that holds then.
uint64_t raise_descriptor_limit();

// An empty text, or why a file of that name could not be written; it is as it was then.
std::string why_not_writable(const std::string& path);
// Replaces the file; an empty text, or why it could not be written.
std::string write_file(const std::string& path, const std::string& content);

}  // namespace gyre::load
