"""The report's tables and bars: HTML and SVG out of one step of a result.

Positions inside an SVG are percentages, so that it takes any width and its strokes keep theirs.
Every figure may be absent: it is then a dash, or its row is left out.
"""

import math
from statistics import median

import report_text as text
from report_text import escape

HEADINGS = {
    "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "p9999": "p99.99", "max": "max",
}
LATENCIES = list(HEADINGS)
AMONG_STATUS = ("unavailable", "not_found")  # told apart, and counted in "status" too


def at(value, *path):
    """value[a][b]…, None as soon as something on the way is absent."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def runs_of(step, name):
    return [run for run in step.get("runs") or [] if run.get("contender") == name]


def figures(runs, *path):
    return [value for value in (at(run, *path) for run in runs) if value is not None]


def names_in(step):
    """The contenders of a step in the order in which they first appear."""
    names = [run.get("contender") for run in step.get("runs") or []]
    names += [name for name in step.get("merged") or {}]
    names += [name for name in at(step, "knee", "highest") or {}]
    names += [name for name in step.get("recovery") or {}]
    return list(dict.fromkeys(name for name in names if name))


def swatch(slot):
    """A piece of the contender's line with its mark, as the charts draw them."""
    return (
        f'<svg class="swatch c{slot}" width="38" height="14" aria-hidden="true">'
        f'<line x1="1" x2="37" y1="7" y2="7"/>{mark_shape(slot, 19, 7)}</svg>'
    )


def mark_shape(slot, x, y):
    shapes = [
        '<circle r="4"/>', '<rect x="-3.7" y="-3.7" width="7.4" height="7.4"/>',
        '<path d="M0-5 4.8 3.6H-4.8z"/>', '<path d="M0-5.2 5.2 0 0 5.2-5.2 0z"/>',
    ]
    return f'<g class="mark" transform="translate({x} {y})">{shapes[slot % len(shapes)]}</g>'


def contender(slots, name):
    return f'<span class="who">{swatch(slots[name])}{escape(name)}</span>'


def scrolled(label, table):
    """A table that scrolls by itself where the screen is narrow, by keyboard too."""
    return (
        f'<div class="scrolled" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"{table}</div>"
    )


