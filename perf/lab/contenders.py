"""Who can be compared, and how each is started: a name, what it needs, a command line.

Servers are children in a session of their own, so that a terminal's ^C reaches the lab alone, and
the kernel ends them should the lab be killed. They are stopped by pid, whatever happens.
"""

import ctypes
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

import machine

READY_S_MAX = 60
# Where memory is scarce: what a node otherwise reserves for large values and many connections would
# be most of it.
SMALL = ("--max-value", "1M", "--max-connections", "256")
THREADPOOL_READERS = 64  # workers that wait for the disk, of one core
STOP_S_MAX = 30
LOG_TAIL_LINES = 15
BODY = "0123456789" * 10
PR_SET_PDEATHSIG = 1
KEY_OPERATIONS = frozenset({"get", "put", "mixed"})
PROXY_KEYS = 20_000
LIBC = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something that ends a scenario; its text is for the user."""


@dataclass(frozen=True)
class Place:
    """Where and with what one server runs."""

    build: str
    directory: str
    port: int
    cpus: list[int]
    cores: int
    memory: str
    durability: str
    operation: str
    beyond_memory: bool = False  # the data is larger, and the page cache is not to help
    peers: tuple[str, ...] = ()  # URLs of all nodes, this one included; none: it is alone
    behind_port: int = 0  # of the Redis that a proxy stands before

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Contender:
    name: str
    program: Callable[[str], str]  # build directory → path or name
    command: Callable[[Place], list[str]]
    version: list[str] = field(default_factory=list)  # arguments that print it
    operations: Optional[frozenset[str]] = None  # all if None
    stores: bool = False  # has to be filled before it is read
    pins_itself: bool = False
    scheme: str = "http"  # or redis: RESP
    ready_path: str = "/v0/status"
    behind: Optional["Contender"] = None  # runs too, on the same CPUs; it is what is filled
    block_reads: str = ""  # its metric of blocks read from tables on the disk
    package: str = ""
    cores: Optional[int] = None  # instead of --cores
    clusters: bool = False  # takes --peers

    def missing(self, build: str) -> Optional[str]:
        program = self.program(build)
        if os.access(program, os.X_OK) or shutil.which(program):
            return None
        if self.package:
            return f"{program} is not installed (Debian: {self.package})"
        return f"{program} is not built (ninja -C {build})"

    def takes(self, operation: str) -> bool:
        return self.operations is None or operation in self.operations


def node_command(place: Place, program: str, *words: str) -> list[str]:
    return [program, *words, "--listen", f"127.0.0.1:{place.port}",
            "--data", os.path.join(place.directory, "data"), "--cores", str(place.cores),
            "--memory", place.memory, "--durability", place.durability,
            *(SMALL if place.beyond_memory else ()), *peer_flags(place)]


def resp_node_command(place: Place) -> list[str]:
    """The port that is loaded is RESP's; HTTP has another, which nobody asks."""
    behind = replace(place, port=free_port())
    return [*node_command(behind, gyre_program(place.build), "serve"),
            "--resp", f"127.0.0.1:{place.port}"]


def peer_flags(place: Place) -> list[str]:
    if not place.peers:
        return []
    return ["--advertise", place.url, "--peers", ",".join(place.peers), "--admin", "off"]


