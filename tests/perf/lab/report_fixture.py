"""Results of the lab as the report gets them, made up: a full one and one with almost nothing.

  report_fixture.py DIR    writes full.json and minimal.json there

The same figures every time. They resemble a run, so that people can judge the report by them.
"""

import json
import math
import os
import random
import sys

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9, "p9999": 99.99}
# Median in µs, how the tail grows per factor of ten in 1/(1-p), CPU per request (user, kernel,
# whole system), the knee, and memory at rest.
CONTENDERS = {
    "gyre": (118, 1.42, (1.1, 4.2, 6.1), 104_000, 46e6),
    "threadpool": (310, 2.15, (9.4, 12.2, 22.8), 31_000, 310e6),
    "floor": (90, 1.44, (0.1, 3.6, 4.3), 152_000, 6e6),
}
METRICS = {
    "p99": "p99", "p999": "p99.9", "system_us": "CPU per request", "highest": "highest load",
}
PAIRS = 6
MEMORY_BYTES = 256 * 1024 * 1024


def quantile(name, percentile, factor=1.0):
    median, growth, *_ = CONTENDERS[name]
    decades = math.log10(1 / (1 - percentile / 100)) - math.log10(2)
    return median * factor * growth**decades * (1 + 0.15 * max(0.0, decades - 2) ** 2)


def latency(name, factor, n):
    supported = {
        key: quantile(name, p, factor) if n * (1 - p / 100) >= 100 else None
        for key, p in PERCENTILES.items()
    }
    return {
        "n": n, "min": quantile(name, 0, factor), "mean": 1.2 * quantile(name, 50, factor),
        **supported, "max": quantile(name, 100 - 100 / n, factor) * 1.3,
    }


def spectrum(name, factor, n):
    """About 60 points, log-spaced in 1/(1-p), up to the last that has a hundred samples above."""
    rows, end = [], math.log10(n / 100)
    for step in range(60):
        percentile = 100 * (1 - 10 ** (-end * step / 59))
        above = round(n * (1 - percentile / 100))
        rows.append([percentile, quantile(name, percentile, factor), above])
    return rows


def one_run(random_, name, pair, order, rate, n):
    factor = random_.uniform(0.92, 1.1)
    user, kernel, system = (cost * random_.uniform(0.97, 1.04) for cost in CONTENDERS[name][2])
    return {
        "contender": name, "pair": pair, "order": order, "rate": rate,
        "answered_per_s": (rate or CONTENDERS[name][3]) * random_.uniform(0.998, 1.0), "ok": n,
        "errors": {"connect": 0, "status": 0, "timeout": 0}, "unfinished": 0, "wrong": 0,
        "generator_limited": False, "generator": "on CPU 1",
        "latency_us": latency(name, factor, n), "spectrum": spectrum(name, factor, n),
        "series": None,
        "hiccup_us": {"p50": 2.1, "p99": 9 * factor, "p999": 42 * factor, "max": 180 * factor},
        "send_lag_us": {"p50": 1.1, "p99": 8 * factor, "p999": 19 * factor, "max": 90 * factor},
        "cpu": {
            "user_us": user, "kernel_us": kernel, "process_us": user + kernel, "system_us": system,
            "server_cpus_used": (user + kernel) * 0.01, "generator_cpus_used": 0.98,
        },
        "memory": {
            "resident_max_bytes": CONTENDERS[name][4] * random_.uniform(1, 1.05),
            "resident_bytes": None,
        },
    }


def interleaved(random_, rate, n):
    runs = []
    for pair in range(PAIRS):
        names = list(CONTENDERS) if pair % 2 == 0 else list(CONTENDERS)[::-1]
        for name in names:
            runs.append(one_run(random_, name, pair, len(runs), rate, n))
    return runs


def merged(runs, n):
    parts = {}
    for name in CONTENDERS:
        figures = latency(name, 1.0, n)
        figures["max"] = max(
            run["latency_us"]["max"] for run in runs if run["contender"] == name
        )
        parts[name] = {"latency_us": figures, "spectrum": spectrum(name, 1.0, n)}
    return parts


