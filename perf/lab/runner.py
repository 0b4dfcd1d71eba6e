"""Runs the steps of a scenario: starts the contenders, takes turns over them, keeps the figures.

The result (gyre-lab/1, result.schema.json) is written anew after every run, marked interrupted
until the end, so whatever ends the lab leaves what was measured.
"""

import datetime
import json
import os
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

import machine
import recovery
import verdicts
from beside import Companions
from cluster import Cluster, cpus_of_node, free_ports
from contenders import Contender, LabError, Place, Server, free_port, least_memory_bytes
from disk import DiskProbe, DiskReads, like_reads_of
from histogram import Histogram
from knee import KneeSearch
from load import Generator, Plan
from scenarios import KEY_BYTES, Scenario, Share, Step, steps_of
from stats import turns

IDLE_SHARE_MAX = 0.05  # of a CPU, by a server that nobody asks anything
IDLE_WAIT_S = 20  # for what filling and the runs before left to do
IDLE_LOOK_S = 0.3
OTHERS_SHARE_MAX = 0.02  # of a CPU, by the servers that aren't loaded in a run
CONFIRM_TIMES = 3  # so much longer is the run that confirms a knee
CONFIRM_STEP = 1.05
CONFIRM_TRIES = 6
QUICK_SEARCH = {"factor": 2.0, "tolerance": 1.25, "tries": 1}
CAPACITY_RUNS = 3
READS = ("status", "get", "range")
ACHIEVED_MIN = 0.99
WARM_S = 5  # of reading before what is larger than the memory is measured: its caches fill up
DISK_S = 2.5  # of probing, per pair: enough for p99.9 over six


@dataclass
class Options:
    build: str
    out: str
    work: str  # an empty directory for servers' data; the caller removes it
    command: str
    contenders: dict[str, Contender]
    step: str = ""  # what a step's name has to have in it
    chosen: Optional[list[str]] = None  # of --contenders
    added: list[str] = field(default_factory=list)  # of --contender
    pairs: Optional[int] = None
    seconds: Optional[float] = None
    rate: Optional[float] = None
    keys: int = 100_000
    value_bytes: int = 100
    memory: str = "1G"
    memory_bytes: int = 1 << 30
    durability: str = "group"
    cores: int = 1
    nodes: Optional[list[int]] = None  # of clusters
    server_cpus: list[int] = field(default_factory=lambda: [0])
    generator_cpus: list[int] = field(default_factory=lambda: [1])
    quick: bool = False


