// A topology as a text file, that people read and `gyre admin topology` writes:
//
//   gyre topology
//   format 1
//   epoch 7
//   previous 0123456789abcdef                      table hash of epoch 6; 16 zeros: there was none
//   node http://10.0.0.1:8080 weight=1             one line per node, sorted by URL. Optional, in
//   node http://10.0.0.2:8080 weight=2 zone=b shards=4 uuid=00112233445566778899aabbccddeeff
//   slots 00 010201…                               256 slots a line, 64 lines, 00 to 3f; each slot
//   …                                              is its list, each node its line's number from 0
//   slots 3f 000102…                               in base 36: 1 digit for up to 36 nodes, else 2
//   table fedcba9876543210                         table hash: what nodes compare
//   checksum 89abcdef01234567                      XXH3-64 of all bytes before this line
//
// A topology has exactly one text: no spaces, zeros or lines more or less are read.
#pragma once

#include <string>
#include <string_view>

#include <gyre/result.hpp>

#include "cluster/topology.hpp"

namespace gyre::cluster {

std::string print_topology(const Topology& topology);

// `name` is what errors call the text: "NAME:LINE: what is wrong; what to do". Errc::corrupt, or
// Errc::unsupported for a later format, or Errc::too_large (limits::topology_bytes_max).
Result<Topology> parse_topology(std::string_view text, std::string_view name);

}  // namespace gyre::cluster
