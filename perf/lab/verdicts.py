"""What a step's runs say about its aims: paired ratios, and one line per aim for people.

Judged are pairs of runs without errors. Runs that the generator limited are left out where enough
pairs remain: its own delays, added above and below, would pull every ratio to 1. A percentile that
single runs have too few samples for is compared between the merged histograms of all runs: one
ratio without a range, "pairs": 1. An aim that can't be judged is said to be not measured, and why.

An aim may be met in one of several ways (half of one contender, or near to another). Each way is a
row of its own; once one holds, the others are no failures, so their `met` is null.
"""

import statistics
from typing import Optional

from histogram import Histogram
from scenarios import HOP_SHARE_MAX, LIMIT_US, Aim, Bound, Step
from stats import Spread, by_pair, metric_of, paired_ratios, spread

PAIRS_KEPT_MIN = 3
OTHERS_CPUS_MAX = 0.02
BLOCKS_MIN = 0.2  # read per request by who has less memory than data
SHOWN = {"latency": ("p50", "p99", "p999", "system"), "closed": ("ok", "system", "process"),
         "sustained": ("ok", "p50", "p99", "p999"), "verify": (), "hop": ()}
WORDS = {
    "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "p9999": "p99.99",
    "system": "CPU per request", "process": "the process's CPU per request",
    "ok": "good answers/s", "bytes": "bytes/s", "resident": "resident memory",
    "highest": "the highest rate held", "disk_reads": "reads per second at the knee",
    "recovery": "the speed of recovery",
}
SERVER_ERRORS = ("connect", "read", "write", "timeout", "malformed", "not_found", "wrong")


def error_count(run: dict) -> int:
    errors = dict(run["errors"])
    errors.pop("not_found", None)  # among the statuses
    errors.pop("unavailable", None)
    return sum(errors.values()) + run["unfinished"]


def judgeable(step: Step, runs: list[dict]) -> list[dict]:
    """Without runs with errors (their latencies and CPU are partly those of refusals), and without
    those that the generator limited where enough pairs remain."""
    if step.alone:
        return runs
    good = [run for run in runs if error_count(run) == 0]
    free = [run for run in good if not run["generator_limited"]]
    names = {run["contender"] for run in good}
    pairs = set.intersection(*({run["pair"] for run in free if run["contender"] == name}
                               for name in names)) if names else set()
    return free if len(pairs) >= PAIRS_KEPT_MIN and step.rate is not None else good


def ratios(step: Step, record: dict, disk: dict[int, Histogram],
           memory_bytes: int) -> tuple[list[dict], list[str]]:
    """Rows, and lines for the aims that have none."""
    runs = judgeable(step, record["runs"])
    subject = record["runs"][0]["contender"]  # the first of those that take part
    others = [name for name in dict.fromkeys(run["contender"] for run in runs) if name != subject]
    rows, missing, covered = [], [], set()
    for aim in step.aims if subject == step.contenders[0] else ():
        used = comparable(record, runs, subject, [bound.to for bound in aim.bounds], aim.metric)
        figures = by_pair(used, subject, lambda run: metric_of(run, aim.metric))
        found = [(bound, spread(paired_ratios(
            figures, references(bound, aim.metric, used, disk, memory_bytes))))
            for bound in aim.bounds]
        rows += judged(subject, aim, found)
        missing += unmeasured(aim, found, bool(figures))
        covered |= {(aim.metric, bound.to) for bound in aim.bounds if not bound.disk}
    for metric in SHOWN[step.kind]:
        for other in others:
            if (metric, other) in covered:
                continue
            used = comparable(record, runs, subject, [other], metric)
            its = spread(paired_ratios(*(by_pair(used, name, lambda run: metric_of(run, metric))
                                         for name in (subject, other))))
            if its is not None:
                rows.append(row(subject, other, metric, its))
    return rows, missing


