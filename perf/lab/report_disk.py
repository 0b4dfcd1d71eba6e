"""The report's tables about the disk: what reads of more than the memory holds cost it, whose
stalls those of a server are, and how fast a log is read after kill -9.
"""

from statistics import median

import report_text as text
from report_tables import (
    at, contender, error_count, figures, names_in, runs_of, table, with_range,
)


def disk_reads(step, slots):
    """Blocks and bytes per request; at a knee also blocks per second, beside the bare disk."""
    knee = at(step, "knee", "at_highest") or {}
    rows = []
    for name in names_in(step):
        rungs = [rung for rung in knee.get(name) or [] if rung]
        runs = runs_of(step, name) + (at(step, "knee", name) or [])
        blocks = figures(runs, "reads", "blocks")
        if not blocks:
            continue

        def cell(write, values):
            return with_range(median(values) if values else None, values, write)

        row = [contender(slots, name), cell(text.significant, blocks),
               cell(text.size, figures(runs, "reads", "bytes"))]
        if knee:
            row += [cell(text.rate, figures(rungs, "reads", "blocks_per_s")),
                    cell(text.significant, figures(rungs, "server_cpus_used"))]
        rows.append(row)
    disk = at(step, "disk_reads") or {}
    if disk.get("per_s") and rows:
        sizes = disk.get("read_bytes") or []
        read = text.size(median(sizes)) if sizes else text.ABSENT
        rows.append([f"the bare disk, {text.count(disk.get('depth'))} at a time", "1", read,
                     with_range(median(disk["per_s"]), disk["per_s"], text.rate), text.ABSENT])
    headings = ["Contender", "Blocks from the disk<br>per request",
                "Bytes from the disk<br>per request"]
    headings += ["Blocks per second<br>at the knee", "CPUs used<br>there"] if knee else []
    if not rows:
        return ""
    title = "Reads that reached the disk"
    return f"<h4>{title}</h4>" + table(title, headings, rows)


def stalls(step, slots):
    """Longest requests beside the disk's longest writes, and the GETs that ran meanwhile."""
    rows = []
    for name in names_in(step):
        for run in runs_of(step, name):
            beside = run.get("beside") or {}
            if not beside:
                continue
            above, seconds = at(beside, "stalls", "above"), at(beside, "stalls", "seconds")
            gets = at(beside, "gets") or {}
            rows.append([
                contender(slots, name),
                *(text.latency(at(run, "service_us", key)) for key in ("p999", "max")),
                *(text.latency(at(beside, "disk", "latency_us", key)) for key in ("p999", "max")),
                f"{text.count(above)} of {text.count(seconds)}",
                *(text.latency(at(gets, "latency_us", key)) for key in ("p99", "p999", "max")),
                text.latency(at(gets, "service_us", "p99")),
                text.count(error_count(gets)),
            ])
    if not rows:
        return ""
    limits = figures(step.get("runs") or [], "beside", "stalls", "limit_us")
    limit = text.tick(limits[0], text.latency) if limits else text.ABSENT
    headings = [
        "Contender", "Service time<br>p99.9", "longest", "Disk beside it<br>p99.9", "longest",
        f"Seconds over {limit}<br>above the disk", "GETs beside it<br>p99", "p99.9", "max",
        "from sending<br>p99", "errors",
    ]
    title = "Stalls, and reads meanwhile"
    return f"<h4>{title}</h4>" + table(title, headings, rows)


def recovery(step, slots):
    """One row per contender: medians of its rounds with their ranges."""
    rows = []
    for name, rounds in (step.get("recovery") or {}).items():

        def cell(write, key):
            values = figures(rounds or [], key)
            return with_range(median(values) if values else None, values, write)

        def duration(seconds):
            return text.latency(1e6 * seconds)

        rows.append([
            contender(slots, name), str(len(rounds or [])), cell(text.size, "log_bytes"),
            cell(text.count, "records"), cell(duration, "empty_start_s"), cell(duration, "start_s"),
            cell(lambda value: text.size(value) + "/s", "bytes_per_s"),
            cell(text.rate, "records_per_s"),
        ])
    headings = ["Contender", "Rounds", "Log", "Records", "Empty start", "Start with it",
                "Log per second", "Records per second"]
    return table("Recovery after kill -9", headings, rows) if rows else ""