def least_memory_bytes(build: str, cores: int) -> int:
    """What a node with SMALL needs of --memory before anything is left for caches, as it says."""
    command = [gyre_program(build), "serve", "--cores", str(cores), "--memory", "16M", *SMALL,
               "--print-config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    found = re.search(r"which need (\d+)M", done.stderr)
    if not found:
        raise LabError(f"gyre did not say how much memory it needs: {done.stderr or done.stdout}")
    return int(found[1]) << 20


def floor_command(place: Place) -> list[str]:
    command = [FLOOR.program(place.build), "--listen", f"127.0.0.1:{place.port}",
               "--cores", str(place.cores)]
    first = place.cpus[0]
    if place.cpus[: place.cores] == list(range(first, first + place.cores)):
        return command + ["--pin", str(first)]
    return pinned(place.cpus, command)


def nginx_command(place: Place) -> list[str]:
    """One process that is its own worker; everything it writes lies in its directory."""
    path = os.path.join(place.directory, "nginx.conf")
    temporary = "".join(
        f"  {kind}_temp_path {place.directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "daemon off;\nmaster_process off;\nworker_processes 1;\n"
            f"pid {place.directory}/nginx.pid;\nerror_log stderr error;\n"
            "events {\n  worker_connections 4096;\n}\nhttp {\n  access_log off;\n"
            "  keepalive_requests 1000000000;\n  default_type text/plain;\n" + temporary +
            f"  server {{\n    listen 127.0.0.1:{place.port};\n"
            f'    location / {{\n      return 200 "{BODY}";\n    }}\n  }}\n}}\n'
        )
    return ["nginx", "-e", "stderr", "-p", place.directory, "-c", path]


def redis_command(place: Place) -> list[str]:
    synced = ["--appendonly", "yes", "--appendfsync", "always"]
    return ["redis-server", "--port", str(place.port), "--bind", "127.0.0.1", "--save", "",
            "--dir", place.directory, *(synced if place.durability == "group" else [])]


def proxy_command(place: Place, listen: tuple[str, ...]) -> list[str]:
    """Room for every key of a scenario that is about hits; its misses have more keys than that."""
    return [gyre_program(place.build), "proxy", *listen, "--cores", str(place.cores), "--admin", "off",
            "--max-keys", str(PROXY_KEYS), "--ttl-ms", "3600000", "--max-connections", "1024",
            "--redis-port", str(place.behind_port)]


def twemproxy_command(place: Place) -> list[str]:
    path = os.path.join(place.directory, "nutcracker.yml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"lab:\n  listen: 127.0.0.1:{place.port}\n  hash: fnv1a_64\n  distribution: ketama\n"
            f"  redis: true\n  preconnect: true\n  servers:\n   - 127.0.0.1:{place.behind_port}:1\n"
        )
    return ["nutcracker", "-c", path, "-o", os.path.join(place.directory, "nutcracker.log"),
            "-p", os.path.join(place.directory, "nutcracker.pid"), "-v", "4",
            "-a", "127.0.0.1", "-s", str(free_port())]


def sender_command(place: Place) -> list[str]:
    here = os.path.dirname(os.path.realpath(__file__))
    return [sys.executable, os.path.join(here, "sender.py"), str(place.port)]


def gyre_program(build: str) -> str:
    return os.path.join(build, "gyre")


def gyre(name: str, cores: Optional[int] = None) -> Contender:
    return Contender(
        name, gyre_program, lambda place: node_command(place, gyre_program(place.build), "serve"),
        version=["--version"], stores=True, cores=cores, clusters=True,
        block_reads="gyre_level_block_reads_total",
    )


def floor(name: str, cores: Optional[int] = None) -> Contender:
    return Contender(name, lambda build: os.path.join(build, "perf/floor/floor"), floor_command,
                     pins_itself=True, cores=cores)


def threadpool_command(place: Place) -> list[str]:
    """With the number of workers that is best for the load: its own defaults, which are made for
    writes or for reads, and 32 where both meet (ARCHITECTURE.md, "The comparator")."""
    command = node_command(place, THREADPOOL.program(place.build))
    if place.beyond_memory:
        readers = str(THREADPOOL_READERS)
        at_peers = ["--internal-workers", readers, "--threads-per-peer", "16"] if place.peers else []
        return command + ["--direct", "--workers", readers, *at_peers]
    mixed = place.operation == "mixed" and place.durability == "group" and not place.peers
    return command + (["--workers", "32"] if mixed else [])


THREADPOOL = Contender(
    "threadpool", lambda build: os.path.join(build, "perf/threadpool/gyre-threadpool"),
    threadpool_command, stores=True, clusters=True, block_reads="gyre_cache_misses_total",
)
FLOOR = floor("floor")
NGINX = Contender(
    "nginx", lambda _: "nginx", nginx_command, version=["-v"],
    operations=frozenset({"status", "get"}), package="nginx-light",
)
REDIS = Contender(
    "redis", lambda _: "redis-server", redis_command, version=["--version"],
    operations=KEY_OPERATIONS, scheme="redis", stores=True, package="redis-server",
)
GYRE_RESP = Contender(
    "gyre-resp", gyre_program, resp_node_command, version=["--version"],
    operations=KEY_OPERATIONS, scheme="redis", stores=True,
)
PROXY = Contender(
    "proxy", gyre_program, lambda place: proxy_command(place, ("--port", str(place.port))),
    version=["--version"], operations=frozenset({"lookup", "nonsense"}), ready_path="/readyz",
    behind=REDIS, stores=True,
)
PROXY_RESP = Contender(
    "proxy-resp", gyre_program,
    lambda place: proxy_command(place, ("--port", "0", "--resp", f"127.0.0.1:{place.port}")),
    version=["--version"], operations=KEY_OPERATIONS, scheme="redis", behind=REDIS, stores=True,
)
TWEMPROXY = Contender(
    "twemproxy", lambda _: "nutcracker", twemproxy_command, version=["--version"],
    operations=KEY_OPERATIONS, scheme="redis", behind=REDIS, stores=True, package="nutcracker",
)
# What a range's bytes cost to send, framed as the nodes frame them (sender.py).
SENDER = Contender(
    "sender", lambda _: sys.executable, sender_command, operations=frozenset({"range"}),
)
CONTENDERS = {
    contender.name: contender
    for contender in (gyre("gyre"), GYRE_RESP, PROXY, PROXY_RESP, TWEMPROXY, THREADPOOL, FLOOR, NGINX, REDIS, SENDER,
                      gyre("gyre-1-core", 1), gyre("gyre-2-cores", 2), floor("floor-1-core", 1),
                      floor("floor-2-cores", 2))
}


def custom(text: str) -> Contender:
    """From NAME=COMMAND, in which {listen}, {port}, {data} and {cores} are filled in, and for a node
    of a cluster {url}, its own, and {peers}, those of all with commas between."""
    name, equals, command = text.partition("=")
    if not re.fullmatch(r"[a-z0-9-]+", name) or name in CONTENDERS or not equals:
        raise ValueError(f"{text}: not NAME=COMMAND with a new name of a-z, 0-9 and -")
    words = shlex.split(command)
    if not words:
        raise ValueError(f"{name}: no command")

    def filled(place: Place) -> list[str]:
        values = {"listen": f"127.0.0.1:{place.port}", "port": str(place.port),
                  "data": os.path.join(place.directory, "data"), "cores": str(place.cores),
                  "url": place.url, "peers": ",".join(place.peers)}
        return [re.sub(r"\{(listen|port|data|cores|url|peers)\}", lambda match: values[match[1]], word)
                for word in words]

    return Contender(name, lambda _: words[0], filled, stores=True, clusters="{peers}" in command)


def pinned(cpus: list[int], command: list[str]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cpus)), *command]


