// `gyre cluster`: some nodes on this machine as child processes, to try a cluster out.
//
// The directory of a cluster holds what makes a later start with it the same cluster:
//
//   LOCK     one `gyre cluster` at a time
//   nodes    the URLs, one a line: the nodes' data belongs to them
//   secret   what the nodes know each other by; of mode 0600
//   n1, n2 … the nodes' data
//
// Whoever looks after processes must not hang on them: what they write goes through the bounded log,
// they are told to stop by SIGTERM, and killed when that takes too long or somebody asks again.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include <gyre/file.hpp>
#include <gyre/io.hpp>
#include <gyre/scope.hpp>
#include <gyre/signals.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "base/node_url.hpp"
#include "node/commands/client_commands.hpp"
#include "runtime/uring/children.hpp"
#include "runtime/uring/cores.hpp"
#include "runtime/uring/node.hpp"
#include "store/file_names.hpp"

namespace gyre {

namespace {

constexpr std::string_view host = "127.0.0.1";
constexpr Nanos stop_patience = seconds(15);  // a node promises 10
constexpr Nanos end_poll_interval = milliseconds(2);
constexpr size_t line_bytes_max = 16u << 10;
constexpr size_t read_bytes = 16u << 10;
constexpr size_t nodes_file_bytes_max = 64u << 10;

struct Member {
  std::string name;  // n1 …
  std::string url;
  uint16_t port = 0;
  uring::Child child;
  bool running = false;
  bool ready = false;
  uring::ChildEnd end{};
};

Task<Result<void>> remove_tree(std::string path) {
  Result<std::vector<DirEntry>> entries = co_await list_directory(path);
  if (!entries) co_return fail(entries.error());
  for (const DirEntry& entry : *entries) {
    const std::string inner = join_path(path, entry.name);
    Result<void> removed;
    if (entry.is_directory) {
      removed = co_await remove_tree(inner);
    } else {
      removed = co_await unlink_file(inner);
    }
    if (!removed) co_return removed;
  }
  co_return co_await remove_directory(path);
}

std::string describe(const uring::ChildEnd& end) {
  return end.signal != 0 ? fmt::format("was ended by signal {}", end.signal)
                         : fmt::format("ended with exit code {}", end.exit_code);
}

class LocalCluster {
 public:
  explicit LocalCluster(const ClusterCommand& command) : command_(command) {}

  Task<int> run();

 private:
  Task<Result<void>> prepare();
  Task<Result<void>> find_directory();
  Task<Result<void>> read_nodes(std::string path);
  Task<Result<void>> pick_ports();
  Task<Result<void>> check_ports();
  std::vector<std::string> arguments_of(const Member& member) const;
  Result<void> start(Member& member);
  Task<void> watch(Member* member);
  Task<void> heed(Signals* signals);
  Task<void> kill_late();
  void take_line(Member& member, std::string_view line);
  void on_running(void (*tell)(pid_t pid));
  bool any_running() const { return std::ranges::any_of(members_, &Member::running); }
  bool all_ready() const { return std::ranges::all_of(members_, &Member::ready); }
  Task<void> await_change();
  Task<bool> serve();
  Task<void> stop();
  std::string summary() const;

