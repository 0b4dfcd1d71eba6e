// What the answers to range requests have in common: chunks of `key\nvalue`, one per record, for as
// long as the client reads; a failure before the first byte is an answer of its own, a later one ends
// the connection without the last chunk, so that a cut answer can't pass for a whole one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "http/connection.hpp"
#include "node/core.hpp"

namespace gyre {

class RangeExchange : public http::Exchange {
 public:
  // An empty `end` is none.
  RangeExchange(http::Connection& connection, Core& core, std::string_view start,
                std::string_view end);
  ~RangeExchange() override;

  void respond(http::Connection& to) override;

 protected:
  static constexpr size_t output_bytes_pause = 256u << 10;

  // Of transit memory, until the exchange ends.
  bool reserve(uint64_t bytes);
  void give_back(uint64_t bytes);
  // Before respond(): the answer is this.
  void refuse(uint16_t status, std::string_view reason);

  Core& core_;
  std::string start_;
  std::string end_;
  uint64_t now_ms_ = 0;
  bool framed_ = true;  // HTTP/1.0 has no chunks
  uint16_t status_ = 200;
  std::string failure_;

 private:
  uint64_t transit_bytes_ = 0;
};

}  // namespace gyre
