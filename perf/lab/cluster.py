"""A cluster of one contender on this machine, to the runner one server: all nodes are loaded, and their
CPU time and memory are added up.

Where there are CPUs enough each node has its own, else all nodes share those of the servers. One node
may be disturbed for a whole step: killed, or stopped for nine tenths of the time. Clients then ask the
others only, so what is measured is what its absence does to them.
"""

import os
import shutil
import signal
import threading
from dataclasses import dataclass
from typing import Optional

import machine
from contenders import Contender, LabError, Place, Server, free_port, shortened

FAULTS = ("killed", "slow")
STOPPED_S = 0.09  # of a slow node, in turns
RUNNING_S = 0.01
TABLES = (".table", ".values", ".sst", ".blob")


def free_ports(count: int) -> list[int]:
    return sorted(free_port() for _ in range(count))


def cpus_of_node(cpus: list[int], cores: int, nodes: int, index: int) -> list[int]:
    """Its own, or all if there are too few."""
    if nodes * cores > len(cpus):
        return cpus
    return cpus[index * cores : (index + 1) * cores]


@dataclass(frozen=True)
class Stored:
    """What lies in a data directory: room on the disk, and what tables hold."""

    disk_bytes: int
    table_bytes: int


def stored_in(directory: str) -> Stored:
    disk = tables = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            its = os.stat(os.path.join(parent, name))
            disk += 512 * its.st_blocks
            tables += its.st_size if name.endswith(TABLES) else 0
    return Stored(disk, tables)


class Slowness:
    """Stops a process for STOPPED_S and lets it run for RUNNING_S, until the end."""

    def __init__(self, server: Server):
        self.server, self.ended = server, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.ended.is_set():
            self.server.signal_all(signal.SIGSTOP)
            self.ended.wait(STOPPED_S)
            self.server.signal_all(signal.SIGCONT)
            self.ended.wait(RUNNING_S)

    def end(self) -> None:
        self.ended.set()
        self.thread.join()
        self.server.signal_all(signal.SIGCONT)


class Cluster:
    def __init__(self, contender: Contender, places: list[Place]):
        self.contender, self.places = contender, places
        self.filled: set[tuple] = set()
        self.disturbed: Optional[Server] = None
        self.slowness: Optional[Slowness] = None
        self.nodes: list[Server] = []
        try:
            for place in places:
                self.nodes.append(Server(contender, place))
        except BaseException:
            self.stop()
            raise

    @property
    def name(self) -> str:
        return self.contender.name

    @property
    def place(self) -> Place:
        return self.places[0]

    @property
    def pids(self) -> list[int]:
        return [node.pid for node in self.nodes]

    @property
    def urls(self) -> list[str]:
        """Of the nodes that clients ask."""
        return [node.url for node in self.nodes if node is not self.disturbed]

    @property
    def fill_urls(self) -> list[str]:
        return self.urls

    def ticks(self, stats: dict[int, str]) -> int:
        return sum(node.ticks(stats) for node in self.nodes)

    def wait_until_ready(self) -> None:
        for node in self.nodes:
            node.wait_until_ready()

    def check(self, when: str = "") -> None:
        for node in self.nodes:
            node.check(when)

    def disturb(self, how: str) -> None:
        """The last node, from now on."""
        if how not in FAULTS or self.disturbed:
            raise LabError(f"a node can be {' or '.join(FAULTS)}, once; not {how}")
        self.disturbed = self.nodes[-1]
        if how == "killed":
            self.disturbed.stopped = True  # and not missed
            self.disturbed.kill()
        else:
            self.slowness = Slowness(self.disturbed)

    def end_processes(self) -> None:
        if self.slowness:
            self.slowness.end()
            self.slowness = None
        for node in self.nodes:
            node.stopped = True
            # All at once, so that none waits for another; and once, as a second one cuts it short.
            node.signal_all(signal.SIGTERM)
        for node in self.nodes:
            node.wait_for_end()

    def reopen(self) -> None:
        self.end_processes()
        for node in self.nodes:
            node.stopped = False
            node.process = node.spawn()
        self.wait_until_ready()

    def stop(self) -> None:
        self.end_processes()
        for node in self.nodes:
            shutil.rmtree(node.place.directory, ignore_errors=True)

    def weigh(self) -> dict:
        """What each node stored and used of CPUs so far. Ends them in order, so that tables hold all
        of it."""
        stats = machine.all_stats()
        cpu_s = [node.ticks(stats) / machine.TICKS_PER_S for node in self.nodes]
        self.end_processes()
        stored = [stored_in(place.directory) for place in self.places]
        return {"cpu_s": cpu_s, "disk_bytes": [its.disk_bytes for its in stored],
                "table_bytes": [its.table_bytes for its in stored]}

    def described(self, build: str) -> dict:
        its = self.nodes[0].described(build)
        command = shortened(self.nodes[0].command, build, self.place.directory)
        return its | {"command": command.replace(",".join(self.place.peers), "PEERS")}