  const ClusterCommand& command_;
  std::string directory_;
  bool is_temporary_ = false;
  File lock_;
  std::vector<Member> members_;
  Event changed_;
  bool stop_asked_ = false;
  bool stopping_ = false;
  unsigned died_ = 0;  // by themselves
  bool ended_well_ = true;
  Scope watching_{nullptr, "nodes"};
  Scope heeding_{nullptr, "signals"};
};

// --- what it starts with ------------------------------------------------------------------------

Task<Result<void>> LocalCluster::find_directory() {
  if (command_.directory.empty()) {
    Result<std::string> made = uring::make_temporary_directory("gyre-cluster-");
    if (!made) co_return fail(made.error());
    directory_ = std::move(*made);
    is_temporary_ = true;
    co_return Result<void>{};
  }
  directory_ = command_.directory;
  if (Result<void> made = co_await make_directories(directory_); !made) {
    co_return fail(Errc::invalid, fmt::format("--dir {}: {}", directory_, cause_of(made.error())));
  }
  Result<File> lock = co_await lock_file(join_path(directory_, "LOCK"));
  if (!lock && lock.error().code == Errc::busy) {
    co_return fail(Errc::busy, fmt::format("--dir {} is in use by another gyre cluster: stop that "
                                           "one, or choose another directory",
                                           directory_));
  }
  if (!lock) co_return fail(lock.error());
  lock_ = std::move(*lock);
  co_return Result<void>{};
}

// The nodes that the directory's data belongs to.
Task<Result<void>> LocalCluster::read_nodes(std::string path) {
  Result<std::string> text = co_await read_file(path, nodes_file_bytes_max);
  if (!text) co_return fail(text.error());
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    Result<std::string> url = parse_node_url(line);
    if (!url || split_node_url(*url).host != host) {
      co_return fail(Errc::corrupt, fmt::format("{}: {} is not the URL of a node on this machine",
                                                path, printable(line)));
    }
    Member& member = members_.emplace_back();
    member.url = std::move(*url);
    member.port = split_node_url(member.url).port;
  }
  if (command_.nodes && *command_.nodes != members_.size()) {
    co_return fail(Errc::invalid,
                   fmt::format("{} holds the data of {} nodes, not {}: the number of nodes can't "
                               "be changed with data in place. Choose another --dir",
                               directory_, members_.size(), *command_.nodes));
  }
  if (command_.base_port && *command_.base_port != members_.front().port) {
    co_return fail(Errc::invalid, fmt::format("{} holds the data of nodes from {} on: leave "
                                              "--base-port out, or choose another --dir",
                                              directory_, members_.front().url));
  }
  co_return Result<void>{};
}

Task<Result<void>> LocalCluster::pick_ports() {
  members_.resize(command_.nodes.value_or(ClusterCommand::nodes_default));
  std::vector<std::unique_ptr<Listener>> held;  // so that each gets another one
  Result<void> opened{};
  for (size_t i = 0; i < members_.size() && opened; ++i) {
    if (command_.base_port) {
      members_[i].port = static_cast<uint16_t>(*command_.base_port + i);
      continue;
    }
    held.push_back(std::make_unique<Listener>());
    opened = co_await held.back()->open({.address = std::string(host), .port = 0, .backlog = 1});
    if (opened) members_[i].port = uring::listening_port(held.back()->fd());
  }
  for (const auto& listener : held) {
    if (listener->is_open()) co_await listener->close();
  }
  for (Member& member : members_) member.url = fmt::format("http://{}:{}", host, member.port);
  co_return opened;
}

Task<Result<void>> LocalCluster::check_ports() {
  for (const Member& member : members_) {
    Listener listener;
    Result<void> opened = co_await listener.open(
        {.address = std::string(host), .port = member.port, .backlog = 1, .probe_port = true});
    if (opened) {
      co_await listener.close();
    } else if (opened.error().os_error == EADDRINUSE) {
      co_return fail(Errc::busy,
                     fmt::format("port {} of node {} is in use by another process: "
                                 "stop that one, or choose another {}",
                                 member.port, member.name,
                                 is_temporary_ || command_.base_port ? "--base-port" : "--dir"));
    } else {
      co_return fail(opened.error());
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> LocalCluster::prepare() {
  if (Result<void> found = co_await find_directory(); !found) co_return found;
  const std::string nodes_path = join_path(directory_, "nodes");
  const Result<FileStatus> known = co_await file_status(nodes_path);
  if (!known) co_return fail(known.error());
  Result<void> chosen{};
  if (known->exists) {
    chosen = co_await read_nodes(nodes_path);
  } else {
    chosen = co_await pick_ports();
  }
  if (!chosen) co_return chosen;
  for (size_t i = 0; i < members_.size(); ++i) members_[i].name = fmt::format("n{}", i + 1);
  if (Result<void> free = co_await check_ports(); !free) co_return free;
  Result<void> secret = uring::make_secret_file(join_path(directory_, "secret"));
  if (!secret && secret.error().os_error != EEXIST) co_return secret;
  if (known->exists) co_return Result<void>{};
  std::string urls;
  for (const Member& member : members_) urls += member.url + "\n";
  co_return co_await replace_file(directory_, "nodes", std::move(urls));
}

// --- the nodes ----------------------------------------------------------------------------------

std::vector<std::string> LocalCluster::arguments_of(const Member& member) const {
  std::string peers;
  for (const Member& other : members_) peers += (peers.empty() ? "" : ",") + other.url;
  std::vector<std::string> arguments = {"serve",
                                        "--listen",
                                        fmt::format("{}:{}", host, member.port),
                                        "--advertise",
                                        member.url,
                                        "--peers",
                                        std::move(peers),
                                        "--secret-file",
                                        join_path(directory_, "secret"),
                                        "--data",
                                        join_path(directory_, member.name),
                                        "--cores",
                                        std::to_string(command_.cores),
                                        "--memory",
                                        std::to_string(command_.memory_bytes)};
  if (command_.replication) {
    arguments.insert(arguments.end(), {"--replication", std::to_string(*command_.replication)});
  }
  return arguments;
}

Result<void> LocalCluster::start(Member& member) {
  Result<uring::Child> child = uring::start_child(arguments_of(member));
  if (!child) return fail(child.error());
  member.child = *child;
  member.running = true;
  watching_.spawn(watch(&member));
  return {};
}

void LocalCluster::take_line(Member& member, std::string_view line) {
  Reactor::current().backend().log(fmt::format("{} | {}", member.name, line));
  if (line.starts_with("gyre serves ")) {
    member.ready = true;
    changed_.set();
  }
}

// Until it has ended.
Task<void> LocalCluster::watch(Member* member) {
  std::string text;
  std::vector<char> piece(read_bytes);
  for (;;) {
    const Result<size_t> size_bytes = co_await read_stream(member->child.output_fd, piece);
    if (!size_bytes || *size_bytes == 0) break;
    text.append(piece.data(), *size_bytes);
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      take_line(*member, std::string_view(text).substr(0, end));
    }
    if (text.size() > line_bytes_max) take_line(*member, std::exchange(text, {}));
  }
  if (!text.empty()) take_line(*member, text);
  close_detached(Reactor::current(), member->child.output_fd);
  // Its output is closed a moment before it can be waited for.
  std::optional<uring::ChildEnd> end;
  while (!(end = uring::child_end(member->child.pid))) {
    static_cast<void>(co_await sleep_for(end_poll_interval));
  }
  member->end = *end;
  member->running = false;
  const bool well = end->signal == 0 && end->exit_code == 0;
  ended_well_ = ended_well_ && well;
  if (!stopping_) {
    ++died_;
    Reactor::current().backend().log(fmt::format("gyre cluster: {} ({}) {}{}", member->name,
                                                 member->url, describe(*end),
                                                 any_running() ? "; the others go on" : ""));
  }
  changed_.set();
}

void LocalCluster::on_running(void (*tell)(pid_t pid)) {
  for (const Member& member : members_) {
    if (member.running) tell(member.child.pid);
  }
}

// The first signal asks to stop, another one not to wait.
Task<void> LocalCluster::heed(Signals* signals) {
  while (co_await signals->next()) {
    if (stop_asked_) on_running(&uring::kill_child);
    stop_asked_ = true;
    changed_.set();
  }
}

Task<void> LocalCluster::kill_late() {
  if (!co_await sleep_for(stop_patience)) co_return;
  for (const Member& member : members_) {
    if (!member.running) continue;
    Reactor::current().backend().log(
        fmt::format("gyre cluster: {} does not stop and is killed", member.name));
  }
  on_running(&uring::kill_child);
}

Task<void> LocalCluster::await_change() {
  static_cast<void>(co_await changed_.wait());
  changed_.reset();
}

std::string LocalCluster::summary() const {
  std::string text = fmt::format(
      "\n{} nodes are ready, each with {} core{} and --memory {}. Their data is in {}{}\n\n",
      members_.size(), command_.cores, command_.cores == 1 ? "" : "s",
      format_size(command_.memory_bytes), directory_,
      is_temporary_ ? ", which is removed when they stop (keep it with --dir)." : ".");
  for (const Member& member : members_) text += fmt::format("  {}  {}\n", member.name, member.url);
  text += fmt::format(
      "\nWrite through one, read through another:\n\n"
      "  curl -i -X PUT --data-binary 'hello' '{}/v0/entity?id=greeting'\n"
      "  curl -i '{}/v0/entity?id=greeting'\n"
      "  gyre admin status --url {}\n\n"
      "Ctrl-C stops them.\n",
      members_.front().url, members_.back().url, members_.front().url);
  return text;
}

// Until somebody asks to stop or nobody is left; false if they did not come up.
Task<bool> LocalCluster::serve() {
  while (!all_ready() && died_ == 0 && !stop_asked_) co_await await_change();
  if (!all_ready() || died_ != 0) {
    if (!stop_asked_) {
      static_cast<void>(co_await complain("not all nodes could be started: see their lines above"));
    }
    co_return stop_asked_;
  }
  static_cast<void>(co_await write_stream(stdout_fd, summary()));
  while (any_running() && !stop_asked_) co_await await_change();
  co_return stop_asked_;
}

Task<void> LocalCluster::stop() {
  stopping_ = true;
  on_running(&uring::terminate_child);
  Scope late(nullptr, "kill");
  late.spawn(kill_late());
  co_await watching_.join();
  late.request_stop();
  co_await late.join();
}

Task<int> LocalCluster::run() {
  Signals signals;
  heeding_.spawn(heed(&signals));
  bool good = true;
  if (Result<void> prepared = co_await prepare(); !prepared) {
    const Error& error = prepared.error();
    const bool ours = error.os_error == 0 && !error.detail.empty();
    static_cast<void>(co_await complain(ours ? error.detail : error.message()));
    good = false;
  }
  for (size_t i = 0; i < members_.size() && good && !stop_asked_; ++i) {
    if (Result<void> started = start(members_[i]); !started) {
      static_cast<void>(co_await complain(
          fmt::format("cannot start {}: {}", members_[i].name, started.error().message())));
      good = false;
    }
  }
  if (good) good = co_await serve();
  co_await stop();
  heeding_.request_stop();
  co_await heeding_.join();
  co_await signals.close();
  if (lock_.is_open()) static_cast<void>(co_await lock_.close());
  if (is_temporary_) {
    if (Result<void> removed = co_await remove_tree(directory_); !removed) {
      static_cast<void>(co_await complain(
          fmt::format("{} could not be removed: {}", directory_, cause_of(removed.error()))));
    }
  }
  co_return good&& ended_well_ ? exit_ok : exit_failed;
}

}  // namespace

int run_cluster(const ClusterCommand& command) {
  uring::block_signals();
  return run_on_reactor([&command]() -> Task<int> {
    auto cluster = std::make_unique<LocalCluster>(command);
    co_return co_await cluster->run();
  });
}

}  // namespace gyre
