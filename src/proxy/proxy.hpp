// The caching proxy: its cores and what they share. A key belongs to one core, by its hash, which
// remembers it and asks Redis for it; lookups of other cores travel there.
//
// Everything here is fixed before the cores start, or written by one core and read by others
// through messages only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/acceptor.hpp>
#include <gyre/mailbox.hpp>
#include <gyre/result.hpp>
#include <gyre/signals.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "proxy/options.hpp"
#include "tls/session.hpp"

namespace gyre::proxy {

class AdminFront;
class HttpFront;
class Origin;
class RespFront;

class Proxy {
 public:
  // What it needs of the world beyond the Backend.
  struct Environment {
    uint16_t (*port_of)(int listening_fd);
    void (*print)(std::string_view line);  // to standard output
    void (*exit_now)(int code);            // does not return
  };
  Proxy(const Options& options, const Environment& environment);
  ~Proxy();

  const Options& options() const { return options_; }
  unsigned cores() const { return options_.cores; }
  Fabric& fabric() { return fabric_; }
  ConnectionCounts& counts() { return counts_; }
  ConnectionSink* const* sinks() const { return sinks_.data(); }
  // Of RESP clients.
  ConnectionCounts& resp_counts() { return resp_counts_; }
  ConnectionSink* const* resp_sinks() const { return resp_sinks_.data(); }
  uint16_t port_of(int listening_fd) const { return environment_.port_of(listening_fd); }
  Nanos started_at() const { return started_at_; }

  // Which core a key belongs to.
  unsigned owner_of(std::string_view key) const;
  // Of a core; to be used on that core.
  Origin& origin(unsigned core) { return *cores_[core].origin; }
  HttpFront& front(unsigned core) { return *cores_[core].front; }
  // Null without --resp.
  RespFront* resp_front(unsigned core) { return cores_[core].resp.get(); }
  // Of a core, once it serves; null without --redis-tls.
  const tls::Context* redis_tls(unsigned core) const { return cores_[core].redis_tls.get(); }
  // On core 0.
  bool is_draining() const { return draining_; }

  // What core `index` runs: core 0 leads the others through start and stop.
  Task<void> run(unsigned index);
  // After all cores have ended. 0, or the exit code of a failed start.
  int exit_code() const { return exit_code_; }

 private:
  struct CoreParts {
    std::unique_ptr<tls::Context> redis_tls;
    std::unique_ptr<Origin> origin;
    std::unique_ptr<HttpFront> front;
    std::unique_ptr<RespFront> resp;
    std::unique_ptr<Event> stopped;
  };

  Task<void> lead();
  Task<Result<void>> start_all();
  Task<Result<void>> read_passwords();
  Task<Result<void>> read_certificates();
  void connect_to_redis(unsigned core);
  Task<Result<void>> listen_all();
  Task<void> heed_signals(Signals& signals);
  Task<void> on_all(Task<bool> (*work)(Proxy& proxy, unsigned core));
  static Task<bool> drain_core(Proxy& proxy, unsigned core);
  static Task<bool> close_core(Proxy& proxy, unsigned core);
  void print_ready();
  void report(const Error& error);

  Options options_;
  std::string redis_password_;
  std::string resp_password_;
  tls::Settings redis_tls_settings_;  // until every core has made its context
  Environment environment_;
  Fabric fabric_;
  ConnectionCounts counts_;
  ConnectionCounts resp_counts_;
  std::vector<CoreParts> cores_;
  std::vector<ConnectionSink*> sinks_;
  std::vector<ConnectionSink*> resp_sinks_;
  std::unique_ptr<AdminFront> admin_;  // core 0's
  Event stop_asked_;                   // by a signal; core 0's
  bool draining_ = false;
  Nanos started_at_ = 0;
  int exit_code_ = 0;
};

}  // namespace gyre::proxy
