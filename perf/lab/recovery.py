"""A start after kill -9: how fast a node reads the log that no table holds yet.

One round, on a directory of its own: a start that makes it, a stop, an empty start, timed; a load
whose log stays unflushed; kill -9; the start that recovers, timed. Both are timed from exec to the
line that a node prints when it is ready, read from its log, so that nobody asks it meanwhile. Their
difference is what the log cost.

After kill -9 the kernel tears the process's ring down behind its end: until then its port and its
directory's lock look taken, and a start would wait for them. The round waits before it starts.
"""

import fcntl
import os
import re
import socket
import time
from dataclasses import replace
from typing import Callable, Optional

from contenders import Contender, LabError, Place, READY_S_MAX, Server
from reads import metric_sum, metrics_of

LOOK_S = 0.0005  # between two looks into the log
RELEASE_S_MAX = 10
SETTLED_S = 0.3  # a node's log is idle after 100 ms, and says so in a frame
SETTLED_S_MAX = 20
READY_LINE = re.compile(r"^\S+ serves \S+.* records_recovered=(\d+)$", re.M)


def without_admin(contender: Contender) -> Contender:
    """Its second port, if somebody has it, is asked for again: that is no part of a start."""
    return replace(contender, command=lambda place: [*contender.command(place), "--admin", "off"])


class Starts:
    """Starts of one server, timed."""

    def __init__(self, contender: Contender, place: Place, added: Callable[[Server], None]):
        begun = time.monotonic()
        self.server = Server(without_admin(contender), place)
        added(self.server)
        self.seen = 0  # bytes of its log
        self.records = 0
        self.first_s = self.wait(begun)

    def again(self) -> float:
        """Seconds from exec to ready."""
        self.wait_until_released()
        begun = time.monotonic()
        self.server.process = self.server.spawn()
        return self.wait(begun)

    def wait(self, begun: float) -> float:
        while True:
            looked = time.monotonic()
            with open(self.server.log, "rb") as log:
                log.seek(self.seen)
                text = log.read().decode(errors="replace")
            ready = READY_LINE.search(text)
            if ready:
                self.seen += len(text.encode())
                self.records = int(ready[1])
                return looked - begun
            self.server.check(" while starting")
            if looked - begun > READY_S_MAX:
                raise LabError(f"{self.server.name} was not ready after {READY_S_MAX} s; "
                               + self.server.log_tail())
            time.sleep(LOOK_S)

    def wait_until_released(self) -> None:
        end = time.monotonic() + RELEASE_S_MAX
        place = self.server.place
        while not (can_be_locked(os.path.join(place.directory, "data/LOCK"))
                   and can_be_bound(place.port)):
            if time.monotonic() > end:
                raise LabError(f"port {place.port} or the data of {self.server.name} was still "
                               f"taken {RELEASE_S_MAX} s after its end")
            time.sleep(0.005)


def can_be_locked(path: str) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def log_of(server: Server) -> tuple[int, int, int]:
    """Bytes written to the log since the start, of these keys and values, and records; all of them
    unflushed."""
    text = metrics_of(server)
    names = ("log_written_bytes_total", "log_record_bytes_total", "shard_writes_total",
             "flushes_total")
    figures = [metric_sum(text, "gyre_" + name) for name in names]
    if None in figures:
        raise LabError(f"{server.name} does not tell what its log holds")
    if figures[3]:
        raise LabError(f"{server.name} wrote tables meanwhile: with more --memory, fewer --seconds "
                       "or a lower --rate all would be left in its log")
    return figures[0], figures[1], figures[2]


def settled_log_of(server: Server) -> tuple[int, int, int]:
    """When nothing is written to it any more: the last writes may be answered before they are."""
    end = time.monotonic() + SETTLED_S_MAX
    log = log_of(server)
    while time.monotonic() < end:
        time.sleep(SETTLED_S)
        before, log = log, log_of(server)
        if log == before:
            return log
    raise LabError(f"{server.name} still wrote to its log {SETTLED_S_MAX} s after the last request")


def figures_of(pair: int, empty_s: float, start_s: float, log: tuple[int, int, int]) -> dict:
    """A round of a result. No speed where the start took no longer than the empty one."""
    took_s = start_s - empty_s
    return {
        "pair": pair, "log_bytes": log[0], "record_bytes": log[1], "records": log[2],
        "empty_start_s": empty_s, "start_s": start_s,
        "bytes_per_s": speed(log[0], took_s), "records_per_s": speed(log[2], took_s),
    }


def speed(count: int, took_s: float) -> Optional[float]:
    return count / took_s if took_s > 0 else None


def play_round(pair: int, contender: Contender, place: Place, added: Callable[[Server], None],
               load: Callable[[Server], None]) -> dict:
    """`added` gets the server to stop in the end, `load` loads it and waits until it is idle."""
    starts = Starts(contender, place, added)
    server = starts.server
    server.end_process()
    empty_s = starts.again()
    load(server)
    log = settled_log_of(server)
    server.kill()
    start_s = starts.again()
    if starts.records != log[2]:
        raise LabError(f"{server.name} recovered {starts.records:,} of {log[2]:,} records after "
                       f"kill -9; {server.log_tail()}")
    return figures_of(pair, empty_s, start_s, log)
