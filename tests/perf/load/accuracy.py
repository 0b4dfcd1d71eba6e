"""How well gyre-load keeps to its schedule on this machine, on demand: it times the machine as much
as the generator, so no suite runs it. The bare responder has one CPU, gyre-load another.

  accuracy.py [--build DIR] [--rates 10000,150000] [--runs 5] [--seconds 5] [--cpus 0,1]

Prints send lag, what the generator added to each request, per run. Exits with 1 if its p99 in the
median run is over 50 us, or if a run did not send all that was planned.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../.."))
P99_MAX_US = 50
WARMUP_S = 0.5
COLUMNS = ("p50", "p99", "p999", "max")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    parser.add_argument("--rates", default="10000,150000", help="requests per second")
    parser.add_argument("--runs", type=int, default=5, help="of each rate")
    parser.add_argument("--seconds", type=int, default=5, help="of a run")
    parser.add_argument("--cpus", default="0,1", help="of the responder, of gyre-load")
    parser.add_argument("--connections", type=int, default=64)
    return parser.parse_args()


def pinned(cpu: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(cpu), *command]


def start_responder(build: str, cpu: int) -> tuple[subprocess.Popen, str]:
    address = f"127.0.0.1:{random.randrange(20000, 31000)}"
    process = subprocess.Popen(
        pinned(cpu, [os.path.join(build, "perf/floor/floor"), "--listen", address]),
        stdout=subprocess.DEVNULL)
    host, port = address.split(":")
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return process, f"http://{address}/v0/status"
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    sys.exit(f"the responder does not listen on {address}")


def run(options: argparse.Namespace, cpu: int, rate: int, url: str) -> dict:
    done = subprocess.run(
        pinned(cpu, [os.path.join(options.build, "perf/load/gyre-load"), "-q", "-R", str(rate),
                     "-c", str(options.connections), "-d", f"{options.seconds}s", "--warmup",
                     f"{WARMUP_S}s", "--json", "-", url]),
        capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr.strip())
    return json.loads(done.stdout)


def measure(options: argparse.Namespace, cpu: int, rate: int, url: str) -> bool:
    """Prints the runs of a rate; whether they are good enough."""
    p99s, all_sent = [], True
    for index in range(options.runs):
        report = run(options, cpu, rate, url)
        result, verdict = report["result"], report["verdict"]
        lag = result["latency_us"]["send_lag"]
        planned = rate * options.seconds
        complete = result["sent"] == planned and result["unfinished"]["n"] == 0
        all_sent &= complete
        p99s.append(lag["p99"] if lag["p99"] is not None else lag["max"])
        cells = "".join(f"{'-' if lag[name] is None else format(lag[name], '.1f'):>10}"
                        for name in COLUMNS)
        print(f"{rate:>9}{index + 1:>5}{cells}{result['sent']:>10} of {planned}"
              f"{'' if complete else '  NOT ALL'}"
              f"  {result['cpu']['generator_busiest']:.2f} CPU"
              f"{'  generator-limited' if verdict['generator_limited'] else ''}", flush=True)
    median = statistics.median(p99s)
    good = median <= P99_MAX_US and all_sent
    print(f"{rate:>9}  median p99 {median:.1f} us, at most {P99_MAX_US}: "
          f"{'good' if good else 'NOT GOOD'}", flush=True)
    return good


def main() -> int:
    options = parse()
    server_cpu, load_cpu = (int(cpu) for cpu in options.cpus.split(","))
    responder, url = start_responder(options.build, server_cpu)
    try:
        print(f"{'rate':>9}{'run':>5}" + "".join(f"{name + ' us':>10}" for name in COLUMNS)
              + f"{'sent':>10}", flush=True)
        good = [measure(options, load_cpu, int(rate), url) for rate in options.rates.split(",")]
    finally:
        responder.kill()
        responder.wait()
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
