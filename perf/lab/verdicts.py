"""What a step's runs say about its aims: paired ratios, and one line per aim for people.

A percentile that single runs have too few samples for is compared between the merged histograms of
all runs: one ratio without a range, "pairs": 1.

An aim may be met in one of several ways (half of one contender, or near to another). Each way is a
row of its own; once one holds, the others are no failures, so their `met` is null.
"""

from typing import Optional

from histogram import Histogram
from scenarios import Aim, Bound, Step
from stats import Spread, by_pair, metric_of, paired_ratios, spread

SHOWN = {"latency": ("p50", "p99", "p999", "system"), "closed": ("answered", "system", "process"),
         "sustained": ("answered", "p50", "p99", "p999"), "verify": ()}
WORDS = {
    "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "p9999": "p99.99",
    "system": "CPU per request", "process": "the process's CPU per request",
    "answered": "requests/s", "bytes": "bytes/s", "resident": "resident memory",
    "highest": "the highest rate held",
}
SERVER_ERRORS = ("connect", "read", "write", "timeout", "malformed", "not_found", "wrong")


def ratios(step: Step, record: dict, disk: dict[int, Histogram], memory_bytes: int) -> list[dict]:
    runs = record["runs"]
    subject = runs[0]["contender"]  # the first of those that take part
    others = [name for name in dict.fromkeys(run["contender"] for run in runs) if name != subject]
    rows, covered = [], set()
    for aim in step.aims if subject == step.contenders[0] else ():
        used = comparable(record, subject, [bound.to for bound in aim.bounds], aim.metric)
        figures = by_pair(used, subject, lambda run: metric_of(run, aim.metric))
        found = [(bound, spread(paired_ratios(
            figures, references(bound, aim.metric, used, disk, memory_bytes))))
            for bound in aim.bounds]
        rows += judged(subject, aim, found)
        covered |= {(aim.metric, bound.to) for bound in aim.bounds if not bound.disk}
    for metric in SHOWN[step.kind]:
        for other in others:
            if (metric, other) in covered:
                continue
            used = comparable(record, subject, [other], metric)
            its = spread(paired_ratios(*(by_pair(used, name, lambda run: metric_of(run, metric))
                                         for name in (subject, other))))
            if its is not None:
                rows.append(row(subject, other, metric, its))
    return rows


def comparable(record: dict, subject: str, others: list[str], metric: str) -> list[dict]:
    """The runs, or, where a pair lacks the figure, one made of each contender's merged ones."""
    names = {subject, *others}
    runs = [run for run in record["runs"] if run["contender"] in names]
    if all(metric_of(run, metric) is not None for run in runs):
        return runs
    merged = [{"contender": name, "pair": 0, "latency_us": record["merged"][name]["latency_us"]}
              for name in names if name in record["merged"]]
    return merged if any(metric_of(run, metric) is not None for run in merged) else runs


def knee_ratios(step: Step, record: dict) -> list[dict]:
    highest = record["knee"]["highest"]
    subject = step.contenders[0]
    if subject not in highest:
        return []
    figures = {pair: rate for pair, rate in enumerate(highest[subject]) if rate}
    rows = []
    for aim in step.aims:
        found = [(bound, spread(paired_ratios(
            figures, dict(enumerate(highest.get(bound.to, []))))))
            for bound in aim.bounds]
        rows += judged(subject, aim, found)
    return rows


def references(bound: Bound, metric: str, runs: list[dict], disk: dict[int, Histogram],
               memory_bytes: int) -> dict[int, float]:
    """{pair: what the figure is divided by}, only of pairs that have all parts."""
    if bound.to == "memory":
        return {run["pair"]: memory_bytes for run in runs}
    parts = []
    if bound.to:
        parts.append(by_pair(runs, bound.to, lambda run: metric_of(run, metric)))
    if bound.disk:
        # A second of probing has too few samples for a tail: all pairs' together have them.
        its = Histogram.merged(disk.values()).summary()[metric] if disk else None
        parts.append({run["pair"]: bound.disk * its for run in runs} if its else {})
    pairs = set.intersection(*(set(part) for part in parts))
    return {pair: sum(part[pair] for part in parts) for pair in pairs}