def ratios(runs, rows):
    found = []
    for to, metric, aim, aim_text in rows:
        values = []
        for pair in range(PAIRS):
            mine, theirs = (
                next(run for run in runs if run["pair"] == pair and run["contender"] == name)
                for name in ("gyre", to)
            )
            group = "cpu" if metric in mine["cpu"] else "latency_us"
            if mine[group][metric] and theirs[group][metric]:
                values.append(mine[group][metric] / theirs[group][metric])
        values.sort()
        median = values[len(values) // 2] if values else None
        found.append({
            "contender": "gyre", "to": to, "metric": metric, "median": median,
            "low": values[0] if values else None, "high": values[-1] if values else None,
            "pairs": len(values), "aim": aim, "aim_text": aim_text,
            "met": None if aim is None or median is None else median <= aim,
        })
    return found


def plan(operation, connections, rate, duration_s):
    return {
        "operation": operation, "connections": connections, "rate": rate,
        "duration_s": duration_s, "keys": 10_000, "value_bytes": 100, "durability": "group",
        "memory_bytes": MEMORY_BYTES, "args": f"-c {connections} -d {duration_s}s",
    }


def latency_step(random_):
    runs = interleaved(random_, 10_000, 300_000)
    return {
        "name": "PUT, 64 connections, 10,000/s", "kind": "latency",
        "plan": plan("put", 64, 10_000, 30), "runs": runs, "merged": merged(runs, 1_800_000),
        "ratios": ratios(runs, [
            ("threadpool", "p50", None, None),
            ("threadpool", "p99", 0.5, "≤ 1/2 of the comparator"),
            ("threadpool", "p999", 1 / 3, "≤ 1/3 of the comparator"),
            ("floor", "p999", 1.5, "≤ 1.5 of the bare responder"),
            ("floor", "system_us", 1.35, "≤ 1.35 of the bare responder"),
        ]),
    }


def knee_step(random_):
    knee, highest = {}, {}
    for name in CONTENDERS:
        limit, rungs = CONTENDERS[name][3], []
        for pair in range(PAIRS):
            top = limit * random_.uniform(0.95, 1.05)
            for part in (0.25, 0.5, 0.75, 0.9, 1.0, 1.1):
                rate = round(limit * part * random_.uniform(0.985, 1.015), -1)
                load = min(rate / top, 0.985)
                p99 = quantile(name, 99) * (1 + load**6 / (1 - load))
                p99 = p99 if rate < top else random_.uniform(60_000, 900_000)
                rungs.append({
                    "rate": rate, "p50": p99 / 2.5, "p99": p99, "p999": p99 * 1.8,
                    "ok_per_s": min(rate, top), "errors": 0, "held": p99 <= 5000, "pair": pair,
                    "reads": {"blocks": 0.8, "bytes": 6963.2, "blocks_per_s": 0.8 * rate},
                    "server_cpus_used": 0.75,
                })
            highest.setdefault(name, []).append(round(top * 0.97, -2))
        knee[name] = rungs
    steps_ratio = [a / b for a, b in zip(highest["gyre"], highest["threadpool"])]
    return {
        "name": "The knee: PUT until p99 > 5 ms", "kind": "knee",
        "plan": plan("put", 64, None, 10), "runs": [], "merged": {},
        "knee": {
            **knee, "limit_us": 5000, "highest": highest,
            "at_highest": {name: [None, rungs[4]] for name, rungs in knee.items()},
        },
        "disk_reads": {"depth": 64, "read_bytes": [8192] * 2, "per_s": [91_000.0, 94_000.0]},
        "ratios": [{
            "contender": "gyre", "to": "threadpool", "metric": "highest",
            "median": sorted(steps_ratio)[3], "low": min(steps_ratio), "high": max(steps_ratio),
            "pairs": PAIRS, "aim": 2.5, "aim_text": "≥ 2.5 × the comparator", "met": True,
        }],
    }


def beside(name):
    return {
        "gets": {
            "rate": 2000, "ok_per_s": 1999.0, "errors": {"status": 4321, "unavailable": 4321},
            "unfinished": 0, "latency_us": latency(name, 1.5, 1_200_000),
            "service_us": {"p50": 90.0, "p99": 3210.0, "p999": 9000.0, "max": 30_000.0},
            "generator_limited": False, "generator": "kept to its schedule",
        },
        "disk": {
            "per_s": 175, "realtime": True, "late_max_us": 31.0,
            "latency_us": {"n": 30_000, "min": 90.0, "mean": 130.0, "p50": 120.0, "p90": 150.0,
                           "p99": 300.0, "p999": 1230.0, "p9999": None, "max": 41_000.0},
        },
        "stalls": {"limit_us": 20_000, "seconds": 599, "above": 3, "longest_above_us": 227_000.0},
    }


def sustained_step(random_):
    runs = []
    for order, name in enumerate(CONTENDERS):
        run = one_run(random_, name, 0, order, 150_000, 9_000_000)
        stall = name == "threadpool"
        run["series"], run["memory"]["resident_bytes"] = [], []
        for t in range(0, 600, 2):
            slow = random_.uniform(0.8, 1.3) * (40 if stall and t % 90 > 80 else 1)
            p50, p99 = quantile(name, 50) * slow, quantile(name, 99) * slow
            run["series"].append({
                "t": t, "answers": round(CONTENDERS[name][3] * random_.uniform(0.9, 1)),
                "errors": 800 if stall and t % 90 > 84 else 0,
                "p50": p50, "p99": p99, "p999": p99 * 2, "max": p99 * random_.uniform(2, 9),
                "service_max": p99 * random_.uniform(2, 9),
                "disk_max": 900.0 * random_.uniform(0.5, 9), "disk_max_near": 8100.0,
            })
            grown = MEMORY_BYTES * (1 - math.exp(-t / 120)) if name != "floor" else 0
            run["memory"]["resident_bytes"].append([t, CONTENDERS[name][4] + 0.8 * grown])
        run["memory"]["resident_max_bytes"] = max(
            point[1] for point in run["memory"]["resident_bytes"]
        )
        run["service_us"] = {"p50": 100.0, "p99": 900.0, "p999": 11_200.0, "max": 268_000.0}
        run["beside"] = beside(name)
        if stall:
            run["errors"]["status"] = 9600
        runs.append(run)
    return {
        "name": "PUT above capacity for 10 minutes", "kind": "sustained",
        "plan": plan("put", 64, 150_000, 600), "runs": runs, "merged": merged(runs, 9_000_000),
        "ratios": [],
    }


def hop_step(random_):
    """Two contenders in pairs; what their nodes stored and used."""
    rounds = {}
    for name, hop_us in (("gyre", 2.0), ("threadpool", 40.0)):
        rounds[name] = []
        for pair in range(PAIRS):
            local, hop = 6 * random_.uniform(0.9, 1.1), hop_us * random_.uniform(0.9, 1.1)
            rounds[name].append({"pair": pair, "local_us": local, "mixed_us": local + hop / 2,
                                 "hop_us": hop, "share": hop / (local + hop)})
    return {
        "name": "GET, closed loop, 2 nodes", "kind": "hop", "plan": plan("get", 64, None, 5),
        "runs": [], "merged": {}, "ratios": [],
        "hop": {"forwarded_share": 0.5, "rounds": rounds},
        "by_node": {"gyre": {"cpu_s": [1.5, 1.6], "disk_bytes": [9_000_000, 9_100_000],
                             "table_bytes": [3_000_000, 3_600_000]}},
    }


def recovery_step(random_):
    rounds = []
    for pair in range(PAIRS):
        took_s = 0.1 * random_.uniform(0.95, 1.05)
        rounds.append({
            "pair": pair, "log_bytes": 40_000_000, "record_bytes": 36_000_000, "records": 250_000,
            "empty_start_s": 0.0412, "start_s": 0.0412 + took_s,
            "bytes_per_s": 40_000_000 / took_s, "records_per_s": 250_000 / took_s,
        })
    return {
        "name": "A log after kill -9", "kind": "recovery", "plan": plan("put", 64, 100_000, 2),
        "runs": [], "merged": {}, "ratios": [], "recovery": {"gyre": rounds},
    }


def findings(steps):
    return [
        f"{'met' if row['met'] else 'missed'}: {step['name']}: {METRICS[row['metric']]} of gyre is "
        f"{row['median']:.2f} of {row['to']}, {row['low']:.2f} to {row['high']:.2f} "
        f"(aim {row['aim_text']})"
        for step in steps for row in step["ratios"] if row["met"] is not None
    ]


def machine():
    return {
        "cpu": "Example CPU @ 2.60GHz", "cores": 2, "memory_bytes": 8 * 1024**3,
        "kernel": "6.1.0-example", "governor": "performance", "thp": "madvise",
        "filesystem": "ext4", "disk_interrupt_cpu": 0,
        "disk_sync_us": {"n": 2000, "p50": 104, "p99": 180, "p999": 220, "max": 410},
        "load_average": 0.12,
    }


def full():
    random_ = random.Random(7)
    steps = [latency_step(random_), knee_step(random_), sustained_step(random_),
             recovery_step(random_), hop_step(random_)]
    return {
        "schema": "gyre-lab/1",
        "scenario": {
            "name": "single-put", "title": "One node, PUT at 10,000/s and to the knee",
            "description": "A node alone takes writes of 100 bytes from 64 connections: at a fixed "
            "rate, up to the rate at which it no longer answers in time, and beyond.",
            "reproduces": "reports 001, 003",
        },
        "started": "2026-03-01T10:00:00Z", "finished": "2026-03-01T10:42:07Z",
        "interrupted": False, "why": "", "command": "perf/lab/lab run single-put --pairs 6",
        "machine": machine(),
        "build": {
            "commit": "0123456789abcdef", "dirty": False, "compiler": "clang 19.1.7",
            "options": "-O3 -g",
        },
        "pinning": {"server_cpus": [0], "generator_cpus": [1]},
        "contenders": [
            {"name": "gyre", "version": "0.1.0", "command": "gyre serve --cores 1"},
            {"name": "threadpool", "version": "0.1.0", "command": "gyre-threadpool --workers 8"},
            {"name": "floor", "version": None, "command": "floor 18080"},
        ],
        "steps": steps,
        "findings": findings(steps) + ["No wrong answer in 21 runs."],
    }


def minimal():
    """One pair of one contender, most of it absent, names that try to be markup, interrupted."""
    hostile = '<script>document.title="broken"</script>'
    absent_latency = dict.fromkeys(
        ["n", "min", "mean", "p50", "p90", "p99", "p999", "p9999", "max"]
    )
    run = {
        "contender": hostile, "pair": 0, "order": 0, "rate": None, "answered_per_s": None,
        "ok": None, "errors": None, "unfinished": None, "wrong": 3, "generator_limited": True,
        "generator": None, "latency_us": None, "spectrum": None, "series": None,
        "hiccup_us": None, "send_lag_us": None, "cpu": None, "memory": None,
    }
    return {
        "schema": "gyre-lab/1",
        "scenario": {
            "name": "broken", "title": "</title><script>alert(1)</script>",
            "description": None, "reproduces": None,
        },
        "started": "2026-03-01T10:00:00Z", "finished": None, "interrupted": True,
        "why": "the server of <b>gyre</b> ended", "command": None, "machine": None, "build": None,
        "pinning": None, "contenders": [{"name": hostile, "version": None, "command": None}],
        "steps": [
            {
                "name": "</script><img src=x onerror=alert(1)>", "kind": "closed", "plan": None,
                "runs": [run], "merged": {hostile: {"latency_us": absent_latency}},
                "ratios": [{
                    "contender": hostile, "to": "floor", "metric": "p99", "median": None,
                    "low": None, "high": None, "pairs": 0, "aim": 1.5, "aim_text": None,
                    "met": None,
                }],
            },
            {
                "name": "PUT, one pair", "kind": "latency",
                "plan": plan("put", 64, 10_000, 30),
                "runs": [dict(one_run(random.Random(1), "gyre", 0, 0, 10_000, 20_000),
                              cpu=None, memory=None, hiccup_us=None)],
                "merged": None, "ratios": None,
            },
            {"name": "not reached", "kind": "knee", "plan": None, "runs": [], "knee": None},
        ],
        "findings": [],
    }


def small():
    """The full one with few rows of each list, for tests that go through every field."""
    result = full()
    for step in result["steps"]:
        step["runs"] = step["runs"][:3]
        for run in step["runs"]:
            run["spectrum"] = run["spectrum"][::20]
            run["series"] = run["series"] and run["series"][:60:20]
            memory = run["memory"]
            memory["resident_bytes"] = memory["resident_bytes"] and memory["resident_bytes"][:60:20]
        for name in CONTENDERS:
            if name in step["merged"]:
                step["merged"][name]["spectrum"] = step["merged"][name]["spectrum"][::20]
            if "knee" in step:
                step["knee"][name] = step["knee"][name][:8]
    return result


def paths(value, so_far=()):
    """The path to everything that may be absent: whatever has a name. Of a list's items, which
    are alike, the first; of figures in a row none, for rows are whole."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not so_far and key == "schema":
                continue
            yield so_far + (key,)
            yield from paths(inner, so_far + (key,))
    elif isinstance(value, list):
        chosen = range(len(value)) if so_far == ("steps",) else range(min(1, len(value)))
        for index in chosen:
            yield from paths(value[index], so_far + (index,))


def put(result, path, value):
    for key in path[:-1]:
        result = result[key]
    result[path[-1]] = value


if __name__ == "__main__":
    for name, result in (("full", full()), ("minimal", minimal())):
        with open(os.path.join(sys.argv[1], name + ".json"), "w", encoding="utf-8") as file:
            json.dump(result, file)
