// What TLS to Redis needs of the files that the configuration names, read once at the start.
#pragma once

#include <memory>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "proxy/options.hpp"
#include "tls/session.hpp"

namespace gyre::proxy {

// Errors name the flag and the file. Without --redis-ca the system's authorities are taken.
Task<Result<tls::Settings>> read_redis_tls(const Options& options);

}  // namespace gyre::proxy