def comparable(record: dict, runs: list[dict], subject: str, others: list[str],
               metric: str) -> list[dict]:
    """The runs, or, where a pair lacks the figure, one made of each contender's merged ones."""
    names = {subject, *others}
    runs = [run for run in runs if run["contender"] in names]
    if all(metric_of(run, metric) is not None for run in runs):
        return runs
    merged = [{"contender": name, "pair": 0, "latency_us": record["merged"][name]["latency_us"]}
              for name in names if name in record["merged"]]
    return merged if any(metric_of(run, metric) is not None for run in merged) else runs


def knee_ratios(step: Step, record: dict) -> tuple[list[dict], list[str]]:
    """A knee at which the generator was the limit is a lower bound: above the line it makes a
    ratio "at least", below it none."""
    knee = record["knee"]
    subject = step.contenders[0]
    if subject not in knee["highest"]:
        return [], []
    highest = {pair: rate for pair, rate in enumerate(knee["highest"][subject]) if rate}
    rows, missing, covered = [], [], {subject}
    for aim in step.aims:
        figures = highest if aim.metric == "highest" else table_reads(knee, subject)
        found = []
        for bound in aim.bounds:
            if bound.fixed is not None:
                known = dict.fromkeys(figures, bound.fixed)
            elif bound.to == "disk":
                known = dict(enumerate(record["disk_reads"]["per_s"]))
            else:
                known = known_knees(knee, bound.to)
            found.append((bound, spread(paired_ratios(figures, known))))
            covered.add(bound.to)
        at_least = any(knee["generator_ended"][subject])
        rows += judged(subject, aim, found, at_least)
        missing += unmeasured(aim, found, bool(figures),
                              "the generator was its limit, or it held no rate")
    for other in knee["highest"]:
        if other not in covered:
            its = spread(paired_ratios(highest, known_knees(knee, other)))
            rows += [row(subject, other, "highest", its)] if its else []
    return rows, missing


def recovery_ratios(step: Step, record: dict) -> tuple[list[dict], list[str]]:
    subject = step.contenders[0]
    speeds = {name: {its["pair"]: its["bytes_per_s"] for its in rounds if its["bytes_per_s"]}
              for name, rounds in record["recovery"].items()}
    figures, rows, missing = speeds.get(subject, {}), [], []
    for aim in step.aims if subject in speeds else ():
        found = [(bound, spread(paired_ratios(figures, dict.fromkeys(figures, bound.fixed))))
                 for bound in aim.bounds]
        rows += judged(subject, aim, found)
        missing += unmeasured(aim, found, bool(figures),
                              "no start took longer than an empty one: the log was too short")
    return rows, missing


def hop_of(pair: int, local_us: float, mixed_us: float, forwarded_share: float) -> dict:
    """The hop of a forwarded request from the CPU time per request of runs without and with them:
    mixed = local + forwarded_share × hop. Negative where noise is larger than the hop."""
    hop_us = (mixed_us - local_us) / forwarded_share
    return {"pair": pair, "local_us": local_us, "mixed_us": mixed_us, "hop_us": hop_us,
            "share": hop_us / (local_us + hop_us)}


def known_knees(knee: dict, name: str) -> dict[int, float]:
    """{pair: rate}, without those that are lower bounds."""
    return {pair: rate for pair, rate in enumerate(knee["highest"].get(name, []))
            if rate and not knee["generator_ended"][name][pair]}


def table_reads(knee: dict, name: str) -> dict[int, float]:
    """{pair: blocks per second that it read from the disk at its knee}"""
    return {pair: rung["reads"]["blocks_per_s"]
            for pair, rung in enumerate(knee["at_highest"][name]) if rung and rung["reads"]}


def unmeasured(aim: Aim, found: list[tuple[Bound, Optional[Spread]]], has_figures: bool,
               why: str = "too few samples, runs with errors, or not among the contenders"
               ) -> list[str]:
    if any(its is not None for _, its in found):
        return []
    lack = ", ".join(bound.reference for bound, _ in found) if has_figures else "the figure itself"
    return [f"{WORDS[aim.metric]} {aim.text}: {lack} is missing ({why})"]