def prepare_child() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


ports_given: set[int] = set()  # whose servers may not listen yet


def free_port() -> int:
    # Below the range of outgoing connections, so that no client gets it meanwhile.
    for port in range(random.randrange(20000, 31000), 32000):
        if port in ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                ports_given.add(port)
                return port
            except OSError:
                continue
    raise LabError("no free port between 20000 and 32000")


def version_of(contender: Contender, build: str) -> Optional[str]:
    if not contender.version:
        return None
    try:
        done = subprocess.run([contender.program(build), *contender.version],
                              capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else None


class Server:
    """One contender that runs. Its directory, log included, is gone with the lab's."""

    def __init__(self, contender: Contender, place: Place):
        self.behind: Optional[Server] = None
        if contender.behind is not None:
            place = replace(place, behind_port=free_port())
            self.behind = Server(contender.behind, replace(
                place, port=place.behind_port, directory=place.directory + "-behind"))
        self.contender, self.place = contender, place
        self.filled: set[tuple] = set()  # keys, bytes of a value, copies
        self.stopped = False
        os.makedirs(place.directory, exist_ok=True)
        self.log = os.path.join(place.directory, "log")
        command = contender.command(place)
        self.command = command if contender.pins_itself else pinned(place.cpus, command)
        self.process = self.spawn()

    def spawn(self) -> subprocess.Popen:
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=prepare_child,
            )

    @property
    def name(self) -> str:
        return self.contender.name

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"{self.contender.scheme}://127.0.0.1:{self.place.port}"

    # As a cluster has them (cluster.py).
    @property
    def nodes(self) -> list["Server"]:
        return [self]

    @property
    def pids(self) -> list[int]:
        return [self.pid, *(self.behind.pids if self.behind else [])]

    @property
    def urls(self) -> list[str]:
        return [self.url]

    @property
    def fill_urls(self) -> list[str]:
        return self.behind.urls if self.behind else self.urls

    def ticks(self, stats: dict[int, str]) -> int:
        return sum(machine.session_ticks(stats, self.pid)) + \
            (self.behind.ticks(stats) if self.behind else 0)

    def wait_until_ready(self) -> None:
        if self.behind:
            self.behind.wait_until_ready()
        end = time.monotonic() + READY_S_MAX
        while time.monotonic() < end:
            self.check(" while starting")
            if self.answers():
                return
            time.sleep(0.02)
        raise LabError(f"{self.name} does not answer on port {self.place.port}; {self.log_tail()}")

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.place.port), timeout=5) as client:
                if self.contender.scheme == "redis":
                    client.sendall(b"*1\r\n$4\r\nPING\r\n")
                    return client.recv(16).startswith(b"+PONG")
                if self.contender.name == "sender":
                    return True
                client.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" %
                               self.contender.ready_path.encode())
                return client.recv(16).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def check(self, when: str = "") -> None:
        """Raises if it has ended."""
        if self.behind:
            self.behind.check(when)
        code = self.process.poll()
        if code is None or self.stopped:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        raise LabError(f"{self.name} (pid {self.pid}) {how}{when}; {self.log_tail()}")

    def log_tail(self) -> str:
        lines = machine.read(self.log).strip().splitlines()[-LOG_TAIL_LINES:]
        return "its log ends:\n  " + "\n  ".join(lines) if lines else "its log is empty"

    def stop(self) -> None:
        self.stopped = True
        self.end_process()
        if self.behind:
            self.behind.stop()
        shutil.rmtree(self.place.directory, ignore_errors=True)

    def reopen(self) -> None:
        """Stopped in order and started again on its data."""
        self.end_process()
        self.process = self.spawn()
        self.wait_until_ready()

    def kill(self) -> None:
        self.signal_all(signal.SIGKILL)
        self.process.wait()

    def end_process(self) -> None:
        self.signal_all(signal.SIGTERM)
        self.wait_for_end()

    def wait_for_end(self) -> None:
        """Of who has been told."""
        try:
            self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            pass
        self.signal_all(signal.SIGKILL)  # also what a script left behind
        self.process.wait()

    def signal_all(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def described(self, build: str) -> dict:
        return {
            "name": self.name,
            "version": version_of(self.contender, build),
            "command": shortened(self.command, build, self.place.directory),
        }


def shortened(command: list[str], build: str, directory: str) -> str:
    words = [word.replace(directory, "DIR").replace(build, "BUILD") for word in command]
    words = [re.sub(r"^.*/(perf/lab/|bin/)", r"\1", word) for word in words]
    return " ".join(words)