def table(label, headings, rows, kind="plain"):
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(
        f"<tr><th scope=\"row\">{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return scrolled(
        label, f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def with_range(value, values, write):
    """The figure, and below it the range of the runs it comes from."""
    if value is None:
        return text.ABSENT
    if len(values) < 2:
        return write(value)
    return f"{write(value)}<small>{text.interval(min(values), max(values), write)}</small>"


def error_count(run):
    errors = run.get("errors")
    if not isinstance(errors, dict):
        return errors
    return sum(n for kind, n in errors.items() if n and kind not in AMONG_STATUS)


# --- what the contenders did -------------------------------------------------------------------


def summary(step, slots):
    """One row per contender: merged percentiles, medians of the rest, ranges of the runs.

    CPU is the whole system's; the bars show what is in it.
    """
    names = [name for name in names_in(step) if runs_of(step, name)]
    columns = [
        key for key in LATENCIES
        if any(figures(runs_of(step, name), "latency_us", key) for name in names)
        or any(at(step, "merged", name, "latency_us", key) is not None for name in names)
    ]
    rows = [summary_row(step, slots, name, columns) for name in names]
    headings = ["Contender", "Runs", "Answered", *(HEADINGS[key] for key in columns)]
    headings += ["CPU per<br>request", "Memory", "Errors", "Wrong"]
    return table("Figures per contender", headings, rows) if rows else ""


def summary_row(step, slots, name, columns):
    runs = runs_of(step, name)
    row = [contender(slots, name), str(len(runs))]

    def middle(write, *path):
        values = figures(runs, *path)
        return with_range(median(values) if values else None, values, write)

    row.append(middle(text.rate, "answered_per_s"))
    for key in columns:
        merged = at(step, "merged", name, "latency_us", key)
        values = figures(runs, "latency_us", key)
        value = merged if merged is not None or not values else median(values)
        row.append(with_range(value, values, text.latency))
    row.append(middle(text.latency, "cpu", "system_us"))
    row.append(middle(text.size, "memory", "resident_max_bytes"))
    errors = [count for count in map(error_count, runs) if count is not None]
    wrong = figures(runs, "wrong")
    row.append(text.count(sum(errors)) if errors else text.ABSENT)
    row.append(alarming(sum(wrong)) if wrong else text.ABSENT)
    return row


def alarming(number):
    return f'<strong class="bad">✕ {text.count(number)}</strong>' if number else text.count(number)


def highest_loads(step, slots):
    highest = at(step, "knee", "highest") or {}
    rows = [
        [contender(slots, name), text.rate(median(values)),
         text.interval(min(values), max(values), text.rate), str(len(values))]
        for name, loads in highest.items()
        if (values := [load for load in loads or [] if load is not None])
    ]
    limit = at(step, "knee", "limit_us")
    heading = "Highest load held"
    if limit is not None:
        heading = f"Highest load with p99 ≤ {text.tick(limit, text.latency)}"
    headings = ["Contender", f"{heading}, median", "Range", "Ladders"]
    return table(heading, headings, rows) if rows else ""


def all_runs(step, slots):
    runs = step.get("runs") or []
    if not runs:
        return ""
    headings = [
        "Contender", "Order", "Pair", "Offered", "Answered", "Answers", "Errors", "Unfinished",
        "Wrong", *HEADINGS.values(), "Hiccups p99.9", "Send lag p99", "CPU user", "CPU kernel",
        "CPU system", "CPUs, server", "CPUs, generator", "Memory", "Generator",
    ]
    rows = [run_row(run, slots) for run in runs]
    word = "the run" if len(runs) == 1 else f"all {len(runs)} runs"
    return (
        f"<details><summary>Every figure of {word}</summary>"
        f"{table('Runs', headings, rows)}</details>"
    )


def run_row(run, slots):
    def cell(write, *path):
        value = at(run, *path)
        return text.ABSENT if value is None else write(value)

    pair, order = run.get("pair"), run.get("order")
    row = [contender(slots, run["contender"]) if run.get("contender") else text.ABSENT]
    row += [text.count(order), text.count(None if pair is None else pair + 1)]
    row += ["as fast as answered" if run.get("rate") is None else text.rate(run["rate"])]
    row += [cell(text.rate, "answered_per_s"), cell(text.count, "ok"), text.count(error_count(run))]
    row += [cell(text.count, "unfinished"), cell(alarming, "wrong")]
    row += [cell(text.latency, "latency_us", key) for key in LATENCIES]
    row += [cell(text.latency, "hiccup_us", "p999"), cell(text.latency, "send_lag_us", "p99")]
    row += [cell(text.latency, "cpu", key) for key in ("user_us", "kernel_us", "system_us")]
    cpus = ("server_cpus_used", "generator_cpus_used")
    row += [cell(text.significant, "cpu", key) for key in cpus]
    row.append(cell(text.size, "memory", "resident_max_bytes"))
    generator = escape(run.get("generator") or "")
    if run.get("generator_limited"):
        generator = f'<strong class="bad">✕ limited by the generator</strong> {generator}'
    row.append(generator or text.ABSENT)
    return row


# --- paired ratios -----------------------------------------------------------------------------


def met_mark(met):
    if met is None:
        return ""
    return '<b class="met">✓ met</b>' if met else '<b class="missed">✕ missed</b>'


def ratio_table(step, slots):
    ratios = step.get("ratios") or []
    values = [
        row[key] for row in ratios for key in ("median", "low", "high", "aim") if row.get(key)
    ]
    if not ratios:
        return ""
    low, high = min(values, default=1) / 1.15, max(values, default=1) * 1.15
    scale = (math.log(min(low, 0.87)), math.log(max(high, 1.15)))
    rows = [
        [f"{escape(text.metric(row.get('metric')))}",
         f"{escape(row.get('contender'))} ÷ {escape(row.get('to'))}",
         f"<b>{text.ratio(row.get('median'))}</b>",
         pairs_range(row),
         forest(row, scale, slots.get(row.get("contender"), 0)),
         f"{met_mark(row.get('met'))} {aim_text(row)}"]
        for row in ratios
    ]
    headings = ["Ratio of", "Between", "Median", "Range of pairs",
                'Dot: median, bar: range, <span class="aim">▾</span> aim, line: 1×', "Aim"]
    return "<h4>Paired ratios</h4>" + table("Paired ratios", headings, rows, "ratios")


def pairs_range(row):
    pairs = row.get("pairs")
    note = "" if pairs is None else f"<small>{pairs} {'pair' if pairs == 1 else 'pairs'}</small>"
    return text.interval(row.get("low"), row.get("high"), text.ratio) + note


def aim_text(row):
    return escape(row.get("aim_text") or (text.ratio(row["aim"]) if row.get("aim") else ""))


def forest(row, scale, slot):
    """One ratio on the log axis that the table's rows share."""
    def place(value):
        return f"{100 * (math.log(value) - scale[0]) / (scale[1] - scale[0]):.2f}%"

    parts = [f'<line class="one" x1="{place(1)}" x2="{place(1)}" y1="0" y2="100%"/>']
    if row.get("low") and row.get("high"):
        ends = f'x1="{place(row["low"])}" x2="{place(row["high"])}"'
        parts.append(f'<line class="range" {ends} y1="13" y2="13"/>')
    if row.get("aim"):
        parts.append(f'<svg x="{place(row["aim"])}" overflow="visible">'
                     '<path class="aim" d="M-5 1H5L0 8z"/>'
                     '<path class="aim-line" d="M0 8V22"/></svg>')
    if row.get("median"):
        parts.append(f'<circle class="median" cx="{place(row["median"])}" cy="13" r="4.5"/>')
    head = f'<svg class="forest c{slot}" width="210" height="24" aria-hidden="true">'
    return head + "".join(parts) + "</svg>"
