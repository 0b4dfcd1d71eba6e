// Which names the Host field of a request may have.
//
// A page of an attacker whose name is made to resolve to the loopback address (DNS rebinding) is, to
// a browser, of one origin with what answers there, and may read all of it. Its requests name the
// attacker's host, though. An address can't be made to resolve elsewhere, and localhost is not the
// attacker's; other names are ours only if somebody says so.
//
// Without a list, a listener on a loopback address takes loopback names and addresses, any other
// listener takes everything: under which names machines are reached from elsewhere isn't known here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

namespace gyre::proxy {

// 127.0.0.0/8 and ::1.
bool is_loopback(std::string_view address);

class AllowedHosts {
 public:
  static constexpr std::string_view refusal =
      "this Host is not served here: use localhost or an address, or name it with --allowed-hosts";

  // `list`: names separated by commas; "*": any; "": as said above.
  AllowedHosts(std::string_view listen_address, std::string_view list);
  // What is wrong with a list, to go on behind its quotation; ok if nothing.
  static Result<void> check(std::string_view list);

  // `host` with or without a port; empty: an old client, no browser, that did not say.
  bool allow(std::string_view host) const;

 private:
  bool any_ = false;
  std::vector<std::string> names_;  // in lower case
};

}  // namespace gyre::proxy
