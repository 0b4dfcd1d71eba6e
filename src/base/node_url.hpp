// How a node is named everywhere: in --peers, in a topology, by a client. A failure's detail reads
// on after the text, as those of node/config_values.hpp do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/result.hpp>

namespace gyre {

// "http://HOST:PORT", with an optional slash at the end, which is dropped. Other schemes, paths,
// queries and user names are refused.
Result<std::string> parse_node_url(std::string_view text);

struct NodeUrl {
  std::string host;  // a name or a numeric address, without brackets
  uint16_t port = 0;
};
// Of what parse_node_url took.
NodeUrl split_node_url(std::string_view url);

}  // namespace gyre
