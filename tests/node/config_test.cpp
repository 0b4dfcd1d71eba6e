#include "node/config.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/limits.hpp"

namespace gyre {
namespace {

constexpr uint64_t mebibyte = 1ull << 20;

Machine small_machine() {
  return {.cpus = 2,
          .cpus_source = "the machine's CPUs",
          .cpus_online = 2,
          .memory_bytes = 4096 * mebibyte,
          .memory_source = "the machine's memory"};
}

ConfigInput input_of(std::vector<RawSetting> flags = {},
                     std::map<std::string, std::string> environment = {}) {
  return {
      .flags = std::move(flags), .environment = std::move(environment), .machine = small_machine()};
}

RawSetting flag(std::string name, std::string text) {
  return {Layer::flag, std::move(name), std::move(text), ""};
}

ServeConfig loaded(const ConfigInput& input) {
  auto config = load_serve_config(input);
  if (!config) {
    for (const std::string& line : config.error().lines) MESSAGE(line);
  }
  REQUIRE(config.has_value());
  return *config;
}

// All problems as one text.
std::string refusal(const ConfigInput& input) {
  const auto config = load_serve_config(input);
  REQUIRE_FALSE(config.has_value());
  std::string text;
  for (const std::string& line : config.error().lines) text += line + "\n";
  return text;
}

bool contains(const std::string& text, std::string_view part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("not found: ", part, "\nin: ", text);
  return false;
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    std::string name = (std::filesystem::temp_directory_path() / "gyre-config-XXXXXX").string();
    const int fd = mkstemp(name.data());
    REQUIRE(fd >= 0);
    close(fd);
    path_ = name;
    std::ofstream(path_) << text;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("without any setting the defaults are those of the contract") {
  const ServeConfig config = loaded(input_of());
  CHECK(config.listen == Address{"127.0.0.1", 8080});
  CHECK(config.data == "data");
  CHECK(config.cores == 2);
  CHECK(config.durability == Durability::group);
  CHECK(config.memory_bytes == 1024 * mebibyte);
  CHECK(config.value_bytes_max == 16 * mebibyte);
  CHECK(config.pin);  // both CPUs are used
  CHECK_FALSE(config.resp.has_value());
  CHECK_FALSE(config.shards.has_value());
  CHECK(config.rate_limit_per_s == 0);
  CHECK(config.memory_plan.reserved_bytes > 0);
  CHECK(config.origin.find("cores")->second == "default: all of the machine's CPUs");
}

TEST_CASE("flags beat environment beats file beats default") {
  const TemporaryFile file("listen = \"127.0.0.1:1001\"\ncores = 1\nmax-value = \"1M\"\n");
  const ServeConfig config =
      loaded(input_of({flag("config", file.path()), flag("listen", "127.0.0.1:1003")},
                      {{"GYRE_LISTEN", "127.0.0.1:1002"}, {"GYRE_MAX_VALUE", "2M"}}));
  CHECK(config.listen.port == 1003);
  CHECK(config.origin.find("listen")->second == "--listen");
  CHECK(config.value_bytes_max == 2 * mebibyte);
  CHECK(config.origin.find("max-value")->second == "GYRE_MAX_VALUE");
  CHECK(config.cores == 1);
  CHECK(config.origin.find("cores")->second == file.path() + ":2");
  CHECK(config.data == "data");
  CHECK(config.origin.find("data")->second == "default");
  CHECK_FALSE(config.pin);  // one core of two
}

TEST_CASE("the environment can name the file, and a flag another") {
  const TemporaryFile one("cores = 1\n");
  const TemporaryFile two("cores = 2\n");
  CHECK(loaded(input_of({}, {{"GYRE_CONFIG", one.path()}})).cores == 1);
  CHECK(loaded(input_of({flag("config", two.path())}, {{"GYRE_CONFIG", one.path()}})).cores == 2);
}

TEST_CASE("keys of a file may be written with underscores, lists as lists, numbers as numbers") {
  const TemporaryFile file(
      "max_value = \"1M\"\npin = false\nrate-limit = 100\npeers = [\"http://a:1\"]\n");
  const ServeConfig config = loaded(input_of({flag("config", file.path())}));
  CHECK(config.value_bytes_max == mebibyte);
  CHECK_FALSE(config.pin);
  CHECK(config.rate_limit_per_s == 100);
  CHECK(config.peers == std::vector<std::string>{"http://a:1"});
}

TEST_CASE("an unknown key is refused with its place and the nearest known one") {
  const TemporaryFile file("listen = \"127.0.0.1:1\"\n\nmemroy = \"1G\"\n");
  const std::string in_file = refusal(input_of({flag("config", file.path())}));
  CHECK(contains(in_file, file.path() + ":3: memroy is not a setting, did you mean memory?"));
  const std::string in_environment = refusal(input_of({}, {{"GYRE_LISTN", "x"}}));
  CHECK(contains(in_environment, "GYRE_LISTN is not a setting, did you mean GYRE_LISTEN?"));
}

TEST_CASE("variables of other programs and of the platform are left alone") {
  loaded(input_of({}, {{"GYRE_URL", "http://a:1"},
                       {"GYRE_TEST_SCALE", "0.1"},
                       {"GYRE_SERVICE_HOST", "10.0.0.1"},
                       {"GYRE_PORT_8080_TCP", "tcp://10.0.0.1:8080"},
                       {"HOME", "/"}}));
}

TEST_CASE("a value that makes no sense names its place, itself and what is accepted") {
  CHECK(contains(refusal(input_of({flag("memory", "lots")})),
                 "--memory lots is not a size: write a whole number of bytes"));
  CHECK(contains(refusal(input_of({}, {{"GYRE_CORES", "0"}})),
                 "GYRE_CORES=0 is out of range: 1 to 512 are accepted"));
  CHECK(contains(refusal(input_of({flag("cores", "two")})),
                 "--cores two is not a whole number from 1 to 512"));
  CHECK(contains(refusal(input_of({flag("durability", "fsync")})),
                 "--durability fsync is not one of group, interval or none"));
  CHECK(contains(refusal(input_of({flag("idle-timeout", "10")})),
                 "--idle-timeout 10 is not a duration"));
  CHECK(contains(refusal(input_of({flag("max-value", "2G")})), "1K to 1G are accepted"));
  CHECK(contains(refusal(input_of({flag("data", "")})), "--data \"\" is empty"));
  const TemporaryFile file("listen = \"8080x\"\n");
  CHECK(contains(refusal(input_of({flag("config", file.path())})),
                 file.path() + ":1: listen = 8080x is not an address"));
}

TEST_CASE("all problems are reported together") {
  const std::string text =
      refusal(input_of({flag("memory", "lots"), flag("cores", "0")}, {{"GYRE_NOSUCHTHING", "1"}}));
  CHECK(contains(text, "--memory lots"));
  CHECK(contains(text, "--cores 0"));
  CHECK(contains(text, "GYRE_NOSUCHTHING"));
}

TEST_CASE("a file that is missing or not TOML is refused with its place") {
  CHECK(contains(refusal(input_of({flag("config", "/nonexistent/gyre.toml")})),
                 "--config /nonexistent/gyre.toml: can't be read"));
  const TemporaryFile broken("cores = 1\nlisten = = 1\n");
  CHECK(
      contains(refusal(input_of({flag("config", broken.path())})), broken.path() + ":2: not TOML"));
  const TemporaryFile table("[serve]\ncores = 1\n");
  CHECK(contains(refusal(input_of({flag("config", table.path())})), "[serve] is a table"));
  const TemporaryFile number("cores = 1.5\n");
  CHECK(contains(refusal(input_of({flag("config", number.path())})), "cores must be a string"));
}

TEST_CASE("settings that contradict each other are refused") {
  CHECK(contains(refusal(input_of({flag("cores", "2"), flag("shards", "1")})),
                 "--cores 2 is more than --shards 1"));
  CHECK(contains(refusal(input_of({flag("peers", "http://a:1"), flag("advertise", "http://b:1")})),
                 "--advertise http://b:1 is none of --peers http://a:1"));
  CHECK(contains(refusal(input_of({flag("peers", "http://a:1,http://a:1/")})), "twice"));
  CHECK(contains(refusal(input_of({flag("memory", "32M")})), "raise --memory to"));
}

TEST_CASE("the administration has a port of its own unless it is off") {
  const auto admin_of = [](std::vector<RawSetting> flags) {
    return loaded(input_of(std::move(flags)));
  };
  CHECK(admin_of({}).admin == Address{"127.0.0.1", 18080});
  CHECK(admin_of({}).admin_is_default);
  CHECK(admin_of({flag("listen", "10.0.0.1:9000")}).admin == Address{"127.0.0.1", 19000});
  CHECK(admin_of({flag("listen", "127.0.0.1:60000")}).admin == Address{"127.0.0.1", 50000});
  CHECK(admin_of({flag("listen", "127.0.0.1:0")}).admin == Address{"127.0.0.1", 0});
  const ServeConfig chosen = admin_of({flag("admin", "10.0.0.1:7000")});
  CHECK(chosen.admin == Address{"10.0.0.1", 7000});
  CHECK_FALSE(chosen.admin_is_default);
  CHECK_FALSE(admin_of({flag("admin", "off")}).admin.has_value());
  CHECK(contains(refusal(input_of({flag("admin", "on")})), "or off"));
  CHECK(contains(refusal(input_of({flag("admin", "8080")})),
                 "--admin 127.0.0.1:8080 is the address of --listen"));
}

TEST_CASE("the scrub takes whole days, and none is off") {
  CHECK(loaded(input_of({})).scrub_days == 7);
  CHECK(loaded(input_of({flag("scrub-days", "0")})).scrub_days == 0);
  CHECK(contains(refusal(input_of({flag("scrub-days", "1h")})), "--scrub-days 1h"));
}

TEST_CASE("fewer shards than CPUs means fewer cores") {
  const ServeConfig config = loaded(input_of({flag("shards", "1")}));
  CHECK(config.cores == 1);
  CHECK(config.origin.find("cores")->second == "default: as many as shards");
}

TEST_CASE("a small node with large values is accepted") {
  const ServeConfig config =
      loaded(input_of({flag("memory", "128M"), flag("cores", "2"), flag("max-value", "16M")}));
  CHECK(config.connections_max >= 5000);
}

TEST_CASE("nodes come from --peers or from --topology, not from both") {
  const auto peers = flag("peers", "http://a:1,http://b:1");
  CHECK(loaded(input_of({peers})).peers.size() == 2);
  CHECK(loaded(input_of({flag("topology", "map")})).topology == "map");
  CHECK(contains(refusal(input_of({peers, flag("topology", "map")})), "--topology"));
  CHECK(contains(refusal(input_of({peers, flag("advertise", "http://c:1")})), "--advertise"));
}

TEST_CASE("Redis clients are let in from elsewhere only with a password") {
  CHECK(loaded(input_of({flag("resp", "6379")})).resp == Address{"127.0.0.1", 6379});
  CHECK(loaded(input_of({flag("resp", "[::1]:6379")})).resp.has_value());
  for (const char* address : {"0.0.0.0:6379", "[::]:6379", "10.0.0.1:6379"}) {
    CAPTURE(address);
    const std::string said = refusal(input_of({flag("resp", address)}));
    CHECK(contains(said, "--resp-password-file"));
    CHECK(contains(said, "127.0.0.1"));
    CHECK(loaded(input_of({flag("resp", address), flag("resp-password-file", "secret")}))
              .resp_password_file == "secret");
  }
  CHECK(contains(refusal(input_of({flag("resp-password-file", "secret")})), "--resp"));
  CHECK(contains(refusal(input_of({flag("resp", "127.0.0.1:8080")})), "--listen"));
  CHECK(contains(refusal(input_of({flag("resp", "127.0.0.1:18080")})), "--admin"));
}

TEST_CASE("the printed configuration shows every setting with its origin and reads back the same") {
  const ServeConfig config = loaded(
      input_of({flag("cores", "1"), flag("data", "with \"quotes\" and \\"), flag("memory", "256M")},
               {{"GYRE_IDLE_TIMEOUT", "90s"}}));
  const std::string printed = print_config(config);
  for (const Setting& setting : settings()) {
    CHECK(contains(printed, setting.name));
  }
  CHECK(contains(printed, "# GYRE_IDLE_TIMEOUT"));
  CHECK(contains(printed, "# --cores"));
  const TemporaryFile file(printed);
  const ServeConfig again = loaded(input_of({flag("config", file.path())}));
  for (const Setting& setting : settings()) {
    CHECK(setting.print(again) == setting.print(config));
  }
}

TEST_CASE("every setting has a name, help and a value that it can read back") {
  const ServeConfig config = loaded(input_of());
  for (const Setting& setting : settings()) {
    CAPTURE(setting.name);
    CHECK_FALSE(setting.help.empty());
    const std::string text = setting.print(config);
    if (text.empty()) continue;
    ServeConfig other = config;
    REQUIRE(setting.assign(other, text).has_value());
    CHECK(setting.print(other) == text);
  }
}

}  // namespace gyre
