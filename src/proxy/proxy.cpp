#include "proxy/proxy.hpp"

#include <fmt/format.h>

#include <gyre/call.hpp>
#include <gyre/file.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>
#include <gyre/when.hpp>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "proxy/admin_front.hpp"
#include "proxy/http_front.hpp"
#include "proxy/origin.hpp"
#include "proxy/redis_tls.hpp"
#include "proxy/resp_front.hpp"

namespace gyre::proxy {

namespace {

// Lookups under way get this long when the proxy is told to stop; then connections are cut.
constexpr Nanos drain_patience = seconds(6);
// Whoever asks twice doesn't want to wait for what is under way.
constexpr int exit_code_second_signal = 130;
// So long the ready line waits for Redis: scripts that started both find it there.
constexpr Nanos first_connection_patience = milliseconds(500);
constexpr size_t password_bytes_max = 4096;
constexpr Nanos first_connection_interval = milliseconds(5);

}  // namespace

Proxy::Proxy(const Options& options, const Environment& environment)
    : options_(options),
      environment_(environment),
      fabric_(options.cores),
      counts_(options.cores),
      resp_counts_(options.cores),
      cores_(options.cores),
      sinks_(options.cores, nullptr),
      resp_sinks_(options.cores, nullptr) {
  for (CoreParts& core : cores_) core.stopped = std::make_unique<Event>();
}

Proxy::~Proxy() = default;

unsigned Proxy::owner_of(std::string_view key) const {
  return cores() == 1 ? 0 : shard_of(key, cores());
}

Task<void> Proxy::run(unsigned index) {
  CoreParts& core = cores_[index];
  core.origin = std::make_unique<Origin>(options_, index, cores());
  core.front = std::make_unique<HttpFront>(*this, index, *core.origin);
  sinks_[index] = core.front.get();
  if (options_.resp) {
    core.resp = std::make_unique<RespFront>(*this, index, *core.origin);
    resp_sinks_[index] = core.resp.get();
  }
  if (index == 0) {
    co_await lead();
  } else {
    static_cast<void>(co_await core.stopped->wait());  // all else comes by messages of core 0
  }
  core.resp.reset();
  core.front.reset();
  core.origin.reset();
  core.redis_tls.reset();
}

void Proxy::report(const Error& error) {
  Reactor::current().log("error", fmt::format("event=start_failed {}", error.message()));
  exit_code_ = 1;
}

// Every core, at the same time.
Task<void> Proxy::on_all(Task<bool> (*work)(Proxy& proxy, unsigned core)) {
  struct One {
    static Task<bool> run(Proxy* proxy, unsigned core, Task<bool> (*work)(Proxy&, unsigned)) {
      co_return co_await spawn_on(core, [proxy, core, work] { return work(*proxy, core); });
    }
  };
  std::vector<Task<bool>> tasks;
  for (unsigned core = 0; core < cores(); ++core) tasks.push_back(One::run(this, core, work));
  static_cast<void>(co_await when_all<bool>(std::move(tasks)));
}

namespace {
Task<Result<std::string>> read_password(std::string path, std::string_view flag) {
  if (path.empty()) co_return std::string();
  Result<std::string> password = co_await read_file(path, password_bytes_max);
  if (!password) co_return fail(password.error());
  while (!password->empty() && (password->back() == '\n' || password->back() == '\r')) {
    password->pop_back();
  }
  if (password->empty()) co_return fail(Errc::invalid, fmt::format("{} is empty ({})", path, flag));
  co_return password;
}
}  // namespace

Task<Result<void>> Proxy::read_passwords() {
  Result<std::string> password =
      co_await read_password(options_.redis_password_file, "--redis-password-file");
  if (!password) co_return fail(password.error());
  redis_password_ = std::move(*password);
  password = co_await read_password(options_.resp_password_file, "--resp-password-file");
  if (!password) co_return fail(password.error());
  resp_password_ = std::move(*password);
  co_return Result<void>{};
}

Task<Result<void>> Proxy::read_certificates() {
  if (!options_.redis_tls) co_return Result<void>{};
  Result<tls::Settings> settings = co_await read_redis_tls(options_);
  if (!settings) co_return fail(settings.error());
  redis_tls_settings_ = std::move(*settings);
  if (options_.redis_tls_insecure) {
    Reactor::current().log("warn",
                           "event=redis_not_verified advice=\"--redis-tls-insecure trusts whoever "
                           "answers; use --redis-ca instead\"");
  }
  co_return Result<void>{};
}

void Proxy::connect_to_redis(unsigned core) {
  CoreParts& parts = cores_[core];
  if (options_.redis_tls) {
    auto context = tls::Context::make(redis_tls_settings_);
    GYRE_ASSERT(context);  // the same texts have made one before
    parts.redis_tls = std::move(*context);
  }
  parts.origin->open(redis_password_, parts.redis_tls.get());
}

Task<Result<void>> Proxy::listen_all() {
  uint16_t port = options_.listen.port;
  uint16_t resp_port = options_.resp ? options_.resp->port : 0;
  for (unsigned core = 0; core < cores(); ++core) {
    const bool first = core == 0;
    Result<void> listening = co_await spawn_on(
        core, [this, core, first, port] { return cores_[core].front->listen(first, port); });
    if (!listening) co_return listening;
    if (first) port = cores_[0].front->port();
    if (!options_.resp) continue;
    listening = co_await spawn_on(core, [this, core, first, resp_port] {
      return cores_[core].resp->listen(first, resp_port);
    });
    if (!listening) co_return listening;
    if (first) resp_port = cores_[0].resp->port();
  }
  co_return Result<void>{};
}

Task<Result<void>> Proxy::start_all() {
  if (Result<void> read = co_await read_passwords(); !read) co_return read;
  if (Result<void> read = co_await read_certificates(); !read) co_return read;
  if (Result<void> listening = co_await listen_all(); !listening) co_return listening;
  if (options_.admin) {
    admin_ = std::make_unique<AdminFront>(*this);
    if (Result<void> admin = co_await admin_->listen(); !admin) co_return admin;
    admin_->accept();
  }
  co_await on_all([](Proxy& proxy, unsigned core) -> Task<bool> {
    proxy.connect_to_redis(core);
    const Nanos until = Reactor::current().after(first_connection_patience);
    while (!proxy.origin(core).upstream().tried() && Reactor::current().now() < until) {
      if (!co_await sleep_for(first_connection_interval)) break;
    }
    co_return true;
  });
  tls::wipe(redis_tls_settings_.key);
  // Every core is up: a connection may be handed to any of them.
  co_await on_all([](Proxy& proxy, unsigned core) -> Task<bool> {
    proxy.front(core).accept();
    if (RespFront* resp = proxy.resp_front(core); resp != nullptr) {
      resp->accept(proxy.redis_password_, proxy.resp_password_);
    }
    co_return true;
  });
  co_return Result<void>{};
}

Task<bool> Proxy::drain_core(Proxy& proxy, unsigned core) {
  if (core == 0 && proxy.admin_) co_await proxy.admin_->drain();
  const Nanos deadline = Reactor::current().now() + drain_patience;
  bool whole = co_await proxy.front(core).drain(deadline);
  if (RespFront* resp = proxy.resp_front(core); resp != nullptr) {
    whole = co_await resp->drain(deadline) && whole;
  }
  if (!whole) {
    Reactor::current().log("warn", "event=connections_cut reason=\"not finished in time\"");
  }
  co_return whole;
}

Task<bool> Proxy::close_core(Proxy& proxy, unsigned core) {
  if (RespFront* resp = proxy.resp_front(core); resp != nullptr) co_await resp->close();
  co_await proxy.origin(core).close();
  co_return true;
}

Task<void> Proxy::heed_signals(Signals& signals) {
  const Result<int> first = co_await signals.next();
  if (!first) {
    if (first.error().code == Errc::cancelled) co_return;
    report(first.error());  // who can't be asked to stop must not serve
  }
  stop_asked_.set();
  if (co_await signals.next()) environment_.exit_now(exit_code_second_signal);
}

Task<void> Proxy::lead() {
  started_at_ = Reactor::current().now();
  {
    Signals signals;
    Scope heeding(nullptr, "signals");
    heeding.spawn(heed_signals(signals));
    if (Result<void> started = co_await start_all(); started) {
      print_ready();
      static_cast<void>(co_await stop_asked_.wait());
    } else {
      report(started.error());
    }
    draining_ = true;
    co_await on_all(&Proxy::drain_core);
    co_await on_all(&Proxy::close_core);
    admin_.reset();
    heeding.request_stop();
    co_await heeding.join();
    co_await signals.close();
  }
  for (unsigned core = 1; core < cores(); ++core) {
    co_await call_on(core, [this, core] {
      cores_[core].stopped->set();
      return true;
    });
  }
}

void Proxy::print_ready() {
  environment_.print(fmt::format(
      "gyre proxy serves http://{}:{} resp={} admin={} cores={} redis={} {} keys_max={} "
      "ttl_ms={}\n",
      options_.listen.host, cores_[0].front->port(),
      options_.resp ? fmt::format("{}:{}", options_.resp->host, cores_[0].resp->port()) : "off",
      admin_ ? admin_->url() : "off", cores(), redis_name(options_),
      cores_[0].origin->is_coherent() ? "coherent"
      : cores_[0].origin->is_up()     ? "connected"
                                      : "unreachable",
      options_.keys_max, options_.others.ttl_max / milliseconds(1)));
}

}  // namespace gyre::proxy