def utc_now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Runner:
    """One scenario. `tell` gets lines for people, `progress` what is under way."""

    def __init__(self, scenario: Scenario, options: Options, tell: Callable[[str], None],
                 progress: Callable[[str, float], None]):
        self.scenario, self.options, self.tell, self.progress = scenario, options, tell, progress
        self.path = os.path.join(options.out, scenario.name + ".json")
        self.generator = Generator(options.build, options.work, options.generator_cpus)
        self.servers: list[Server] = []
        self.companions: Optional[Companions] = None
        self.capacities: dict[tuple, float] = {}
        self.disk: Optional[DiskProbe] = None
        self.disk_by_pair: dict[int, Histogram] = {}
        self.directories = 0
        self.reading_runs = 0
        self.result = {
            "schema": "gyre-lab/1",
            "scenario": {name: getattr(scenario, name)
                         for name in ("name", "title", "description", "reproduces")},
            "started": utc_now(), "finished": None,
            "interrupted": True, "why": "it was not finished", "command": options.command,
            "machine": machine.facts(options.work), "build": machine.build_facts(options.build),
            "pinning": {"server_cpus": options.server_cpus,
                        "generator_cpus": options.generator_cpus},
            "contenders": [], "steps": [], "findings": [],
        }
        self.notes: list[str] = []

    # --- the whole ---
    def run(self) -> dict:
        try:
            steps = steps_of(self.scenario, self.options.rate, self.options.nodes,
                             self.options.quick)
        except ValueError as error:
            raise LabError(str(error)) from error
        steps = [step for step in steps if self.options.step in step.name]
        if not steps:
            raise LabError(f"no step of {self.scenario.name} has {self.options.step!r} in its name")
        try:
            for number, step in enumerate(steps):
                self.run_step(step, number, len(steps))
            self.result["interrupted"], self.result["why"] = False, ""
        except BaseException as error:
            self.result["why"] = str(error) or type(error).__name__
            raise
        finally:
            self.stop_servers()
            if self.disk:
                self.result["machine"]["disk_sync_us"] = self.disk.summary()
                self.disk.close()
            self.result["finished"] = utc_now()
            self.save()
        return self.result

    def save(self) -> None:
        self.result["findings"] = verdicts.findings(self.result, self.notes)
        part = self.path + ".part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump(self.result, file, separators=(",", ":"), allow_nan=False)
        os.replace(part, self.path)

    def run_step(self, step: Step, number: int, count: int) -> None:
        names = self.names_of(step)
        if not names:
            self.tell(f"{step.name}: none of the chosen contenders takes part")
            return
        asked = step.rate
        if isinstance(asked, Share):
            step = replace(step, rate=asked.share * self.capacity(step, asked.of))
        self.tell(f"{self.scenario.name} {number + 1}/{count}: {step.name}"
                  + (f", {step.rate:,.0f}/s" if isinstance(asked, Share) else "")
                  + f" ({', '.join(names)})")
        record = {
            "name": step.name, "kind": step.kind, "plan": self.plan_record(step), "runs": [],
            "merged": {}, "knee": None, "ratios": [], "not_measured": [],
        }
        self.result["steps"].append(record)
        run = {"knee": self.run_knee, "sustained": self.run_alone, "verify": self.run_alone,
               "recovery": self.run_recovery, "hop": self.run_hop}
        run.get(step.kind, self.run_turns)(step, names, record)

    def names_of(self, step: Step) -> list[str]:
        options, names = self.options, list(step.contenders)
        if options.chosen is not None:
            names = [name for name in names if name in options.chosen]
        names += options.added
        found = []
        for name in names:
            contender = options.contenders[name]
            missing = contender.missing(options.build)
            if missing and contender.package:
                self.tell(f"  without {name}: {missing}")
            elif missing:
                raise LabError(missing)
            elif contender.takes(step.operation) and \
                    (contender.clusters or step.nodes == 1):
                found.append(name)
        return found

    # --- servers ---
    def start(self, step: Step, names: list[str]) -> dict[str, Server]:
        """All of them, filled, with nothing left to do."""
        options, started = self.options, {}
        for name in names:
            contender = options.contenders[name]
            server = Server(contender, self.place_of(step, contender)) if step.nodes == 1 \
                else Cluster(contender, self.places_of(step, contender))
            self.servers.append(server)
            started[name] = server
        for server in started.values():
            server.wait_until_ready()
            self.remember(server)
        self.generator.cpus = self.cpus_of(step) if step.share_cpus else options.generator_cpus
        if step.fill and step.operation in ("get", "mixed", "range", "lookup"):
            for server in started.values():
                if server.contender.stores:
                    self.progress(f"filling {server.name}", 0)
                    self.generator.fill(server, self.keys_of(step), self.value_bytes_of(step),
                                        step.replicas)
        self.wait_until_idle(step, started)
        if step.memory:
            self.reopen(step, [its for its in started.values() if its.contender.stores])
            self.wait_until_idle(step, started)
        if step.fault:
            for server in started.values():
                server.disturb(step.fault)
        return started

    def reopen(self, step: Step, servers: list[Server]) -> None:
        """Afterwards memtables are empty, so all of the data is in tables; caches hold what was read
        last."""
        seconds = 0.2 if self.options.quick else WARM_S
        for server in servers:
            self.progress(f"starting {server.name} anew", 0)
            server.reopen()
            self.generator.run(server, self.plan(step, rate=None, seconds=seconds))

    def cpus_of(self, step: Step) -> list[int]:
        cpus = self.options.server_cpus
        return sorted({*cpus, *self.options.generator_cpus}) if step.share_cpus else cpus

    def place_of(self, step: Step, contender: Contender) -> Place:
        options, cpus = self.options, self.cpus_of(step)
        self.directories += 1
        cores = contender.cores or options.cores
        directory = os.path.join(options.work, f"{contender.name}-{self.directories}")
        return Place(options.build, directory, free_port(),
                     cpus[:cores] if step.share_cpus else cpus, cores, self.memory_of(step)[0],
                     self.durability_of(step), step.operation, step.memory is not None)

    def places_of(self, step: Step, contender: Contender) -> list[Place]:
        """Of the nodes of a cluster."""
        ports = free_ports(step.nodes)
        peers = tuple(f"http://127.0.0.1:{port}" for port in ports)
        first = self.place_of(step, contender)
        cpus = self.cpus_of(step)
        return [replace(first, directory=os.path.join(first.directory, f"node-{index}"), port=port,
                        cpus=cpus_of_node(cpus, first.cores, step.nodes, index), peers=peers)
                for index, port in enumerate(ports)]

    def remember(self, server: Server) -> None:
        described = server.described(self.options.build)
        if all(known["name"] != server.name for known in self.result["contenders"]):
            self.result["contenders"].append(described)

    def busy_shares(self, servers: dict[str, Server]) -> dict[str, float]:
        """Of a CPU, by each, looked at for a moment."""
        before = machine.all_stats()
        started = time.monotonic()
        time.sleep(IDLE_LOOK_S if not self.options.quick else IDLE_LOOK_S / 6)
        after = machine.all_stats()
        look_s = time.monotonic() - started
        return {name: (server.ticks(after) - server.ticks(before)) / machine.TICKS_PER_S / look_s
                for name, server in servers.items()}

    def wait_until_idle(self, step: Step, servers: dict[str, Server]) -> None:
        """What a run left to do (flushes, merges) isn't done in somebody else's."""
        end = time.monotonic() + (2 if self.options.quick else IDLE_WAIT_S)
        while True:
            busy = self.busy_shares(servers)
            restless = [name for name, share in busy.items() if share > IDLE_SHARE_MAX]
            if not restless:
                return
            if time.monotonic() >= end:
                for name in restless:
                    self.note(f"{step.name}: {name} used {busy[name]:.0%} of a CPU while nobody "
                              "asked it anything")
                return

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def stop_servers(self) -> None:
        self.generator.stop()
        if self.companions:
            self.companions.stop()
            self.companions = None
        for server in self.servers:
            server.stop()
        self.servers.clear()

    # --- loads ---
    def keys_of(self, step: Step) -> int:
        keys = step.keys or self.options.keys
        if not self.options.quick:
            return keys
        # A quarter of fewer would leave a node no memory to answer from.
        return min(keys, 100_000 if step.memory else 20_000)

    def durability_of(self, step: Step) -> str:
        """Who only reads is started without sync: the comparator then takes the number of workers
        that is best for reads, and gyre doesn't care."""
        if step.durability:
            return step.durability
        return "none" if step.operation in READS else self.options.durability

    def value_bytes_of(self, step: Step) -> int:
        return step.value_bytes or self.options.value_bytes

    def memory_of(self, step: Step) -> tuple[str, int]:
        """--memory as it is written, and in bytes."""
        if step.memory is None:
            return self.options.memory, self.options.memory_bytes
        stored = self.keys_of(step) * (KEY_BYTES + self.value_bytes_of(step))
        size = step.memory.share * stored
        if step.memory.of == "caches":  # these get half of what a node can divide
            size = least_memory_bytes(self.options.build, self.options.cores) + 2 * size
        return str(int(size)), int(size)

    def pairs(self) -> int:
        if self.options.pairs:
            return self.options.pairs
        return min(2, self.scenario.pairs) if self.options.quick else self.scenario.pairs

    def seconds_of(self, step: Step) -> float:
        if self.options.seconds:
            return self.options.seconds
        if self.options.quick:
            return 0.4
        enough = step.samples / step.rate if step.samples and step.rate else 0
        return max(self.scenario.seconds, enough)

    def plan(self, step: Step, **changes) -> Plan:
        plan = Plan(step.operation, step.connections, step.rate, self.seconds_of(step),
                    self.keys_of(step), self.value_bytes_of(step), step.key_order,
                    min(step.range_records, self.keys_of(step) // 2), step.kind == "verify",
                    self.keys_of(step) if step.kind == "verify" else 0,
                    1 if step.share_cpus else len(self.options.generator_cpus),
                    step.memory is not None, replicas=step.replicas, pipeline=step.pipeline)
        return replace(plan, **changes)

    def plan_record(self, step: Step) -> dict:
        plan = self.plan(step)
        return {
            "operation": step.operation, "connections": step.connections, "rate": step.rate,
            "duration_s": plan.seconds, "keys": plan.keys, "value_bytes": plan.value_bytes,
            "durability": self.durability_of(step), "nodes": step.nodes,
            "replicas": step.replicas, "fault": step.fault,
            "memory_bytes": self.memory_of(step)[1], "args": " ".join(plan.arguments()),
        }

    def capacity(self, step: Step, name: str) -> float:
        """What a contender answers per second in a closed loop; measured once per kind of load."""
        key = (name, step.operation, step.connections, step.nodes, step.replicas)
        if key not in self.capacities:
            measured = replace(step, kind="closed", rate=None)
            server = self.start(measured, [name])[name]
            seconds = 0.4 if self.options.quick else min(3.0, self.scenario.seconds)
            self.progress(f"the capacity of {name}", seconds)
            # Checking costs the generator something: a share of what it can do then.
            plan = self.plan(measured, seconds=seconds, verify=step.kind == "verify")
            rates = [self.generator.run(server, plan)[0]["ok_per_s"]
                     for _ in range(1 if self.options.quick else CAPACITY_RUNS)]
            self.stop_servers()
            self.capacities[key] = statistics.median(rates)
            self.note(f"{step.operation}: {name} answers {self.capacities[key]:,.0f}/s in a closed "
                      f"loop over {step.connections} connections (median of {len(rates)})")
        return self.capacities[key]

    def load(self, server: Server, plan: Plan, servers: dict[str, Server]) -> tuple[dict, Histogram]:
        """A run, with what the servers that nobody asked used of CPUs meanwhile."""
        if plan.count_reads:
            # Caches would know the keys of the run before, all of them if its rate was low.
            self.reading_runs += 1
            plan = replace(plan, seed=1 + self.reading_runs)
        before, started = machine.all_stats(), time.monotonic()
        run, histogram = self.generator.run(server, plan, self.companions)
        after, took_s = machine.all_stats(), time.monotonic() - started
        ticks = sum(other.ticks(after) - other.ticks(before)
                    for other in servers.values() if other is not server)
        run["others_cpus_used"] = ticks / machine.TICKS_PER_S / took_s
        return run, histogram

    def add(self, record: dict, server: Server, pair: int, run: dict) -> None:
        record["runs"].append(
            {"contender": server.name, "pair": pair, "order": len(record["runs"])} | run)

    def run_turns(self, step: Step, names: list[str], record: dict) -> None:
        servers = self.start(step, names)
        plan = self.plan(step)
        if step.disk and self.disk is None:
            self.disk = DiskProbe(self.options.work, self.options.server_cpus)
            if self.disk.error:
                self.notes.append(self.disk.error)
        latencies: dict[str, list[Histogram]] = {name: [] for name in names}
        runs, done = self.pairs() * len(names), 0
        for pair in range(self.pairs()):
            for name in turns(names, pair):
                left_s = (runs - done) * (plan.seconds + plan.warmup_s + 0.5)
                self.progress(f"{step.name}: {name}, pair {pair + 1} of {self.pairs()}", left_s)
                self.wait_until_idle(step, servers)
                run, histogram = self.load(servers[name], plan, servers)
                self.add(record, servers[name], pair, run)
                latencies[name].append(histogram)
                done += 1
            if step.disk:
                self.wait_until_idle(step, servers)
                self.disk.run(0.1 if self.options.quick else DISK_S, pair)
                self.result["machine"]["disk_sync_us"] = self.disk.summary()
            self.conclude(step, record, latencies)
        self.weigh(step, servers, record)
        self.stop_servers()

    def weigh(self, step: Step, servers: dict[str, Server], record: dict) -> None:
        """How evenly a cluster shared what there was to keep and to do. Not with a node disturbed."""
        if step.nodes > 1 and not step.fault:
            record["by_node"] = {name: server.weigh() for name, server in servers.items()}
            self.save()

    def run_hop(self, step: Step, names: list[str], record: dict) -> None:
        """Each pair twice as many runs: local and forwarded of each contender, in turns."""
        filled = replace(step, replicas=f"{step.nodes}/{step.nodes}")
        servers = self.start(filled, names)
        plans = {f"{name}, {which}": (name, self.plan(step, replicas=replicas))
                 for name in names for which, replicas in
                 (("local", f"1/{step.nodes}"), ("forwarded", "1/1"))}
        latencies: dict[str, list[Histogram]] = {label: [] for label in plans}
        record["hop"] = {"forwarded_share": (step.nodes - 1) / step.nodes,
                         "rounds": {name: [] for name in names}}
        for pair in range(self.pairs()):
            cpu_us = {}
            for label in turns(list(plans), pair):
                name, plan = plans[label]
                self.progress(f"{step.name}: {label}, pair {pair + 1} of {self.pairs()}",
                              (self.pairs() - pair) * len(plans) * (plan.seconds + 0.5))
                self.wait_until_idle(step, servers)
                run, histogram = self.load(servers[name], plan, servers)
                self.add(record, servers[name], pair, run | {"contender": label})
                latencies[label].append(histogram)
                cpu_us[label] = run["cpu"]["system_us"]
            for name in names:
                record["hop"]["rounds"][name].append(verdicts.hop_of(
                    pair, cpu_us[f"{name}, local"], cpu_us[f"{name}, forwarded"],
                    record["hop"]["forwarded_share"]))
            self.conclude(step, record, latencies)
        self.stop_servers()

    def run_alone(self, step: Step, names: list[str], record: dict) -> None:
        """One long run each, with no other server up."""
        latencies = {}
        plan = self.plan(step)
        for name in names:
            server = self.start(step, [name])[name]
            if step.beside:
                plan = replace(plan, keeps_series=True)
                self.accompany(step, plan, server)
            self.progress(f"{step.name}: {name}", plan.seconds)
            try:
                run, histogram = self.load(server, plan, {name: server})
            except BaseException:
                if self.generator.cut:  # minutes of it are worth keeping
                    self.add(record, server, 0, self.generator.cut)
                raise
            self.add(record, server, 0, run)
            latencies[name] = [histogram]
            self.stop_servers()
            self.conclude(step, record, latencies)

    def run_recovery(self, step: Step, names: list[str], record: dict) -> None:
        record["recovery"] = {name: [] for name in names}
        plan = self.plan(step)

        def load(server: Server) -> None:
            self.remember(server)
            self.generator.run(server, plan)
            self.wait_until_idle(step, {server.name: server})

        for pair in range(self.pairs()):
            for name in turns(names, pair):
                self.progress(f"{step.name}: {name}, round {pair + 1} of {self.pairs()}",
                              (self.pairs() - pair) * (plan.seconds + 2) * len(names))
                contender = self.options.contenders[name]
                record["recovery"][name].append(recovery.play_round(
                    pair, contender, self.place_of(step, contender), self.servers.append, load))
                self.stop_servers()
            record["ratios"], record["not_measured"] = verdicts.recovery_ratios(step, record)
            self.save()

    def accompany(self, step: Step, plan: Plan, server: Server) -> None:
        options, what = self.options, step.beside
        keys = min(what.keys, 20_000) if options.quick else what.keys
        gets = replace(plan, operation="get", rate=what.gets_per_s, keys=keys,
                       connections=what.connections, threads=1)
        self.companions = Companions(options.build, options.work, options.generator_cpus, what, gets)
        self.progress(f"filling {server.name}", 0)
        self.generator.fill(server, keys, plan.value_bytes)
        self.companions.start_watch()
        self.wait_until_idle(step, {server.name: server})

    def conclude(self, step: Step, record: dict, latencies: dict[str, list[Histogram]]) -> None:
        for name, parts in latencies.items():
            whole = Histogram.merged(parts)
            if whole.total:
                record["merged"][name] = {"latency_us": whole.summary(),
                                          "spectrum": whole.spectrum()}
        disk = self.disk.by_pair if self.disk and step.disk else {}
        record["ratios"], record["not_measured"] = verdicts.ratios(
            step, record, disk, record["plan"]["memory_bytes"])
        self.save()

    # --- the knee ---
    def run_knee(self, step: Step, names: list[str], record: dict) -> None:
        servers = self.start(step, names)
        seconds = self.seconds_of(step)
        knee = {"limit_us": step.limit_us, "highest": {name: [] for name in names},
                "generator_ended": {name: [] for name in names},
                "at_highest": {name: [] for name in names}, **{name: [] for name in names}}
        record["knee"] = knee
        disk = None
        if step.memory:
            disk = DiskReads(self.options.build, self.options.work, self.options.server_cpus,
                             step.connections, self.options.quick)
            record["disk_reads"] = {"depth": step.connections, "read_bytes": [], "per_s": []}
        guesses = {}
        for name in names:
            closed = self.plan(step, rate=None, seconds=min(2.0, seconds))
            guesses[name] = 0.5 * self.generator.run(servers[name], closed)[0]["ok_per_s"]
        for pair in range(self.pairs()):
            pace = QUICK_SEARCH if self.options.quick else {}
            searches = {name: KneeSearch(guesses[name], **pace) for name in names}
            while not all(search.done for search in searches.values()):
                for name in turns(names, pair):
                    search = searches[name]
                    if not search.done:
                        search.tell(
                            self.rung(step, servers, name, search.rate, seconds, pair, knee))
            for name in turns(names, pair):
                self.confirm(step, servers, name, searches[name].held, pair, knee)
            if disk:
                self.probe_reads(step, servers, disk, record, pair)
            record["ratios"], record["not_measured"] = verdicts.knee_ratios(step, record)
            self.save()
        self.weigh(step, servers, record)
        self.stop_servers()

    def probe_reads(self, step: Step, servers: dict[str, Server], disk: DiskReads,
                    record: dict, pair: int) -> None:
        """As large as those of the first contender in its ladder."""
        first = next(iter(record["knee"]["highest"]))
        counted = [rung["reads"] for rung in record["knee"][first]
                   if rung["pair"] == pair and rung["reads"] and rung["reads"]["blocks"]]
        size = like_reads_of(statistics.median(
            reads["bytes"] / reads["blocks"] for reads in counted) if counted else 0)
        self.wait_until_idle(step, servers)
        record["disk_reads"]["read_bytes"].append(size)
        record["disk_reads"]["per_s"].append(disk.run(size))

    def rung(self, step: Step, servers: dict[str, Server], name: str, rate: float, seconds: float,
             pair: int, knee: dict) -> bool:
        self.progress(f"{step.name}: {name} at {rate:,.0f}/s, ladder {pair + 1} of {self.pairs()}", 0)
        self.wait_until_idle(step, servers)
        run, histogram = self.load(servers[name], self.plan(step, rate=rate, seconds=seconds),
                                   servers)
        rung = rung_of(run, histogram, rate, pair, step.limit_us)
        knee[name].append(rung)
        return rung["held"]

    def confirm(self, step: Step, servers: dict[str, Server], name: str, rate: Optional[float],
                pair: int, knee: dict) -> None:
        """The best of many short runs flatters: what a longer one holds is the knee."""
        rungs = knee[name]
        missed = [rung for rung in rungs if rung["pair"] == pair and not rung["held"]]
        lowest = min(missed, key=lambda rung: rung["rate"], default=None)
        times = 1 if self.options.quick else CONFIRM_TIMES
        for _ in range(1 if self.options.quick else CONFIRM_TRIES):
            if rate is None or self.rung(step, servers, name, rate,
                                         self.seconds_of(step) * times, pair, knee):
                break
            lowest, rate = rungs[-1], rate / CONFIRM_STEP
        else:
            rate = None
        knee["highest"][name].append(rate)
        knee["at_highest"][name].append(None if rate is None else rungs[-1])
        knee["generator_ended"][name].append(bool(lowest and lowest["generator_limited"]))


def rung_of(run: dict, histogram: Histogram, rate: float, pair: int, limit_us: float) -> dict:
    errors = sum(run["errors"].values()) + run["unfinished"]
    p99 = histogram.at(99)
    return {
        "rate": rate, "pair": pair, "p50": histogram.at(50), "p99": p99,
        "p999": run["latency_us"]["p999"], "ok_per_s": run["ok_per_s"], "errors": errors,
        "generator_limited": run["generator_limited"],
        "held": p99 is not None and p99 <= limit_us and errors == 0
        and run["ok_per_s"] >= ACHIEVED_MIN * rate,
        "reads": run.get("reads"),
        "server_cpus_used": (run.get("cpu") or {}).get("server_cpus_used"),
    }