def references(bound: Bound, metric: str, runs: list[dict], disk: dict[int, Histogram],
               memory_bytes: int) -> dict[int, float]:
    """{pair: what the figure is divided by}, only of pairs that have all parts."""
    if bound.to == "memory":
        return {run["pair"]: memory_bytes for run in runs}
    parts = []
    if bound.to:
        parts.append(by_pair(runs, bound.to, lambda run: metric_of(run, metric)))
    if bound.disk:
        # A moment of probing has too few samples for a tail: all pairs' together have them.
        its = Histogram.merged(disk.values()).summary()[metric] if disk else None
        parts.append({run["pair"]: bound.disk * its for run in runs} if its else {})
    pairs = set.intersection(*(set(part) for part in parts))
    return {pair: sum(part[pair] for part in parts) for pair in pairs}


def row(subject: str, to: str, metric: str, its: Spread) -> dict:
    return {"contender": subject, "to": to, "metric": metric, "median": its.median,
            "low": its.low, "high": its.high, "pairs": its.pairs,
            "aim": None, "aim_text": None, "met": None}


def judged(subject: str, aim: Aim, found: list[tuple[Bound, Optional[Spread]]],
           lower_bound: bool = False) -> list[dict]:
    """`lower_bound`: the figure is at least so much, so it can meet an aim but not miss it."""
    met = any(its is not None and bound.holds(its.median) for bound, its in found)
    rows = []
    for bound, its in found:
        if its is None:
            continue
        holds = bound.holds(its.median)
        rows.append(row(subject, bound.reference, aim.metric, its) | {
            "aim": bound.limit, "aim_text": bound.text,
            "met": True if holds else None if met or lower_bound else False,
        })
    return rows


# --- lines for people ---
def findings(result: dict, notes: list[str]) -> list[str]:
    lines = []
    for step in result["steps"]:
        lines += aim_lines(step)
        lines += trouble_lines(step)
        lines += reads_lines(step)
        lines += recovery_lines(step)
        lines += hop_lines(step)
        lines += node_lines(step)
        if step["kind"] == "verify" and step["runs"]:
            lines.append(verified_line(step))
        if step["kind"] == "sustained" and step["runs"]:
            lines.append(refusals_line(step))
        for number, run in enumerate(step["runs"]):
            if run.get("beside"):
                lines += beside_lines(step["name"], run, judged=number == 0)
    return lines + notes


def aim_lines(step: dict) -> list[str]:
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in step["ratios"] if r["aim"] is not None):
        rows = [r for r in step["ratios"] if r["metric"] == metric and r["aim"] is not None]
        word = "met" if any(r["met"] for r in rows) else \
            "missed" if any(r["met"] is False for r in rows) else "open"
        facts = " · ".join(
            f"{r['median']:.2f} × {r['to']} ({range_text(r)}; aim {r['aim_text']})" for r in rows)
        lines.append(f"{word}: {step['name']}: {WORDS[metric]} of {rows[0]['contender']} is {facts}")
    lines += [f"not measured: {step['name']}: {text}" for text in step["not_measured"]]
    for name, ended in (step["knee"] or {}).get("generator_ended", {}).items():
        if any(ended):
            lines.append(f"{step['name']}: {name} may hold more: the generator was the limit of "
                         f"{sum(ended)} of {len(ended)} ladders")
    return lines


def range_text(row_: dict) -> str:
    if row_["pairs"] == 1:
        return "1 ratio, of all runs merged" if row_["metric"] in ("p99", "p999", "p9999") \
            else "1 run"
    return f"{row_['low']:.2f} to {row_['high']:.2f}, {row_['pairs']} pairs"


