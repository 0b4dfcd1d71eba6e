"""The report's tables about the disk: what reads of more than the memory holds cost it."""

from statistics import median

import report_text as text
from report_tables import at, contender, figures, names_in, runs_of, table, with_range


def disk_reads(step, slots):
    """Blocks and bytes per request and contender; at a knee also per second, beside the bare disk."""
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
    headings = ["Contender", "Blocks from the disk<br>per request", "Bytes from the disk<br>per request"]
    headings += ["Blocks per second<br>at the knee", "CPUs used<br>there"] if knee else []
    if not rows:
        return ""
    return "<h4>Reads that reached the disk</h4>" + table("Reads that reached the disk", headings, rows)
