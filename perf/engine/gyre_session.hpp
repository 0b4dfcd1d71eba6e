// Our engine as a session: a thread with a reactor per CPU, a shard on each, one more job at a time
// for all of them.
#pragma once

#include <memory>

#include "engine/session.hpp"

namespace gyre::engine {

Result<std::unique_ptr<Session>> open_gyre(const Settings& settings);

}  // namespace gyre::engine
