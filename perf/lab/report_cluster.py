"""The report's tables of clusters: what each node stored and used, and what a forwarded request costs."""

from statistics import mean, median

import report_text as text
from report_tables import contender, table, with_range


def by_node(step, slots):
    """One row per contender: means over its nodes with their ranges, and how far the largest is above."""
    rows = []
    for name, its in (step.get("by_node") or {}).items():

        def cells(write, key):
            figures = (its or {}).get(key) or []
            if not any(figures):
                return [text.ABSENT, text.ABSENT]
            return [with_range(mean(figures), figures, write),
                    text.ratio(max(figures) / mean(figures))]

        rows.append([contender(slots, name), *cells(text.size, "table_bytes"),
                     *cells(text.size, "disk_bytes"),
                     *cells(lambda seconds: text.latency(1e6 * seconds), "cpu_s")])
    headings = ["Contender", "In tables, per node", "Most ÷ mean", "On the disk", "Most ÷ mean", "CPU time",
                "Most ÷ mean"]
    return table("Per node", headings, rows) if rows else ""


def hop(step, slots):
    """One row per contender: medians of its pairs with their ranges."""
    its = step.get("hop") or {}
    rows = []
    for name, rounds in (its.get("rounds") or {}).items():

        def cell(write, key):
            figures = [one[key] for one in rounds or [] if one.get(key) is not None]
            return with_range(median(figures) if figures else None, figures, write)

        rows.append([contender(slots, name), str(len(rounds or [])),
                     cell(text.latency, "local_us"), cell(text.latency, "mixed_us"),
                     cell(text.latency, "hop_us"),
                     cell(lambda share: text.significant(100 * share) + " %", "share")])
    share = its.get("forwarded_share")
    mixed = "Partly forwarded" if share is None else f"{100 * share:.0f} % forwarded"
    headings = ["Contender", "Pairs", "Local", mixed, "The hop", "Share of a forwarded one"]
    return table("CPU time per request", headings, rows) if rows else ""
