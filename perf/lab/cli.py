"""The lab's command line.

Exit codes: 0 done; 1 something kept it from being done; 2 a bad command line; 3 an answer was wrong;
129, 130 and 143 interrupted. What was measured until then is in the JSON file in every case.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

import report
from contenders import CONTENDERS, Contender, LabError, custom
from runner import Options, Runner
from scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
FREE_BYTES_MIN = 4 << 30
NODES_MAX = 60  # each has a connection of the generator's at least


class Interrupted(BaseException):
    def __init__(self, number: int):
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


def size_bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: not a size such as 512M or 1G")
    return int(found[1]) * UNITS[found[2]]


def size_text(text: str) -> str:
    size_bytes(text)
    return text


def positive(text: str) -> float:
    factors = {"k": 1e3, "m": 1e6}
    try:
        value = float(text.rstrip("kmKM")) * factors.get(text[-1:].lower(), 1)
    except ValueError:
        value = 0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text}: not a number above 0")
    return value


def count(text: str) -> int:
    value = positive(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text}: not a whole number")
    return int(value)


def cpu_list(text: str) -> list[int]:
    """0,2-3 → [0, 2, 3]"""
    cpus: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not found:
            raise argparse.ArgumentTypeError(f"{text}: not a list of CPUs such as 0 or 0,2-3")
        cpus += range(int(found[1]), int(found[2] or found[1]) + 1)
    missing = sorted(set(cpus) - os.sched_getaffinity(0))
    if missing:
        raise argparse.ArgumentTypeError(f"{text}: CPU {missing[0]} is not there, or not allowed")
    return sorted(set(cpus))


def node_counts(text: str) -> list[int]:
    counts = [count(part) for part in text.split(",")]
    if max(counts) > NODES_MAX:
        raise argparse.ArgumentTypeError(f"{text}: at most {NODES_MAX} nodes")
    return list(dict.fromkeys(counts))


def names_of_contenders(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in CONTENDERS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(CONTENDERS)}")
    return names


def own_contender(text: str) -> Contender:
    try:
        return custom(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="perf/lab/lab", description="Runs servers against each other, interleaved and pinned, "
        "and writes what came out as JSON and as one HTML page.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the scenarios, and who can be compared")
    page = commands.add_parser("report", help="one HTML page of results in JSON")
    page.add_argument("files", nargs="+", metavar="FILE.json")
    page.add_argument("--out", metavar="FILE.html", help="default: the first one's name with .html")
    page.add_argument("--build", default=str(ROOT / "build/release"), metavar="DIR",
                      help="has the chart library (default build/release)")
    run = commands.add_parser("run", help="runs scenarios", epilog="Exit codes: 0 done, 1 not done, "
                              "2 bad command line, 3 an answer was wrong, 129, 130 and 143 interrupted.")
    run.add_argument("scenarios", nargs="+", metavar="SCENARIO", choices=[*SCENARIOS, "all"],
                     help=", ".join(SCENARIOS) + ", or all")
    run.add_argument("--step", metavar="TEXT", help="only the steps whose name has TEXT in it")
    run.add_argument("--contenders", type=names_of_contenders, metavar="NAME,…",
                     help="only these of a scenario's")
    run.add_argument("--contender", type=own_contender, action="append", default=[],
                     metavar="NAME=COMMAND", help="one more, started by COMMAND, in which {listen}, "
                     "{port}, {data}, {cores} and, in clusters, {url} and {peers} are filled in; "
                     "may be repeated")
    run.add_argument("--pairs", type=count, metavar="N", help="turns (default: the scenario's, 6)")
    run.add_argument("--seconds", type=positive, metavar="N",
                     help="of a run (default: the scenario's)")
    run.add_argument("--rate", type=positive, metavar="N", help="instead of a scenario's own")
    run.add_argument("--keys", type=count, default=100_000, metavar="N", help="default 100,000")
    run.add_argument("--value-bytes", type=count, default=100, metavar="N", help="default 100")
    run.add_argument("--memory", type=size_text, default="1G", metavar="SIZE",
                     help="of a node (default 1G)")
    run.add_argument("--durability", choices=["group", "interval", "none"], default="group",
                     help="where a scenario doesn't say (default group)")
    run.add_argument("--cores", type=count, default=1, metavar="N", help="of a node (default 1)")
    run.add_argument("--nodes", type=node_counts, metavar="N,…", help="sizes of the clusters "
                     "(default: the scenario's)")
    run.add_argument("--server-cpus", type=cpu_list, default="0", metavar="LIST", help="default 0")
    run.add_argument("--generator-cpus", type=cpu_list, default="1", metavar="LIST",
                     help="default 1")
    run.add_argument("--out", default=str(ROOT / "build/lab"), metavar="DIR",
                     help="for the JSON and HTML files (default build/lab)")
    run.add_argument("--data", metavar="DIR", help="where servers' data is made (default: the build "
                     "directory); it tells which disk is measured")
    run.add_argument("--build", default=str(ROOT / "build/release"), metavar="DIR")
    run.add_argument("--quick", action="store_true",
                     help="a moment of everything, to see that it works: its figures mean nothing")
    run.add_argument("--no-html", action="store_true")
    return top


# --- what is shown while it runs ---
class Terminal:
    """A line that is written over, where somebody can see it; else nothing but the tellings."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.shown = 0
        self.last = ("", 0.0)

    def progress(self, text: str, left_s: float) -> None:
        if not self.live:
            return
        left = f", about {left_s / 60:.0f} min left" if left_s >= 90 else \
            f", about {left_s:.0f} s left" if left_s > 0 else ""
        width = shutil.get_terminal_size().columns - 1
        line = (text + left)[:width]
        sys.stderr.write("\r" + line.ljust(self.shown))
        sys.stderr.flush()
        self.shown = len(line)

    def tell(self, text: str) -> None:
        if self.live and self.shown:
            sys.stderr.write("\r" + " " * self.shown + "\r")
            self.shown = 0
        print(text, file=sys.stderr, flush=True)


