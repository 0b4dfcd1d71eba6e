// The chunked transfer coding, read strictly (RFC 9112 section 7.1):
//
//   chunk     = 1*16HEXDIG [ ";" extensions ] CR LF  data  CR LF
//   last      = 1*16"0"    [ ";" extensions ] CR LF          then the trailers, not read here
//
// Refused: an empty size, a sign, "0x", blanks around the size, more than 16 digits, control
// characters in an extension, lines that end in a bare LF, data that no CR LF follows. Extensions
// are skipped, and bounded both per line and against the data they come with, so that a client
// can't make the node read without end for a small body.
//
// Incremental: data is handed over as views of the caller's bytes, nothing is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gyre::http {

class ChunkDecoder {
 public:
  enum class Event : uint8_t {
    need_more,  // all bytes were taken
    data,       // `data` is the next piece of the body
    last,       // the zero chunk's line was read; `consumed` ends right behind it
    error,
  };
  struct Step {
    Event event = Event::need_more;
    size_t consumed = 0;
    std::string_view data;
    std::string_view reason;  // of an error, living as long as the program
    bool chunk_ends = false;  // of data: the last piece of its chunk
  };

  Step feed(std::string_view bytes);

  // The sizes of all chunks announced so far; saturates.
  uint64_t announced_bytes() const { return announced_bytes_; }

 private:
  enum class State : uint8_t { size, extension, size_lf, data, data_cr, data_lf, last, failed };

  std::string_view take_line_byte(char c);
  std::string_view end_line();
  Step fail(size_t consumed, std::string_view reason);

  uint64_t remaining_ = 0;
  uint64_t announced_bytes_ = 0;
  uint64_t overhead_bytes_ = 0;
  uint32_t line_bytes_ = 0;
  uint8_t digits_ = 0;
  State state_ = State::size;
};

}  // namespace gyre::http
