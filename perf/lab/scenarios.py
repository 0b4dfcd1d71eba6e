"""The scenarios, as data: each is a list of steps, each step a load over some contenders with the
aims that the project has set itself for it. The runner knows kinds of steps, not scenarios, so a
new scenario is a new entry at the end of this file.

Kinds: latency (open loop, one rate), closed (closed loop), knee (search for the highest rate that
holds a limit), sustained (one long run each, alone), verify (one long run, answers are checked),
recovery (a load, kill -9, and how long the next start takes; alone, round by round), hop (reads that
each node answers itself, in turns with the same of which a share is forwarded).
"""

from dataclasses import dataclass, replace
from typing import Callable, Optional, Union

LIMIT_US = 5000  # of the knee's p99
CLUSTER_LIMIT_US = 10_000  # of a replicated one
HOP_SHARE_MAX = 0.15  # of a forwarded request's CPU time
STALL_US = 20_000  # above the disk's own in the same second or its neighbours
SAMPLES_FOR_P999 = 105_000  # 100 above p99.9, and some
SAMPLES_FOR_P99 = 10_500
KEY_BYTES = 13  # of gyre-load's keys
PATHS = {"status": "/v0/status", "nonsense": "/lookup"}  # of operations that ask for one path
LOOKUP = "/lookup?key="
MIXES = {"get": "get=1", "put": "put=1", "mixed": "get=1,put=1", "range": "range=1"}


@dataclass(frozen=True)
class Share:
    """A rate that is a share of what a contender answers in a closed loop, measured first."""

    of: str
    share: float


