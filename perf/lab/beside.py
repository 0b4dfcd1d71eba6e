"""What goes on beside a long run: GETs at a low rate, and a watch on the disk that both share.

The watch (perf/disk --watch) writes a block to another file of the same disk at a steady, low pace
and tells each write's moment and latency. Laid beside the longest service time of each second of the
run, it tells the server's own stalls from the disk's. It runs on the generator's CPUs, ahead of the
generator where the kernel allows it: a wait for a CPU is no stall of the disk.
"""

import json
import os
import subprocess
from typing import Optional

import scenarios
from contenders import LabError, Server, pinned, prepare_child
from histogram import Histogram
from load import Generator, Plan, read_report

MARGIN_S = 60  # the watch is ended with the run
END_S_MAX = 60
KEPT = ("rate", "ok_per_s", "errors", "unfinished", "latency_us", "service_us", "generator_limited",
        "generator")


class Companions:
    def __init__(self, build: str, directory: str, cpus: list[int], what: scenarios.Beside,
                 gets: Plan):
        self.what, self.plan, self.cpus = what, gets, cpus
        self.directory = os.path.join(directory, "beside")
        os.makedirs(self.directory, exist_ok=True)
        self.generator = Generator(build, self.directory, cpus)
        self.program = os.path.join(build, "perf/disk/disk")
        if not os.access(self.program, os.X_OK):
            raise LabError(f"{self.program} is not built (ninja -C {build})")
        self.watch: Optional[subprocess.Popen] = None

    def start_watch(self) -> None:
        """A moment before the rest: it makes its file first."""
        seconds = self.plan.seconds + self.plan.warmup_s + MARGIN_S
        command = [self.program, "--json", "--dir", self.directory, "--watch",
                   str(self.what.disk_writes_per_s), "--seconds", str(seconds)]
        self.watch = subprocess.Popen(
            pinned(self.cpus, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=prepare_child)

    def start(self, server: Server) -> None:
        self.generator.start([*self.plan.arguments(), *server.urls])

    def finish(self, server: Server, run: dict) -> tuple[dict, float]:
        """`beside` of the run, whose series gets the disk's figures, and how many GETs there were."""
        self.generator.wait(server, "while GETs ran beside its load")
        gets, _, requests = read_report(self.generator.output, self.plan)
        watch = self.end_watch()
        lay_beside(run["series"], run["began_us"], watch["writes"])
        writes = during(watch["writes"], run["began_us"], run["began_us"] + 1e6 * len(run["series"]))
        return {
            "gets": {name: gets[name] for name in KEPT},
            "disk": {"per_s": watch["per_s"], "realtime": watch["realtime"],
                     "latency_us": latencies_of(writes).summary(),
                     "late_max_us": max((late for _, _, late in writes), default=None)},
            "stalls": stalls_of(run["series"]),
        }, requests

    def end_watch(self) -> dict:
        watch, self.watch = self.watch, None
        watch.terminate()
        out, err = watch.communicate(timeout=END_S_MAX)
        if watch.returncode != 0:
            raise LabError(f"the watch on the disk failed: {err.strip()}")
        return json.loads(out)["watch"]

    def stop(self) -> None:
        self.generator.stop()
        if self.watch is not None:
            self.watch.kill()
            self.watch.communicate()
            self.watch = None


# --- what the watch says about a series ----------------------------------------------------------
def during(writes: list[list[float]], from_us: float, to_us: float) -> list[list[float]]:
    """Those that were under way at some moment of it: [started, latency, late] each."""
    return [write for write in writes if write[0] < to_us and write[0] + write[1] > from_us]


def lay_beside(series: list[dict], began_us: float, writes: list[list[float]]) -> None:
    """Adds the disk's longest write to each second: of itself, and with the seconds before and
    after. A request is told in the second of its answer, and clocks of seconds don't meet."""
    by_second: dict[int, float] = {}
    for started_us, latency_us, _ in writes:
        first = int((started_us - began_us) // 1e6)
        last = int((started_us + latency_us - began_us) // 1e6)
        for second in range(first, last + 1):
            by_second[second] = max(by_second.get(second, 0), latency_us)
    for row in series:
        near = [by_second[second] for second in range(row["t"] - 1, row["t"] + 2)
                if second in by_second]
        row["disk_max"] = by_second.get(row["t"])
        row["disk_max_near"] = max(near, default=None)


def stalls_of(series: list[dict]) -> dict:
    """Seconds whose longest request took over STALL_US longer than the disk's longest write near it;
    those without such a write are not judged."""
    judged = [row for row in series if row["disk_max_near"] is not None and row["answers"]]
    above = [row["service_max"] - row["disk_max_near"] for row in judged]
    return {"limit_us": scenarios.STALL_US, "seconds": len(judged),
            "above": sum(one > scenarios.STALL_US for one in above),
            "longest_above_us": max(above, default=None)}


def latencies_of(writes: list[list[float]]) -> Histogram:
    histogram = Histogram()
    for _, latency_us, _ in writes:
        histogram.record(int(latency_us * 1e3))
    return histogram