def row(subject: str, to: str, metric: str, its: Spread) -> dict:
    return {"contender": subject, "to": to, "metric": metric, "median": its.median,
            "low": its.low, "high": its.high, "pairs": its.pairs,
            "aim": None, "aim_text": None, "met": None}


def judged(subject: str, aim: Aim, found: list[tuple[Bound, Optional[Spread]]]) -> list[dict]:
    met = any(its is not None and bound.holds(its.median) for bound, its in found)
    rows = []
    for bound, its in found:
        if its is None:
            continue
        holds = bound.holds(its.median)
        rows.append(row(subject, bound.reference, aim.metric, its) | {
            "aim": bound.limit, "aim_text": bound.text,
            "met": True if holds else None if met else False,
        })
    return rows


# --- lines for people ---
def findings(result: dict, notes: list[str]) -> list[str]:
    lines = []
    for step in result["steps"]:
        lines += aim_lines(step)
        lines += trouble_lines(step)
    runs = [run for step in result["steps"] for run in step["runs"]]
    checked = [step for step in result["steps"] if step["kind"] == "verify" and step["runs"]]
    if checked:
        answers = sum(run["ok"] for step in checked for run in step["runs"])
        wrong = sum(run["wrong"] for step in checked for run in step["runs"])
        lines.append(f"{'met' if wrong == 0 else 'missed'}: {wrong} wrong answers of {answers:,} "
                     "that were checked")
    limited = sum(run["generator_limited"] for run in runs)
    if limited:
        lines.append(f"{limited} of {len(runs)} runs were limited by the generator: their "
                     "latencies hold its own delays too")
    return lines + notes


def aim_lines(step: dict) -> list[str]:
    lines = []
    for metric in dict.fromkeys(r["metric"] for r in step["ratios"] if r["aim"] is not None):
        rows = [r for r in step["ratios"] if r["metric"] == metric and r["aim"] is not None]
        word = "met" if any(r["met"] for r in rows) else "missed"
        facts = " · ".join(
            f"{r['median']:.2f} × {r['to']} ({r['low']:.2f} to {r['high']:.2f}; "
            f"aim {r['aim_text']})" for r in rows)
        lines.append(f"{word}: {step['name']}: {WORDS[metric]} of {rows[0]['contender']} is {facts}")
    knee = step["knee"]
    if knee:
        for name, rates in knee["highest"].items():
            ended = [max((r for r in knee[name] if r["pair"] == pair and not r["held"]),
                         key=lambda r: -r["rate"], default=None) for pair in range(len(rates))]
            if any(rung and rung["generator_limited"] for rung in ended):
                lines.append(f"{step['name']}: {name} may hold more: the generator was at its limit "
                             "where the search ended")
    return lines


def trouble_lines(step: dict) -> list[str]:
    lines = []
    for name in dict.fromkeys(run["contender"] for run in step["runs"]):
        runs = [run for run in step["runs"] if run["contender"] == name]
        errors = {kind: sum(run["errors"].get(kind, 0) for run in runs)
                  for kind in (*SERVER_ERRORS, "status")}
        total = sum(run["ok"] for run in runs) + errors["status"]
        told = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in errors.items()
                if count and kind not in ("not_found", "status")]
        refused = errors["status"] - errors["not_found"]
        if refused:
            told.append(f"{refused:,} refused with 4xx or 5xx ({refused / max(1, total):.1%})")
        if errors["not_found"] and name != "floor":
            told.append(f"{errors['not_found']:,} not found")
        unfinished = sum(run["unfinished"] for run in runs)
        if unfinished:
            told.append(f"{unfinished:,} unfinished at the end")
        if told:
            lines.append(f"{step['name']}: {name}: " + ", ".join(told))
    return lines
