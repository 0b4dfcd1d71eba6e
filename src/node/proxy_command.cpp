// `gyre proxy`: check the machine, start the cores, run the proxy.
#include <algorithm>
#include <cstdio>
#include <string>

#include <gyre/reactor.hpp>

#include "node/cli.hpp"
#include "node/descriptor_plan.hpp"
#include "proxy/proxy.hpp"
#include "runtime/uring/cores.hpp"
#include "runtime/uring/node.hpp"
#include "runtime/uring/probe.hpp"
#include "tls/session.hpp"

namespace gyre {

namespace {

void print_line(std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

int run_proxy(const proxy::Options& given) {
  Result<uring::ProbeReport> probed = uring::probe_system(given.cores);
  if (!probed) {
    std::fprintf(stderr, "gyre: %s\n", probed.error().detail.c_str());
    return exit_failed;
  }
  uring::block_signals();
  if (given.redis_tls) tls::prepare();
  const DescriptorPlan descriptors = plan_descriptors(probed->descriptors_max, given.cores);
  proxy::Options options = given;
  options.connections_max = std::min(options.connections_max, descriptors.connections_max);
  options.listen_backlog = descriptors.listen_backlog;

  proxy::Proxy proxy(
      options,
      {.port_of = &uring::listening_port, .print = &print_line, .exit_now = &uring::exit_now});
  const std::string problem = uring::run_cores(
      {.cores = options.cores, .pin = options.pin}, [&](unsigned index, Backend& backend) {
        // As a log line: it must start even if nobody reads its standard error.
        if (index == 0 && !probed->warning.empty()) backend.log("gyre: " + probed->warning);
        Reactor reactor(backend, {.core = index}, &proxy.fabric());
        reactor.run(proxy.run(index));
      });
  if (!problem.empty()) {
    std::fprintf(stderr, "gyre: %s\n", problem.c_str());
    return exit_failed;
  }
  return proxy.exit_code();
}

}  // namespace gyre