def reads_lines(step: dict) -> list[str]:
    """What reached the disk, of those whose reads were counted."""
    lines = []
    knee = step["knee"] or {}
    for name in dict.fromkeys([run["contender"] for run in step["runs"]]
                              + list(knee.get("at_highest", {}))):
        runs = [run for run in step["runs"] if run["contender"] == name] + knee.get(name, [])
        counted = [run["reads"] for run in runs if run.get("reads")]
        if not counted:
            continue
        blocks, size = (statistics.median(reads[key] for reads in counted)
                        for key in ("blocks", "bytes"))
        text = f"{step['name']}: {name} read {blocks:.2f} blocks and {size / 1024:.1f} KiB from " \
            "the disk per request"
        held = [rung for rung in knee.get("at_highest", {}).get(name, []) if rung]
        if held:
            per_s = statistics.median(rung["reads"]["blocks_per_s"] for rung in held)
            busy = statistics.median(rung["server_cpus_used"] for rung in held)
            text += f", {per_s:,.0f} blocks/s at its knee with {busy:.2f} CPUs"
        nodes = (step.get("plan") or {}).get("nodes", 1)
        if blocks < BLOCKS_MIN and nodes > 1:
            text += f": the memory of {nodes} nodes holds much of it"
        elif blocks < BLOCKS_MIN:
            text = f"not measured: {text}: this data is not larger than the memory"
        lines.append(text)
    disk = step.get("disk_reads")
    if disk and disk["per_s"]:
        lines.append(f"{step['name']}: the bare disk gave {statistics.median(disk['per_s']):,.0f} "
                     f"reads/s of {statistics.median(disk['read_bytes']) / 1024:g} KiB, "
                     f"{disk['depth']} at a time")
    return lines


def recovery_lines(step: dict) -> list[str]:
    lines = []
    for name, rounds in (step.get("recovery") or {}).items():
        speeds = [its["bytes_per_s"] for its in rounds if its["bytes_per_s"]]
        if not speeds:
            continue
        log, stored, records, start_s, empty_s = (
            statistics.median(its[key] for its in rounds)
            for key in ("log_bytes", "record_bytes", "records", "start_s", "empty_start_s"))
        lines.append(f"{step['name']}: {name} read {log / 2**20:.1f} MiB of log ({records:,.0f} "
                     f"records of {stored / 2**20:.1f} MiB) at "
                     f"{statistics.median(speeds) / 2**20:,.0f} MiB/s "
                     f"({min(speeds) / 2**20:,.0f} to {max(speeds) / 2**20:,.0f}, {len(speeds)} of "
                     f"{len(rounds)} rounds): ready after {start_s * 1e3:,.0f} ms, without a log "
                     f"after {empty_s * 1e3:,.0f}")
    return lines


def hop_lines(step: dict) -> list[str]:
    """Judged of the first contender, at the median of the pairs."""
    hop, lines = step.get("hop"), []
    for number, (name, rounds) in enumerate(hop["rounds"].items() if hop else ()):
        if not rounds:
            continue
        runs = [run for run in step["runs"] if run["contender"].startswith(name + ", ")]
        shares = [its["share"] for its in rounds]
        local_us, hop_us = (statistics.median(its[key] for its in rounds)
                            for key in ("local_us", "hop_us"))
        word = "" if number else "not measured: " if any(map(error_count, runs)) else \
            "met: " if statistics.median(shares) <= HOP_SHARE_MAX else "missed: "
        lines.append(f"{word}{step['name']}: the hop is {statistics.median(shares):.0%} of a "
                     f"forwarded request's CPU time of {name} ({min(shares):.0%} to "
                     f"{max(shares):.0%}, {len(shares)} pairs; aim ≤ {HOP_SHARE_MAX:.0%}): "
                     f"{hop_us:.1f} µs on top of {local_us:.1f}")
    return lines


def node_lines(step: dict) -> list[str]:
    lines = []
    for name, its in (step.get("by_node") or {}).items():
        parts = []
        for key, what, unit_of in (("table_bytes", "in tables", 2**10),
                                   ("disk_bytes", "on the disk", 2**10), ("cpu_s", "of CPU time", 1)):
            figures = [figure / unit_of for figure in its[key]]
            unit = "s" if unit_of == 1 else "KiB"
            mean = statistics.mean(figures)
            most = f", most {max(figures) / mean:.2f} of the mean" if mean else ""
            parts.append(f"{mean:,.1f} {unit} {what} ({min(figures):,.1f} to {max(figures):,.1f}{most})")
        lines.append(f"{step['name']}: {name} had per node " + ", ".join(parts))
    return lines


def verified_line(step: dict) -> str:
    wrong = sum(run["wrong"] for run in step["runs"])
    verified = sum(run["verified"] for run in step["runs"])
    word = "missed" if wrong else "met" if verified else "not measured"
    return f"{word}: {step['name']}: {wrong} wrong of {verified:,} answers that were checked"


