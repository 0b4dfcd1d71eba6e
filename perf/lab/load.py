"""One run: a generator against a server, and what it cost the server meanwhile.

gyre-load does the loading. The server's CPU time is read just before and after it runs, so it
belongs to all requests of the run, its warm-up included; memory is sampled while it runs.
"""

import contextlib
import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass, replace
from typing import Callable, Optional

import machine
import reads
from contenders import LabError, Server, pinned, prepare_child
from histogram import Histogram
from scenarios import LOOKUP, MIXES, PATHS

SAMPLE_S = 1.0  # of memory, in long runs
SAMPLE_SHORT_S = 0.1
LONG_S = 5.0  # from here on a run keeps its series
BUSY_MAX = 0.95  # of the generator's thread in a closed loop; above, its own pace was measured
WARM_UP_SEEDS = 1_000_000  # a warm-up asks for other keys than the run that it is for
KEPT = ("p50", "p99", "p999", "max")


@dataclass(frozen=True)
class Plan:
    """What one run asks for. rate None: a closed loop."""

    operation: str
    connections: int
    rate: Optional[float]
    seconds: float
    keys: int
    value_bytes: int
    key_order: str = "uniform"
    range_records: int = 0
    verify: bool = False
    fill: int = 0  # by the run itself, so that it knows what has to be there
    threads: int = 1
    count_reads: bool = False  # of the server's disk
    keeps_series: bool = False  # though it is short
    replicas: str = ""  # "A/F"; the server's own if empty
    pipeline: int = 1  # requests that a connection sends at a time; more than one over RESP only
    seed: int = 1  # the same keys in the same order with the same one

    @property
    def warmup_s(self) -> float:
        """At the run's rate, so that its requests can be counted. A closed loop's can't: it is
        warmed by a run of its own."""
        return 0 if self.rate is None else min(2.0, self.seconds / 10)

    def arguments(self) -> list[str]:
        words = ["-c", str(self.connections), "-d", f"{self.seconds * 1000:.0f}ms",
                 "--warmup", f"{self.warmup_s * 1000:.0f}ms",
                 "--keys", str(self.keys), "--key-order", self.key_order,
                 "--value", str(self.value_bytes)]
        words += ["--closed"] if self.rate is None else ["-R", f"{self.rate:.0f}"]
        if self.operation in MIXES:
            words += ["--mix", MIXES[self.operation]]
        if self.replicas:
            words += ["--replicas", self.replicas]
        if self.operation == "lookup":
            words += ["--get", LOOKUP]
        if self.operation == "nonsense":
            words += ["--expect", "400"]
        if self.pipeline > 1:
            words += ["--pipeline", str(self.pipeline)]
        if self.range_records:
            words += ["--range-records", str(self.range_records)]
        if self.fill:
            words += ["--fill", str(self.fill)]
        if self.threads > 1:
            words += ["-t", str(self.threads)]
        if self.seed != 1:
            words += ["--seed", str(self.seed)]
        return words + (["--verify"] if self.verify else [])


