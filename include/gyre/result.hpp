// Expected failures. Every fallible function returns Result<T>; exceptions are for start-up and
// bugs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace gyre {

// What went wrong, as far as a caller may want to branch on it. Anything the operating system
// said is kept beside it in Error::os_error.
enum class Errc : uint8_t {
  ok = 0,
  cancelled,       // the scope or deadline ended the operation
  timed_out,       // a deadline passed
  closed,          // the peer, channel or component was closed
  not_found,       // the key, file or name does not exist
  already_exists,  // a file or lock that must be new is there
  busy,            // held by somebody else (data directory, port)
  overloaded,      // no room now: try again later
  too_large,       // over a named limit
  invalid,         // the caller's argument or a file's content makes no sense
  corrupt,         // stored bytes fail their checksum or structure
  read_only,       // the shard stopped accepting writes after a storage error
  no_space,        // ENOSPC, EDQUOT
  unsupported,     // not available on this kernel, file or version
  io,              // any other error of the operating system
};

std::string_view to_string(Errc code) noexcept;

// `os_error` is a positive errno or 0. `detail` is a sentence for people: what, where, what to do.
struct [[nodiscard]] Error {
  Errc code = Errc::io;
  int os_error = 0;
  std::string detail;

  static Error from_errno(int positive_errno, std::string detail = {});
  static Error of(Errc code, std::string detail = {}) { return {code, 0, std::move(detail)}; }

  // "corrupt: <detail> (<strerror>)"
  std::string message() const;
};

template <class T>
using Result = tl::expected<T, Error>;

using tl::unexpected;

inline tl::unexpected<Error> fail(Errc code, std::string detail = {}) {
  return tl::unexpected<Error>(Error::of(code, std::move(detail)));
}
inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace gyre