def refusals_line(step: dict) -> str:
    """Above its capacity a server may refuse, and nothing else."""
    run = step["runs"][0]
    other = error_count(run) - run["unfinished"] - run["errors"].get("unavailable", 0)
    return f"{'missed' if other else 'met'}: {step['name']}: {run['contender']} had {other:,} " \
        "errors other than 503 (aim 0)"


def beside_lines(step: str, run: dict, judged: bool) -> list[str]:
    """The server's stalls beside the disk's, and the GETs; judged of the first contender."""
    beside, service = run["beside"], run["service_us"]
    stalls, disk, gets = beside["stalls"], beside["disk"]["latency_us"], beside["gets"]
    name = run["contender"]
    word = "" if not judged else "not measured: " if not stalls["seconds"] else \
        "missed: " if stalls["above"] else "met: "
    lines = [f"{word}{step}: in {stalls['above']} of {stalls['seconds']} seconds {name}'s longest "
             f"request took over {ms(stalls['limit_us'])} longer than the disk's longest write near "
             f"it (aim 0); p99.9 {ms(service['p999'])}, longest {ms(service['max'])}, the disk's "
             f"{ms(disk['p999'])} and {ms(disk['max'])}"]
    word = word and gets_word(gets)
    refused = gets["errors"].get("unavailable", 0)
    lines.append(f"{word}{step}: {gets['rate']:,.0f} GETs/s beside it had of {name} a p99 of "
                 f"{ms(gets['latency_us']['p99'])} (aim {ms(LIMIT_US)}), without the generator's and "
                 f"connections' delays {ms(gets['service_us']['p99'])}; {refused:,} were refused")
    return lines


def gets_word(gets: dict) -> str:
    """A generator that was late made the latency longer, never shorter."""
    p99, service = gets["latency_us"]["p99"], gets["service_us"]["p99"]
    if p99 is None or service is None:
        return "not measured: "
    if p99 <= LIMIT_US:
        return "met: "
    return "open: " if gets["generator_limited"] and service <= LIMIT_US else "missed: "


def ms(us: Optional[float]) -> str:
    return "(too few samples)" if us is None else f"{us / 1e3:.3g} ms"


def trouble_lines(step: dict) -> list[str]:
    lines = []
    for name in dict.fromkeys(run["contender"] for run in step["runs"]):
        runs = [run for run in step["runs"] if run["contender"] == name]
        told = error_texts(name, runs)
        limited = sum(run["generator_limited"] for run in runs)
        if limited:
            told.append(f"{limited} of {len(runs)} runs limited by the generator"
                        + (" (it may answer more; compare CPU per request)"
                           if step["kind"] == "closed" else ""))
        beside = [run["others_cpus_used"] for run in runs
                  if run["others_cpus_used"] > OTHERS_CPUS_MAX]
        if beside:
            told.append(f"another server was busy in {len(beside)} of {len(runs)} runs, with up to "
                        f"{max(beside):.0%} of a CPU")
        if told:
            lines.append(f"{step['name']}: {name}: " + ", ".join(told))
    return lines


def error_texts(name: str, runs: list[dict]) -> list[str]:
    errors = {kind: sum(run["errors"].get(kind, 0) for run in runs)
              for kind in (*SERVER_ERRORS, "status", "unavailable")}
    total = sum(run["ok"] for run in runs) + errors["status"]
    told = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in errors.items()
            if count and kind not in ("not_found", "status", "unavailable")]
    if errors["unavailable"]:
        told.append(f"{errors['unavailable']:,} refused with 503 "
                    f"({errors['unavailable'] / max(1, total):.1%})")
    other = errors["status"] - errors["not_found"] - errors["unavailable"]
    if other:
        told.append(f"{other:,} other answers with 4xx or 5xx")
    if errors["not_found"] and name != "floor":
        told.append(f"{errors['not_found']:,} not found")
    unfinished = sum(run["unfinished"] for run in runs)
    if unfinished:
        told.append(f"{unfinished:,} unfinished at the end")
    return told
