// The configuration of `gyre proxy`, as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proxy/policy.hpp"
#include "resp/cluster.hpp"

namespace gyre::proxy {

struct ListenAddress {
  std::string host = "127.0.0.1";  // numeric
  uint16_t port = 0;
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

struct Options {
  ListenAddress listen{"127.0.0.1", 8000};
  std::string allowed_hosts;  // see AllowedHosts
  std::optional<ListenAddress> resp;
  std::string resp_password_file;  // of RESP clients
  std::optional<ListenAddress> admin;
  bool admin_is_default = true;  // then another port may be taken if it is in use
  unsigned cores = 1;
  bool pin = false;

  uint64_t keys_max = 1000;  // of all cores together, like the next
  uint64_t cache_bytes_max = 64u << 20;
  Eviction eviction = Eviction::s3_fifo;
  Policy others;                 // for keys that no prefix is for
  std::vector<Policy> policies;  // by prefix

  std::string redis_host = "127.0.0.1";  // or a name
  uint16_t redis_port = 6379;
  std::vector<resp::NodeAddress> redis_cluster;  // some of its nodes; else the one above is used
  std::string redis_user;
  std::string redis_password_file;
  unsigned redis_database = 0;
  bool redis_tls = false;
  std::string redis_ca_file;    // PEM; "": the system's authorities
  std::string redis_cert_file;  // PEM; "": no certificate of our own
  std::string redis_key_file;
  std::string redis_server_name;  // that the certificate is for; "": redis_host
  bool redis_tls_insecure = false;
  bool tracking = true;
  uint64_t redis_timeout_ms = 1000;  // of one fetch

  uint64_t client_rate_per_s = 0;  // requests of one client address; 0: off
  uint64_t total_rate_per_s = 0;
  uint64_t stats_rate_per_s = 20;  // of one client address, for /stats and /metrics
  uint64_t in_flight_max = 16384;  // lookups that wait, of all clients
  uint64_t waiters_max = 4096;     // of these, for one key
  uint64_t connections_max = 10'000;
  unsigned listen_backlog = 1024;
  uint64_t value_bytes_max = 64u << 20;

  std::map<std::string, std::string, std::less<>> origin;  // setting name -> where it came from
};

// Where Redis is, for people: one address, or those of a cluster that were told.
inline std::string redis_name(const Options& options) {
  if (options.redis_cluster.empty()) {
    return resp::NodeAddress{options.redis_host, options.redis_port}.to_string();
  }
  std::string name;
  for (const resp::NodeAddress& node : options.redis_cluster) {
    if (!name.empty()) name += ',';
    name += node.to_string();
  }
  return name;
}

}  // namespace gyre::proxy
