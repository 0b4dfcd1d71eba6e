// Our own strict reading of a request's head or trailers. It comes before llhttp and rejects what
// llhttp 8.1 lets through: bare CR or LF, folded lines, space before a colon, Content-Length beside
// Transfer-Encoding, repeated or listed lengths, codings other than `chunked`, and more (RFC 9112
// sections 2.2, 3, 5.1, 5.2, 6.1, 6.2, 6.3, 11.2).
//
// One pass over the bytes, no allocation, no copy. The scanner keeps offsets, not pointers, so a
// head that arrives in pieces may move between calls. Lines are judged in order, each when it is
// complete (a forbidden control character and a limit even before that), so the outcome doesn't
// depend on how the bytes were split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/line_scanner.hpp"
#include "http/request.hpp"

namespace gyre::http {

class HeadScanner {
 public:
  enum class Part : uint8_t { request, trailers };
  enum class Progress : uint8_t { need_more, done, error };

  explicit HeadScanner(Part part = Part::request) : in_line_(part == Part::request), part_(part) {}

  // `base` holds what it held before, now `size` bytes of it. Not to be called after done or error.
  Progress scan(const char* base, size_t size);

  const ParseError& error() const { return error_; }
  size_t head_end() const { return lines_.next_begin(); }  // after done: first byte past the head
  size_t request_begin() const { return request_begin_; }  // past empty lines before the request
  size_t target_begin() const { return target_.at; }
  size_t target_size() const { return target_.size; }
  size_t method_size() const { return method_name_.size; }
  // Whether the bytes scanned so far (`size` of them) hold anything but empty lines.
  bool begun(size_t size) const { return size > request_begin_ || !in_line_; }

  void fill(const char* base, RequestHead& out) const;

 private:
  struct Extent {
    uint32_t at = 0;
    uint32_t size = 0;
    std::string_view in(const char* base) const { return {base + at, size}; }
  };

  Progress fail(uint16_t status, std::string_view reason) {
    error_ = {status, reason};
    return Progress::error;
  }
  Progress fail_line(LineScanner::Status status);
  void refuse(uint16_t status, std::string_view reason) { error_ = {status, reason}; }
  void read_request_line(const char* base);
  void read_target(const char* base, std::string_view target);
  void read_absolute_form(const char* base, std::string_view target);
  void read_version(std::string_view version);
  void set_path_and_query(const char* base, std::string_view rest);
  void read_field(const char* base);
  void apply_request_field(const char* base, std::string_view name, std::string_view value);
  void read_content_length(std::string_view value);
  void read_transfer_encoding(std::string_view value);
  void read_connection(std::string_view value);
  void read_host(const char* base, std::string_view value);
  void read_expect(std::string_view value);
  void check_whole();

  LineScanner lines_;
  ParseError error_;
  uint64_t content_length_ = 0;
  size_t request_begin_ = 0;
  size_t fields_begin_ = 0;
  Extent method_name_;
  Extent target_;
  Extent path_;
  Extent query_;
  Extent if_none_match_;
  Extent host_;
  uint8_t empty_lines_ = 0;
  uint8_t field_count_ = 0;
  Method method_ = Method::other;
  uint8_t minor_ = 1;
  bool in_line_;
  Part part_;
  bool path_is_root_ = false;  // an absolute-form target without a path means "/"
  bool has_query_ = false;
  bool has_host_ = false;
  bool has_content_length_ = false;
  bool has_transfer_encoding_ = false;
  bool close_ = false;
  bool keep_alive_ = false;
  bool expect_continue_ = false;
  bool expect_unknown_ = false;
  bool has_if_match_ = false;
  bool has_if_none_match_ = false;
  bool has_origin_ = false;
  bool says_gyre_admin_ = false;
};

}  // namespace gyre::http
