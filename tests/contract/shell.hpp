// Commands of the real binary, as a shell runs them.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "node_process.hpp"

namespace gyre::test {

struct Ran {
  int code = -1;
  std::string output;
  std::string errors;
};

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// Commands with files of their own for the standard streams.
class Shell {
 public:
  explicit Shell(uint16_t port)
      : root_(make_temporary_directory()), url_("http://127.0.0.1:" + std::to_string(port)) {}
  ~Shell() { remove_directory(root_); }

  std::string path(const std::string& name) const { return root_ + "/" + name; }

  // The target comes from GYRE_URL.
  Ran run(std::vector<std::string> arguments, const std::string& input = "") {
    write_text(path("in"), input);
    return run_from(std::move(arguments), path("in"));
  }
  Ran run_from(std::vector<std::string> arguments, const std::string& input_path) {
    const pid_t child = start(std::move(arguments), input_path);
    return finish(child);
  }
  pid_t start(std::vector<std::string> arguments, const std::string& input_path) {
    arguments.insert(arguments.begin(), std::getenv("GYRE_TEST_BINARY"));
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child != 0) return child;
    setenv("GYRE_URL", url_.c_str(), 1);
    dup2(open(input_path.c_str(), O_RDONLY), STDIN_FILENO);
    dup2(open(path("out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    dup2(open(path("err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  Ran finish(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(path("out")),
            read_text(path("err"))};
  }

 private:
  std::string root_;
  std::string url_;
};

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace gyre::test
