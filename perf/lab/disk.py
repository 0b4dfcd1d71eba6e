"""What this disk can do, as a yardstick: a synced write (DiskProbe), random reads (DiskReads).

A block of 4 KiB at a time is overwritten with O_DIRECT and O_DSYNC in a file that is preallocated
and already written: nothing but data goes to the disk, as in a group-committed log. The probe runs
between the runs of a scenario, on the server's CPUs, so that it sees the same disk in the same mood.
Random reads are perf/disk's, as large as a server's and as many at a time as it has connections.
"""

import json
import mmap
import os
import subprocess
import time
from typing import Optional

from contenders import LabError, pinned, prepare_child
from histogram import Histogram

BLOCK_BYTES = 4096
FILE_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
READ_BLOCKS_MAX = 256


class DiskProbe:
    def __init__(self, directory: str, cpus: list[int]):
        self.cpus = set(cpus)
        self.path = os.path.join(directory, "disk-probe")
        self.histogram = Histogram()
        self.by_pair: dict[int, Histogram] = {}
        self.error: Optional[str] = None
        self.block = mmap.mmap(-1, BLOCK_BYTES)  # page-aligned, as O_DIRECT wants it
        self.file = -1
        self.next = 0
        try:
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC, 0o600)
            os.posix_fallocate(self.file, 0, FILE_BYTES)
            with mmap.mmap(-1, CHUNK_BYTES) as chunk:
                for offset in range(0, FILE_BYTES, CHUNK_BYTES):
                    os.pwrite(self.file, chunk, offset)
        except OSError as error:  # tmpfs has no O_DIRECT
            self.error = f"{directory} can't be probed with O_DIRECT: {error.strerror}"

    def run(self, seconds: float, pair: int) -> None:
        if self.error:
            return
        histogram = self.by_pair.setdefault(pair, Histogram())
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cpus)
        try:
            end = time.perf_counter_ns() + int(seconds * 1e9)
            started = time.perf_counter_ns()
            while started < end:
                os.pwrite(self.file, self.block, self.next)
                done = time.perf_counter_ns()
                histogram.record(done - started)
                self.next = (self.next + BLOCK_BYTES) % FILE_BYTES
                started = done
        finally:
            os.sched_setaffinity(0, allowed)
        self.histogram = Histogram.merged(self.by_pair.values())

    def summary(self) -> Optional[dict]:
        if self.histogram.total == 0:
            return None
        whole = self.histogram.summary()
        return {name: whole[name] for name in ("n", "p50", "p99", "p999", "max")}

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            os.unlink(self.path)
            self.file = -1


class DiskReads:
    def __init__(self, build: str, directory: str, cpus: list[int], depth: int, quick: bool):
        self.program = os.path.join(build, "perf/disk/disk")
        self.directory, self.cpus, self.depth, self.quick = directory, cpus, depth, quick
        if not os.access(self.program, os.X_OK):
            raise LabError(f"{self.program} is not built (ninja -C {build})")

    def run(self, read_bytes: int) -> float:
        """Reads per second, of a file that is made for it."""
        command = [self.program, "--json", "--dir", self.directory, "--only", "direct", "--rounds",
                   "1", "--seconds", "0.2" if self.quick else "1.5", "--file-mib",
                   "64" if self.quick else "1024", "--read-bytes", str(read_bytes), "--depth",
                   str(self.depth)]
        done = subprocess.run(pinned(self.cpus, command), capture_output=True, text=True,
                              preexec_fn=prepare_child)
        if done.returncode != 0:
            raise LabError(f"the disk could not be read at random: {done.stderr.strip()}")
        return json.loads(done.stdout)["kinds"][0]["per_s"]


def like_reads_of(bytes_per_block: float) -> int:
    """The size of read that perf/disk takes next to a server's mean."""
    blocks = round(bytes_per_block / BLOCK_BYTES)
    return BLOCK_BYTES * min(max(blocks, 1), READ_BLOCKS_MAX)
