#include "proxy/redis_tls.hpp"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include <gyre/file.hpp>

namespace gyre::proxy {

namespace {

constexpr size_t file_bytes_max = 16u << 20;

// Where distributions keep whom they trust.
constexpr std::string_view system_authorities[] = {
    "/etc/ssl/certs/ca-certificates.crt",  // Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",    // Fedora
    "/etc/ssl/ca-bundle.pem",              // openSUSE
    "/etc/ssl/cert.pem",
};

constexpr tls::Remedies remedies{
    .wrong_name = "--redis-server-name tells which of these is meant",
    .untrusted = "--redis-ca names a file with who is",
    .no_certificate = "--redis-cert and --redis-key name one's files",
    .no_tls = "is --redis-port the port for TLS?",
};

Task<Result<std::string>> read_named(std::string path, std::string_view flag) {
  if (path.empty()) co_return std::string();
  Result<std::string> text = co_await read_file(path, file_bytes_max);
  if (!text) {
    co_return fail(text.error().code, fmt::format("{} {}: {}", flag, path, text.error().message()));
  }
  co_return text;
}

Task<Result<std::string>> read_system_authorities() {
  for (const std::string_view path : system_authorities) {
    Result<std::string> text = co_await read_file(std::string(path), file_bytes_max);
    if (text) co_return text;
  }
  co_return fail(Errc::not_found,
                 "no list of trusted certificates was found on this machine: name a file with "
                 "--redis-ca, or install ca-certificates");
}

Result<void> check(const tls::Settings& settings, const std::string& file, std::string_view flag) {
  if (auto made = tls::Context::make(settings); !made) {
    return fail(Errc::invalid, fmt::format("{} {}: {}", flag, file, made.error().detail));
  }
  return {};
}

}  // namespace

Task<Result<tls::Settings>> read_redis_tls(const Options& options) {
  tls::Settings settings;
  settings.verify = !options.redis_tls_insecure;
  settings.remedies = remedies;
  if (settings.verify) {
    Result<std::string> text = options.redis_ca_file.empty()
                                   ? co_await read_system_authorities()
                                   : co_await read_named(options.redis_ca_file, "--redis-ca");
    if (!text) co_return fail(text.error());
    settings.authorities = std::move(*text);
    if (auto sound = check(settings, options.redis_ca_file, "--redis-ca"); !sound) {
      co_return fail(sound.error());
    }
  }
  Result<std::string> text = co_await read_named(options.redis_cert_file, "--redis-cert");
  if (!text) co_return fail(text.error());
  settings.certificate = std::move(*text);
  text = co_await read_named(options.redis_key_file, "--redis-key");
  if (!text) co_return fail(text.error());
  settings.key = std::move(*text);
  const std::string both = options.redis_cert_file + " and " + options.redis_key_file;
  if (auto sound = check(settings, both, "--redis-cert, --redis-key"); !sound) {
    co_return fail(sound.error());
  }
  co_return settings;
}

}  // namespace gyre::proxy
