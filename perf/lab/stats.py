"""What is made of runs: order of turns, medians, ranges, paired ratios."""

import statistics
from dataclasses import dataclass
from typing import Callable, Optional, Sequence


def turns(names: Sequence[str], pair: int) -> list[str]:
    """Who is loaded after whom in one pair: forwards and backwards in turn (ABBA for two), so that
    what drifts steadily drifts for all alike; every two pairs somebody else begins, so that nobody
    always follows the same other one."""
    shift = pair // 2 % len(names)
    order = [*names[shift:], *names[:shift]]
    return order if pair % 2 == 0 else order[::-1]


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float
    pairs: int


def spread(values: Sequence[float]) -> Optional[Spread]:
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def paired_ratios(
    above: dict[int, float], below: dict[int, float]
) -> list[float]:
    """Ratio of each pair that has both; never of figures from different pairs."""
    return [above[pair] / below[pair] for pair in sorted(above) if below.get(pair)]


def by_pair(runs: list[dict], contender: str, value: Callable[[dict], Optional[float]]) -> dict:
    """{pair: value}, without the runs that have none."""
    found = {}
    for run in runs:
        if run["contender"] == contender:
            its_value = value(run)
            if its_value is not None:
                found[run["pair"]] = its_value
    return found


def metric_of(run: dict, metric: str) -> Optional[float]:
    """A figure of a run by its short name: p50 … p9999, system, process, user, kernel (CPU per
    request), ok (good answers per second), bytes, resident."""
    if metric in ("system", "process", "user", "kernel"):
        return (run.get("cpu") or {}).get(metric + "_us")
    if metric == "ok":
        return run.get("ok_per_s")
    if metric == "bytes":
        return run.get("bytes_per_s")
    if metric == "resident":
        return (run.get("memory") or {}).get("resident_max_bytes")
    return (run.get("latency_us") or {}).get(metric)