def table(result: dict) -> str:
    """Medians of what was measured and the paired ratios, for a terminal."""
    lines = []
    for step in result["steps"]:
        lines.append(f"\n{step['name']}")
        lines += figure_lines(step)
        for ratio in step["ratios"]:
            mark = {True: "met", False: "MISSED", None: ""}[ratio["met"]]
            aim = f"aim {ratio['aim_text']}" if ratio["aim_text"] else ""
            lines.append(f"  {ratio['metric']:>9} {ratio['contender']} : {ratio['to']:<28} "
                         f"{ratio['median']:7.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) "
                         f"{aim} {mark}".rstrip())
    return "\n".join(lines)


def figure_lines(step: dict) -> list[str]:
    def us(value: Optional[float]) -> str:
        return "–" if value is None else f"{value:,.0f}"

    lines = []
    if step["kind"] == "recovery":
        return [f"  {name:<14} recovered in " + ", ".join(
            f"{1e3 * (its['start_s'] - its['empty_start_s']):,.0f}" for its in rounds) + " ms"
            for name, rounds in step["recovery"].items()]
    if step["kind"] == "knee" and step["knee"]:
        for name, rates in step["knee"]["highest"].items():
            lines.append(f"  {name:<14} holds " + ", ".join(us(rate) for rate in rates) + " /s")
        return lines
    for name in dict.fromkeys(run["contender"] for run in step["runs"]):
        runs = [run for run in step["runs"] if run["contender"] == name]
        latency = step["merged"].get(name, runs[0])["latency_us"]
        middle = sorted(runs, key=lambda run: run["ok_per_s"])[len(runs) // 2]
        cpu = middle["cpu"]
        lines.append(
            f"  {name:<14} {middle['ok_per_s']:>9,.0f}/s  p50 {us(latency['p50'])}  "
            f"p99 {us(latency['p99'])}  p99.9 {us(latency['p999'])}  max {us(latency['max'])} µs"
            + (f"  CPU {cpu['process_us']:.2f} + {cpu['system_us'] - cpu['process_us']:.2f} µs"
               if cpu else ""))
    return lines


# --- commands ---
def list_command() -> int:
    for scenario in SCENARIOS.values():
        print(f"{scenario.name:<19} {scenario.title} ({scenario.reproduces})")
        print(f"{' ':20}{scenario.description}")
    print("\ncontenders: " + ", ".join(CONTENDERS))
    return 0


def report_command(arguments: argparse.Namespace) -> int:
    path = arguments.out or str(Path(arguments.files[0]).with_suffix(".html"))
    results = report.read_results(arguments.files)
    report.write_html(results, path, os.path.join(arguments.build, "perf/lab"))
    print(path)
    return 0


def run_command(arguments: argparse.Namespace, words: list[str]) -> int:
    build = os.path.realpath(arguments.build)
    data = os.path.realpath(arguments.data or build)
    os.makedirs(arguments.out, exist_ok=True)
    os.makedirs(data, exist_ok=True)
    if shutil.disk_usage(data).free < FREE_BYTES_MIN:
        raise LabError(f"less than {FREE_BYTES_MIN >> 30} GiB are free in {data}; --data DIR "
                       "names another place")
    overlap = set(arguments.server_cpus) & set(arguments.generator_cpus)
    if overlap:
        print(f"Warning: servers and generator share CPU {min(overlap)}; latencies will show it.",
              file=sys.stderr)
    # Neither the lab's own Python nor what it samples disturbs the servers.
    os.sched_setaffinity(0, arguments.generator_cpus)
    names = list(SCENARIOS) if "all" in arguments.scenarios else arguments.scenarios
    with tempfile.TemporaryDirectory(prefix="lab-", dir=data) as work:
        options = Options(
            build=build, out=arguments.out, work=work,
            command=shlex.join(["perf/lab/lab", *words]),
            contenders=CONTENDERS | {its.name: its for its in arguments.contender},
            step=arguments.step or "", chosen=arguments.contenders,
            added=[its.name for its in arguments.contender],
            pairs=arguments.pairs, seconds=arguments.seconds, rate=arguments.rate,
            keys=arguments.keys, value_bytes=arguments.value_bytes, memory=arguments.memory,
            memory_bytes=size_bytes(arguments.memory), durability=arguments.durability,
            cores=arguments.cores, nodes=arguments.nodes, server_cpus=arguments.server_cpus,
            generator_cpus=arguments.generator_cpus, quick=arguments.quick)
        return run_scenarios(list(dict.fromkeys(names)), options, arguments)


def run_scenarios(names: list[str], options: Options, arguments: argparse.Namespace) -> int:
    terminal, wrong = Terminal(), 0
    if not arguments.no_html:
        report.read_library(os.path.join(options.build, "perf/lab"))  # missed now, not at the end
    for name in names:
        started = time.monotonic()
        runner = Runner(SCENARIOS[name], options, terminal.tell, terminal.progress)
        try:
            result = runner.run()
        except BaseException:
            terminal.tell(f"What was measured is in {runner.path}, marked interrupted.")
            raise
        terminal.progress("", 0)
        terminal.tell(table(result))
        terminal.tell("\n" + "\n".join(result["findings"]))
        files = runner.path
        if not arguments.no_html:
            page = str(Path(runner.path).with_suffix(".html"))
            report.write_html(result, page, os.path.join(options.build, "perf/lab"))
            files += " and " + page
        terminal.tell(f"{files} after {(time.monotonic() - started) / 60:.1f} min\n")
        wrong += sum(run["wrong"] or 0 for step in result["steps"] for run in step["runs"])
    return 3 if wrong else 0


def interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


def main(words: list[str]) -> int:
    arguments = parser().parse_args(words)
    if arguments.command == "list":
        return list_command()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        if arguments.command == "report":
            return report_command(arguments)
        return run_command(arguments, words)
    except (LabError, report.ReportError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"lab: {error}", file=sys.stderr)
        return 128 + error.number
