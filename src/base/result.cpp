#include <cerrno>
#include <cstring>

#include <gyre/result.hpp>

namespace gyre {

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::ok:
      return "ok";
    case Errc::cancelled:
      return "cancelled";
    case Errc::timed_out:
      return "timed out";
    case Errc::closed:
      return "closed";
    case Errc::not_found:
      return "not found";
    case Errc::already_exists:
      return "already exists";
    case Errc::busy:
      return "busy";
    case Errc::overloaded:
      return "overloaded";
    case Errc::too_large:
      return "too large";
    case Errc::invalid:
      return "invalid";
    case Errc::corrupt:
      return "corrupt";
    case Errc::read_only:
      return "read-only";
    case Errc::no_space:
      return "no space";
    case Errc::unsupported:
      return "unsupported";
    case Errc::io:
      return "I/O error";
  }
  return "unknown error";
}

namespace {
Errc classify(int positive_errno) {
  switch (positive_errno) {
    case 0:
      return Errc::ok;
    case ECANCELED:
      return Errc::cancelled;
    case ETIMEDOUT:
    case ETIME:
      return Errc::timed_out;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
      return Errc::closed;
    case ENOENT:
      return Errc::not_found;
    case EEXIST:
      return Errc::already_exists;
    case EADDRINUSE:
    case EBUSY:
      return Errc::busy;
    case ENOSPC:
    case EDQUOT:
      return Errc::no_space;
    case EROFS:
      return Errc::read_only;
    case EINVAL:
      return Errc::invalid;
    case EOPNOTSUPP:
    case ENOSYS:
      return Errc::unsupported;
    default:
      return Errc::io;
  }
}
}  // namespace

Error Error::from_errno(int positive_errno, std::string detail) {
  return {classify(positive_errno), positive_errno, std::move(detail)};
}

std::string Error::message() const {
  std::string text(to_string(code));
  if (!detail.empty()) text.append(": ").append(detail);
  if (os_error != 0) text.append(" (").append(std::strerror(os_error)).append(")");
  return text;
}

}  // namespace gyre