@dataclass(frozen=True)
class Bound:
    """The figure over its reference is at most (or at least) `limit`. The reference is the figure
    of `to` in the same pair, plus `disk` times the same percentile of the disk's synced writes;
    "memory" is --memory, and `fixed` a figure that `to` names."""

    limit: float
    to: str = ""
    disk: float = 0
    at_least: bool = False
    fixed: Optional[float] = None

    @property
    def reference(self) -> str:
        disk = f"{self.disk:g} × disk sync" if self.disk else ""
        return " + ".join(part for part in (self.to, disk) if part)

    @property
    def text(self) -> str:
        if self.fixed is not None and self.limit == 1:
            return f"{'≥' if self.at_least else '≤'} {self.to}"
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} × {self.reference}" \
            if " + " not in self.reference and not self.disk else \
            f"{'≥' if self.at_least else '≤'} {self.limit:g} × ({self.reference})"

    def holds(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass(frozen=True)
class Aim:
    """Met when any of its bounds holds at the median of the pairs."""

    metric: str
    bounds: tuple[Bound, ...]

    @property
    def text(self) -> str:
        return " or ".join(bound.text for bound in self.bounds)


@dataclass(frozen=True)
class Memory:
    """Of a node, as a share of what is stored (keys and values)."""

    share: float
    of: str  # "whole": --memory; "caches": what --memory leaves for blocks, indexes and filters


@dataclass(frozen=True)
class Beside:
    """What goes on while a step's load runs: GETs of keys that were stored before, from the same
    CPUs, and synced writes of 4 KiB to another file of the disk, which show the disk's own stalls. At
    175/s ten minutes of them support a p99.9, and a stall that none of them sees is far shorter than
    STALL_US; they keep the disk about a fortieth of the time."""

    gets_per_s: float = 2_000
    connections: int = 64
    keys: int = 1_000_000
    disk_writes_per_s: int = 175


@dataclass(frozen=True)
class Step:
    name: str
    kind: str
    operation: str  # status, get, put, mixed, range; of a proxy lookup, nonsense
    contenders: tuple[str, ...]
    connections: int = 64
    rate: Union[float, Share, None] = None  # None: closed loop
    durability: Optional[str] = None  # --durability if None
    keys: Optional[int] = None  # --keys if None
    value_bytes: Optional[int] = None
    key_order: str = "uniform"
    range_records: int = 0
    pipeline: int = 1  # requests of a connection at a time, over RESP
    samples: int = 0  # a run is as long as these take at its rate, if that is longer
    fill: bool = True  # what has to be there before it is read
    memory: Optional[Memory] = None  # --memory if None; else the reads that reach the disk are told
    nodes: int = 1  # in a cluster, each with that memory
    replicas: str = ""  # "A/F", as clients ask for it; empty: the server's own
    fault: str = ""  # of the last node, from before the first run on: killed, slow
    limit_us: int = LIMIT_US  # of a knee
    disk: bool = False  # probe the disk between the runs
    beside: Optional[Beside] = None  # of who runs alone
    share_cpus: bool = False  # servers and generator on all CPUs
    smoke: bool = False  # part of --quick
    aims: tuple[Aim, ...] = ()

    @property
    def alone(self) -> bool:
        """One run per contender, with no other server up."""
        return self.kind in ("sustained", "verify", "recovery")


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    description: str
    reproduces: str
    seconds: float  # of a run, by default
    steps: Callable[[Optional[float]], list[Step]]  # --rate → steps, of one node
    pairs: int = 6
    nodes: tuple[int, ...] = ()  # each step with each of these; none: it is not about clusters


def steps_of(scenario: Scenario, rate: Optional[float], nodes: Optional[list[int]] = None,
             quick: bool = False) -> list[Step]:
    """`nodes` instead of the scenario's own; quick ones are content with the first of these."""
    steps = [step for step in scenario.steps(rate) if step.smoke or not quick]
    if not scenario.nodes:
        if nodes:
            raise ValueError(f"{scenario.name} runs single nodes: leave --nodes out")
        return steps
    counts = nodes or scenario.nodes[: 1 if quick else None]
    return [of_nodes(step, count) for count in counts for step in steps]


def of_nodes(step: Step, count: int) -> Step:
    copies = int(step.replicas.partition("/")[2] or 1)
    if copies > count:
        raise ValueError(f"{step.name}: {copies} copies need as many nodes, not {count}")
    if step.fault and count < 2:
        raise ValueError(f"{step.name}: nobody would be left of 1 node")
    name = f"{step.name}, {count} node{'s' if count > 1 else ''}"
    # The disk is no yardstick for what the nodes' memories hold together.
    held = step.memory is not None and count * step.memory.share >= 1
    aims = tuple(aim for aim in step.aims if not (held and aim.metric == "disk_reads"))
    # A node by itself is asked as ever.
    return replace(step, name=name, nodes=count, replicas=step.replicas if count > 1 else "",
                   aims=aims)


ALL = ("gyre", "threadpool", "floor")


def at_most(metric: str, limit: float, to: str) -> Aim:
    return Aim(metric, (Bound(limit, to),))


def rate_steps(rate: Optional[float]) -> list[Step]:
    asked = rate or 10_000
    put = Step("", "latency", "put", ALL, rate=asked, samples=SAMPLES_FOR_P999, disk=True)
    get = Step("", "latency", "get", ALL, rate=asked, samples=SAMPLES_FOR_P999)
    put_aims = (
        Aim("p50", (Bound(1, "floor", disk=1.5),)),
        Aim("p999", (Bound(1, disk=5),)),
    )
    return [
        replace(put, name="PUT, 20 connections", connections=20),
        replace(put, name="PUT, 64 connections", aims=put_aims, smoke=True),
        replace(get, name="GET, 20 connections", connections=20),
        replace(get, name="GET, 64 connections", aims=(at_most("p999", 1.5, "floor"),), smoke=True),
    ]


def knee_steps(_: Optional[float]) -> list[Step]:
    aims = (Aim("highest", (Bound(2.5, "threadpool", at_least=True),
                            Bound(0.8, "floor", at_least=True))),)
    return [
        Step(name, "knee", operation, ALL, smoke=operation == "get", aims=aims)
        for name, operation in (("GET", "get"), ("PUT", "put"), ("GET and PUT, 50/50", "mixed"))
    ]


def fraction_steps(_: Optional[float]) -> list[Step]:
    aims = (
        Aim("p99", (Bound(1 / 2, "threadpool"), Bound(1.25, "floor"))),
        Aim("p999", (Bound(1 / 3, "threadpool"), Bound(1.25, "floor"))),
    )
    return [
        Step(f"{name} at {share:.0%} of threadpool", "latency", operation, ALL,
             rate=Share("threadpool", share), samples=SAMPLES_FOR_P999,
             smoke=operation == "get" and share == 0.5, aims=aims)
        for name, operation in (("GET", "get"), ("PUT", "put"), ("mixed", "mixed"))
        for share in (0.25, 0.5, 0.75)
    ]


def larger_than_memory_steps(rate: Optional[float]) -> list[Step]:
    # 148 bytes of value and the key: 161 per record.
    aims = (Aim("disk_reads", (Bound(0.85, "disk", at_least=True),)),)
    steps = []
    for text, memory in (("caches of a quarter of the data", Memory(1 / 4, "caches")),
                         ("--memory a quarter of the data", Memory(1 / 4, "whole"))):
        get = Step("", "latency", "get", ALL, keys=1_000_000, value_bytes=148, memory=memory,
                   replicas="1/1")
        steps += [
            replace(get, name=f"GET, {text}", rate=rate or 1_000, samples=SAMPLES_FOR_P99),
            replace(get, name=f"GET to the knee, {text}", kind="knee",
                    contenders=("gyre", "threadpool"), smoke=memory.of == "caches", aims=aims),
        ]
    return steps


def range_steps(_: Optional[float]) -> list[Step]:
    # 13 bytes of key, a newline, 156 of value: 170 bytes per record.
    aims = (Aim("bytes", (Bound(0.4, "sender", at_least=True),)),)
    return [
        Step(f"ranges of 10,000 records, {count} connections", "closed", "range",
             ("gyre", "threadpool", "sender"), connections=count, keys=100_000, value_bytes=156,
             range_records=10_000, smoke=count == 4, aims=aims)
        for count in (1, 4)
    ]


def overload_steps(rate: Optional[float]) -> list[Step]:
    aims = (Aim("resident", (Bound(1.15, "memory"),)),)
    return [
        Step("PUT at twice the capacity", "sustained", "put", ("gyre", "threadpool"),
             connections=256, rate=rate or Share("gyre", 2), keys=10_000_000, fill=False,
             beside=Beside(), smoke=True, aims=aims)
    ]


def cpu_steps(rate: Optional[float]) -> list[Step]:
    protocol, stored = ("gyre", "threadpool", "floor", "nginx"), ("gyre", "threadpool", "floor")
    loads = (
        ("status", "status", "none", protocol, 1.15),
        ("GET", "get", "none", protocol + ("redis",), 1.25),
        ("PUT without sync", "put", "none", stored + ("redis",), 1.35),
        ("PUT with group sync", "put", "group", stored, 1.7),
    )
    steps = [
        Step(f"{name}, closed loop", "closed", operation, names, durability=durability,
             keys=10_000, smoke=operation in ("status", "put"),
             aims=(at_most("system", limit, "floor"),))
        for name, operation, durability, names, limit in loads
    ]
    # The open-loop figure of a synced PUT is reported, without an aim.
    asked = rate or 10_000
    return steps + [
        Step(f"{name}, {asked:,.0f}/s", "latency", operation, names, rate=asked,
             durability=durability, keys=10_000,
             aims=() if durability == "group" else (at_most("system", limit, "floor"),))
        for name, operation, durability, names, limit in loads
    ]


def resp_steps(rate: Optional[float]) -> list[Step]:
    """One core each, like for like: Redis without a log beside durability none."""
    pair = Step("", "closed", "get", ("gyre-resp", "redis"), durability="none", keys=10_000)
    one = (at_most("system", 1.0, "redis"),)
    many = (Aim("ok", (Bound(1.3, "redis", at_least=True),)),)
    return [
        replace(pair, name=f"{name}, one at a time", operation=operation, smoke=name == "GET",
                aims=one)
        for name, operation in (("GET", "get"), ("SET", "put"))
    ] + [
        replace(pair, name=f"{name}, 16 at a time", operation=operation, pipeline=16,
                smoke=name == "SET", aims=many)
        for name, operation in (("GET", "get"), ("SET", "put"))
    ] + [
        replace(pair, name="SET, each synced, one at a time", operation="put", durability="group"),
        replace(pair, name=f"GET, {rate or 10_000:,.0f}/s", kind="latency", rate=rate or 10_000,
                samples=SAMPLES_FOR_P999),
    ]


def proxy_steps(_: Optional[float]) -> list[Step]:
    """Hits are of fewer keys than the proxy remembers, misses of twenty times as many."""
    known, many = 10_000, 400_000
    lookup = Step("", "closed", "lookup", ("proxy",))
    ladder = [
        replace(lookup, name=f"/lookup, {text}, {count} connection{'s' if count > 1 else ''}",
                operation=operation, connections=count, keys=keys,
                fill=operation == "lookup", smoke=count == 8)
        for text, operation, keys in (("no key", "nonsense", known), ("misses", "lookup", many),
                                      ("hits", "lookup", known))
        for count in (1, 8, 32, 128)
    ]
    direct = Step("", "closed", "get", ("proxy-resp", "redis", "twemproxy"), durability="none",
                  keys=known)
    aims = (Aim("ok", (Bound(1.0, "redis", at_least=True),)), at_most("p99", 1.0, "redis"))
    return ladder + [
        replace(direct, name="GET hits over RESP, one at a time", smoke=True, aims=aims),
        replace(direct, name="GET hits over RESP, 16 at a time", pipeline=16, aims=aims),
        replace(direct, name="SET through the proxy, one at a time", operation="put"),
    ]


def cores_steps(rate: Optional[float]) -> list[Step]:
    # The floors tell what two threads on CPUs that they share with the generator cost anyway.
    names = ("gyre-2-cores", "gyre-1-core", "floor-2-cores", "floor-1-core")
    aims = (at_most("system", 1.15, "gyre-1-core"),)
    return [
        Step(f"{name}, {text}", kind, operation, names, rate=asked, share_cpus=True,
             smoke=operation == "get" and asked is None, aims=aims)
        for name, operation in (("GET", "get"), ("PUT", "put"))
        for text, kind, asked in (
            ("closed loop", "closed", None),
            (f"{rate or 10_000:,.0f}/s", "latency", rate or 10_000),
        )
    ]


def recovery_steps(rate: Optional[float]) -> list[Step]:
    # Fast, and no write waits for its sync: frames gather for a millisecond, and the more is in them
    # the less of the log is padding. 30 to 50 MiB of it, which fit into a memtable of a node with
    # 1 GiB.
    aims = (Aim("recovery", (Bound(1, "300 MiB/s", at_least=True, fixed=300 * 2**20),)),)
    return [
        Step(f"a log of values of {value_bytes:,} bytes", "recovery", "put", ("gyre",),
             rate=rate or asked, durability="interval", keys=10_000_000, value_bytes=value_bytes,
             fill=False, smoke=value_bytes == 100, aims=aims)
        for value_bytes, asked in ((100, 100_000), (1_000, 20_000))
    ]


def sharded_steps(rate: Optional[float]) -> list[Step]:
    put = Step("", "latency", "put", ("gyre", "threadpool"), replicas="1/1", fill=False)
    return [
        replace(put, name="PUT of one copy", rate=rate or 1_800, samples=SAMPLES_FOR_P99),
        replace(put, name="PUT of one copy to the knee", kind="knee", smoke=True),
    ]


def replicated_steps(rate: Optional[float]) -> list[Step]:
    """The knees on all CPUs, as the aim is meant; latencies with the generator by itself."""
    aims = (Aim("highest", (Bound(1, "60,000/s", at_least=True, fixed=60_000),)),)
    both = Step("", "knee", "put", ("gyre", "threadpool"), replicas="2/3")
    knee = replace(both, share_cpus=True, limit_us=CLUSTER_LIMIT_US, aims=aims)
    at_rate = replace(both, kind="latency", rate=rate or 3_000, samples=SAMPLES_FOR_P99)
    return [
        replace(knee, name="PUT 2/3 without sync to the knee", durability="none", smoke=True),
        replace(knee, name="PUT 2/3 with group sync to the knee", durability="group"),
        replace(knee, name="GET 2/3 to the knee", operation="get"),
    ] + [
        replace(at_rate, name=f"{name} 2/3, {text}", operation=operation, fault=fault,
                smoke=name == "GET" and fault != "")
        for text, fault in (("all up", ""), ("one killed", "killed"), ("one slow", "slow"))
        for name, operation in (("PUT", "put"), ("GET", "get"))
    ]


def peer_hop_steps(rate: Optional[float]) -> list[Step]:
    get = Step("", "hop", "get", ("gyre", "threadpool"), durability="none", keys=10_000)
    return [
        replace(get, name="GET, closed loop", smoke=True),
        replace(get, name="GET, closed loop, 256 connections", connections=256),
        replace(get, name=f"GET, {rate or 10_000:,.0f}/s", rate=rate or 10_000),
    ]


def verify_steps(rate: Optional[float]) -> list[Step]:
    return [
        Step("GET and PUT, 50/50, every answer checked", "verify", "mixed", ("gyre",),
             rate=rate or Share("gyre", 0.8), fill=False, smoke=True)
    ]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "rate", "Latency at a fixed rate",
            "10,000 requests/s over 20 and over 64 connections: synced PUT, then GET of a filled "
            "store. Aims at 64 connections: p99.9 of a cached GET at most 1.5 × floor's; p50 of a "
            "PUT at most floor's + 1.5 × a synced write of the disk, p99.9 at most 5 × the disk's.",
            "LAB 1; reports 001, 003", 10, rate_steps),
        Scenario(
            "knee", "The highest rate held",
            "The highest open-loop rate with p99 within 5 ms, no error and 99 % of it achieved: "
            "GET, PUT, 50/50. A ladder of rates, then bisection to 3 %. Aim: 2.5 × threadpool, or "
            "0.8 × floor.",
            "LAB 2; report 001", 3, knee_steps),
        Scenario(
            "fractions", "Latency below the comparator's capacity",
            "GET, PUT and 50/50 at 25, 50 and 75 % of what threadpool answers in a closed loop. "
            "Aims: p99 at most half, p99.9 at most a third of threadpool's, or within 1.25 of "
            "floor's.",
            "LAB targets", 4, fraction_steps),
        Scenario(
            "larger-than-memory", "Reads of more than the memory holds",
            "A million records of 161 bytes: GET at 1,000/s, then the highest rate with p99 within "
            "5 ms, with caches, and then all of --memory, of a quarter of the data. The page cache "
            "is left out, and each store was started anew, so that all of the data is in tables. "
            "Aim: at the knee 0.85 of the reads per second that the bare disk gives. On clusters the "
            "memory of each node stays the same, and a key has one copy.",
            "LAB 3; report 001", 3, larger_than_memory_steps, nodes=(1, 2, 4, 10, 24)),
        Scenario(
            "sharded", "Writes of one copy over a cluster",
            "PUT with replicas=1/1 through all nodes: latency at 1,800/s, the highest rate with p99 "
            "within 5 ms, bytes and CPU time per node. No aim is set.",
            "LAB 4; report 001", 3, sharded_steps, nodes=(2, 24)),
        Scenario(
            "replicated", "Two answers of three copies",
            "PUT and GET with replicas=2/3: the highest rate with p99 within 10 ms, nodes and "
            "generator on all CPUs; latency at 3,000/s with all nodes up, one killed, and one that "
            "is stopped nine tenths of the time (clients ask the others). Aim: 60,000/s.",
            "LAB 5; report 002", 3, replicated_steps, nodes=(3,)),
        Scenario(
            "peer-hop", "What a forwarded request costs more",
            "GETs that every node can answer itself (as many copies as nodes, replicas=1/N), in turns "
            "with GETs of one copy (1/1), of which (N - 1)/N have to be forwarded: the difference of "
            "their CPU time per request over that share is the hop, on both sides of it. Aim: the hop "
            "is at most 15 % of a forwarded request's CPU time.",
            "LAB targets", 5, peer_hop_steps, nodes=(2,)),
        Scenario(
            "range", "Ranges of 10,000 records",
            "Ranges of 10,000 records of 170 bytes in a closed loop over 1 and 4 connections: "
            "responses and bytes per second. Aim: 0.4 × the bytes of a bare chunked sender.",
            "LAB 6; report 002", 5, range_steps),
        Scenario(
            "overload", "Writes above capacity",
            "PUT at twice what gyre answers, each server alone: latency and resident memory over "
            "time, with 2,000 GETs/s and a watch on the disk beside it. Aims: at most 1.15 × "
            "--memory resident, no error but refusals (503), no PUT that takes 20 ms longer than the disk's "
            "longest write within a second of it, p99 of the GETs within 5 ms.",
            "LAB 7; report 000", 600, overload_steps, pairs=1),
        Scenario(
            "recovery", "Recovery after kill -9",
            "A log of some tens of MiB that no table holds yet, kill -9, and a start: from exec to "
            "ready, less what an empty start of the same directory takes. Every record has to be "
            "there. Aim: 300 MiB of log per second.",
            "LAB targets", 2, recovery_steps),
        Scenario(
            "cpu", "CPU per request",
            "status, cached GET, PUT without and with group sync, closed loop over 64 connections "
            "and 10,000/s. Aims, system-wide in ratio to floor: 1.15, 1.25, 1.35, 1.7.",
            "LAB targets; perf/cpu_per_request", 5, cpu_steps),
        Scenario(
            "resp", "RESP beside Redis",
            "GET and SET over RESP, one core each: CPU per request over 64 connections with one "
            "request at a time, requests per second with 16 at a time, SET with "
            "every write synced, GET at 10,000/s. Aims: at most Redis' CPU per request, at least "
            "1.3 of its requests per second.",
            "LAB targets", 3, resp_steps),
        Scenario(
            "proxy", "The proxy in front of Redis",
            "GET /lookup without a key, of keys that have to be fetched from Redis, and of keys that "
            "are remembered, over 1 to 128 connections; then over RESP keys that are remembered, "
            "beside Redis itself and twemproxy, with one request at a time and 16. A proxy's Redis "
            "runs on the same CPU, and its CPU time is counted with it. Aims: what is remembered is "
            "answered at least as often as by Redis, with a p99 that is no higher.",
            "LAB 8; report 004", 3, proxy_steps),
        Scenario(
            "cores", "The second core",
            "CPU per request of gyre with two cores against one; the generator shares their CPUs. "
            "Aim: at most 1.15.",
            "LAB targets", 5, cores_steps),
        Scenario(
            "verify", "Every answer checked",
            "GET and PUT at 80 % of what gyre answers, each value and each absence checked. A "
            "wrong answer ends the lab with code 3.",
            "LAB, every workload", 600, verify_steps, pairs=1),
    )
}