class Generator:
    def __init__(self, build: str, directory: str, cpus: list[int]):
        self.build, self.cpus = build, cpus
        self.output = os.path.join(directory, "generator.json")
        self.program = os.path.join(build, "perf/load/gyre-load")
        self.process: Optional[subprocess.Popen] = None
        self.cut: Optional[dict] = None  # the run that did not reach its end

    def fill(self, server: Server, keys: int, value_bytes: int, replicas: str = "") -> None:
        """`replicas`: as the load will ask; every copy it may ask for is written."""
        copies = replicas.partition("/")[2]
        what = (keys, value_bytes, copies)
        if what in server.filled:
            return
        asked = ["--replicas", f"{copies}/{copies}"] if copies else []
        self.spawn([self.program, "-q", "-d", "0", "--fill", str(keys), "--keys", str(keys),
                    "--value", str(value_bytes), *asked, *server.fill_urls])
        self.wait(server, f"while {server.name} was filled")
        server.filled.add(what)

    def start(self, arguments: list[str]) -> None:
        self.cut = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.output)  # a warm-up's, which nobody reads
        self.spawn([self.program, "-q", "--json", self.output, *arguments])

    def spawn(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            pinned(self.cpus, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=prepare_child,
        )

    def wait(self, server: Server, when: str, sample: Callable[[], None] = lambda: None,
             sample_s: float = SAMPLE_SHORT_S) -> tuple[str, int]:
        """What it printed, and its exit code; raises if that is neither 0 nor 3, or the server
        ended."""
        process = self.process
        while True:
            try:
                out, err = process.communicate(timeout=sample_s)
                break
            except subprocess.TimeoutExpired:
                sample()
        self.process = None
        server.check(" " + when)
        if process.returncode not in (0, 3):
            raise LabError(f"the generator failed {when} (exit code {process.returncode}): "
                           f"{err.strip() or out.strip()}")
        return out, process.returncode

    def stop(self) -> None:
        """Interrupts what runs, and waits for its end."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()
            self.process = None

    def run(self, server: Server, plan: Plan,
            companions: Optional["Companions"] = None) -> tuple[dict, Histogram]:
        """A run of a result (schema gyre-lab/1), without its place in the step, and its latencies.
        Companions (beside.py) start before it and are awaited."""
        if plan.rate is None:
            self.warm_up(server, plan)
        memory: list[list[float]] = []
        started = time.monotonic()

        def sample() -> None:
            resident = machine.resident_bytes(server.pids)
            if resident:
                memory.append([round(time.monotonic() - started, 1), resident])

        sample()
        long = plan.seconds >= LONG_S
        read = reads.reads_of(server) if plan.count_reads else None
        before, charged = machine.clocks(server.pids), children_s()
        path = PATHS.get(plan.operation, "")
        if companions:
            companions.start(server)
        self.start([*plan.arguments(), *(url + path for url in server.urls)])
        try:
            self.wait(server, f"while it was loaded ({plan.operation})", sample,
                      SAMPLE_S if long else SAMPLE_SHORT_S)
        except BaseException:
            self.keep_cut(plan, memory)
            raise
        run, latencies, requests = read_report(self.output, plan)
        if companions:
            run["beside"], more = companions.finish(server, run)
            requests += more
        wall_s = time.monotonic() - started
        after = machine.clocks(server.pids)
        sample()
        if plan.count_reads:
            run["reads"] = reads.per_request(read, reads.reads_of(server), requests,
                                             run["answered_per_s"])
        # What a run filled itself would count as cost of its requests.
        run["cpu"] = None if plan.fill else machine.cpu_per_request(before, after, requests)
        if run["cpu"]:
            run["cpu"]["server_cpus_used"] = run["cpu"]["process_us"] * requests / 1e6 / wall_s
            run["cpu"]["generator_cpus_used"] = (children_s() - charged) / wall_s
        run["memory"] = memory_of(memory, plan)
        return run, latencies

    def keep_cut(self, plan: Plan, memory: list[list[float]]) -> None:
        """gyre-load reports what it has when it is told to end, and when its server goes away."""
        self.stop()
        try:
            run, _, _ = read_report(self.output, plan)
        except (OSError, ValueError):
            return
        self.cut = run | {"cpu": None, "memory": memory_of(memory, plan), "others_cpus_used": 0.0}

    def warm_up(self, server: Server, plan: Plan) -> None:
        seconds = min(0.5, plan.seconds / 4)
        path = PATHS.get(plan.operation, "")
        words = replace(plan, seed=plan.seed + WARM_UP_SEEDS).arguments()
        words[words.index("-d") + 1] = f"{seconds * 1000:.0f}ms"
        self.start([*words, *(url + path for url in server.urls)])
        self.wait(server, "while it was warmed up")


def memory_of(points: list[list[float]], plan: Plan) -> dict:
    return {
        "resident_max_bytes": max((size for _, size in points), default=None),
        "resident_bytes": points if plan.seconds >= LONG_S else None,
    }


def children_s() -> float:
    """CPU time of the children that have ended: generators."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_report(path: str, plan: Plan) -> tuple[dict, Histogram, float]:
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    os.unlink(path)
    return from_report(report, plan)


def from_report(report: dict, plan: Plan) -> tuple[dict, Histogram, float]:
    """(run, latencies, requests with those of the warm-up), from a report of gyre-load."""
    result, verdict = report["result"], report["verdict"]
    latencies = Histogram.decode(result["latency_us"]["intended"]["hdr_b64"])
    span_s = max(result["elapsed_s"], plan.seconds)
    errors = result["errors"]
    limited, why = verdict["generator_limited"], verdict["generator"]
    # gyre-load judges schedules; a closed loop has none, and goes as fast as the slower side.
    busy = result["cpu"]["generator_busiest"] + result["cpu"]["generator_starved"]
    if plan.rate is None and busy > BUSY_MAX:
        limited = True
        why = (f"its thread was busy, or others had its CPU, {busy:.0%} of the time: the requests "
               "per second may be its limit, not the server's")
    run = {
        "rate": plan.rate,
        "answered_per_s": result["answered"] / span_s,
        "ok_per_s": result["ok"] / span_s,
        "bytes_per_s": result["bytes_read"] / span_s,
        "ok": result["ok"],
        "errors": errors,
        "unfinished": result["unfinished"]["n"],
        "wrong": errors["wrong"],
        "verified": result.get("verified", 0),
        "generator_limited": limited,
        "generator": why,
        "latency_us": latencies.summary(),
        "service_us": {name: result["latency_us"]["service"][name] for name in KEPT},
        "spectrum": latencies.spectrum(),
        "series": result["series"] if plan.seconds >= LONG_S or plan.keeps_series else None,
        "began_us": result.get("measured_from_us"),
        "hiccup_us": {name: result["hiccup_us"][name] for name in KEPT},
        "send_lag_us": {name: result["latency_us"]["send_lag"][name] for name in KEPT},
    }
    requests = result["answered"] * (plan.seconds + plan.warmup_s) / plan.seconds
    return run, latencies, requests
