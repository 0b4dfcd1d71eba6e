#include "runtime/uring/children.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace gyre::uring {

namespace {

constexpr const char* own_executable = "/proc/self/exe";
constexpr int exit_code_not_started = 127;

tl::unexpected<Error> failed(const char* what) {
  return fail(Error::from_errno(errno, what));
}

// In the child, where only what is safe in a signal handler may be called: the parent has threads.
[[noreturn]] void become(char* const* argv, int output_fd, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(exit_code_not_started);  // it has ended already
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output_fd, STDOUT_FILENO);
  ::dup2(output_fd, STDERR_FILENO);
  if (nothing > STDERR_FILENO) ::close(nothing);
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::execv(own_executable, argv);
  ::_exit(exit_code_not_started);
}

}  // namespace

Result<Child> start_child(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"gyre"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : all) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed("pipe");
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) become(argv.data(), ends[1], parent);
  const int error = errno;
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    errno = error;
    return failed("fork");
  }
  return Child{child, ends[0]};
}

std::optional<ChildEnd> child_end(pid_t pid) {
  int status = 0;
  const pid_t ended = ::waitpid(pid, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return {};
  if (ended < 0) return ChildEnd{.exit_code = exit_code_not_started};
  if (WIFSIGNALED(status)) return ChildEnd{.signal = WTERMSIG(status)};
  return ChildEnd{.exit_code = WEXITSTATUS(status)};
}

void terminate_child(pid_t pid) {
  ::kill(pid, SIGTERM);
}

void kill_child(pid_t pid) {
  ::kill(pid, SIGKILL);
}

Result<std::string> make_temporary_directory(const std::string& prefix) {
  const char* root = std::getenv("TMPDIR");
  std::string path = root != nullptr && root[0] == '/' ? root : "/tmp";
  path += "/" + prefix + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return fail(Error::from_errno(errno, "cannot make a directory as " + path));
  }
  return path;
}

Result<void> make_secret_file(const std::string& path) {
  std::array<unsigned char, 32> bytes;
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return failed("getrandom");
  }
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  text += '\n';
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(Error::from_errno(errno, "cannot make " + path));
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  ::close(fd);
  if (!written) return fail(Error::from_errno(error, "cannot write " + path));
  return {};
}

}  // namespace gyre::uring
