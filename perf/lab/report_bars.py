"""The report's bars: CPU per request and memory, one row per contender, as SVG in HTML.

Positions are percentages, so that a bar takes any width and its strokes keep theirs.
"""

import math
from statistics import median

import report_text as text
from report_tables import at, contender, figures, names_in, runs_of

HINT = "Less is better. Whiskers: lowest to highest run."


def nice_step(highest):
    power = 10 ** math.floor(math.log10(highest / 4))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice * 4.5 >= highest)


def ruler(highest, write, unit=1):
    """The bars' axis: figures at values that are round in the unit, up to the highest."""
    step, labels = nice_step(highest / unit) * unit, []
    while len(labels) * step <= highest * 1.0001:
        value = len(labels) * step
        x = percent(value, highest)
        labels.append(f'<text x="{x}" y="12">{text.tick(value, write)}</text>')
    return (
        '<div class="bar-axis"><span></span>'
        f'<svg width="100%" height="16" overflow="visible">{"".join(labels)}</svg></div>'
    )


def percent(value, highest):
    return f"{100 * value / highest:.2f}%"


def whisker(values, highest, y):
    if len(values) < 2:
        return ""
    low, high = percent(min(values), highest), percent(max(values), highest)
    ends = "".join(f'<line x1="{x}" x2="{x}" y1="{y - 4}" y2="{y + 4}"/>' for x in (low, high))
    return f'<g class="whisker"><line x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>{ends}</g>'


def bar_row(slots, name, drawing, value):
    return (
        f'<div class="bar c{slots[name]}">{contender(slots, name)}'
        f'<svg class="bar-plot" width="100%" height="34" aria-hidden="true">{drawing}</svg>'
        f'<span class="bar-value">{value}</span></div>'
    )


def cpu_bars(step, slots):
    """CPU per request: user and kernel stacked, the whole system as a thin bar below."""
    shown = {}
    for name in names_in(step):
        runs = runs_of(step, name)
        parts = {key: figures(runs, "cpu", key)
                 for key in ("user_us", "kernel_us", "process_us", "system_us")}
        if parts["user_us"] and parts["kernel_us"]:
            shown[name] = parts
    highest = 1.06 * max((value for parts in shown.values() for key in ("process_us", "system_us")
                          for value in parts[key]), default=0)
    if not highest:
        return ""
    rows = []
    for name, parts in shown.items():
        user, kernel = (100 * median(parts[key]) / highest for key in ("user_us", "kernel_us"))
        drawing = (
            f'<rect class="user" x="0" y="3" width="{user:.2f}%" height="17"/>'
            f'<rect class="kernel" x="{user:.2f}%" y="3" width="{kernel:.2f}%" height="17"/>'
            f'<rect class="hatch" x="{user:.2f}%" y="3" width="{kernel:.2f}%" height="17"'
            f' fill="url(#hatch-{slots[name]})"/>' + whisker(parts["process_us"], highest, 11.5)
        )
        process = parts["process_us"]
        value = f"<b>{text.latency(median(process))}</b>" if process else ""
        value += (f'<small>{text.latency(median(parts["user_us"]))} user + '
                  f'{text.latency(median(parts["kernel_us"]))} kernel')
        if parts["system_us"]:
            system = median(parts["system_us"])
            width = percent(system, highest)
            drawing += f'<rect class="system" x="0" y="25" width="{width}" height="4"/>'
            drawing += whisker(parts["system_us"], highest, 27)
            value += f'</small><small>{text.latency(system)} whole system'
        rows.append(bar_row(slots, name, drawing, value + "</small>"))
    return bars(
        "CPU per request", HINT, rows, ruler(highest, text.latency),
        '<span class="key"><i class="k-user"></i>user</span>'
        '<span class="key"><i class="k-kernel"></i>kernel, for the server’s process</span>'
        '<span class="key"><i class="k-system"></i>whole system, with kernel workers</span>',
    )


def memory_bars(step, slots):
    shown = {
        name: values for name in names_in(step)
        if (values := figures(runs_of(step, name), "memory", "resident_max_bytes"))
    }
    limit = at(step, "plan", "memory_bytes")
    highest = 1.06 * max([value for values in shown.values() for value in values], default=0)
    if not highest:
        return ""
    limited = limit if limit and limit <= 3 * highest else None
    highest = max(highest, 1.06 * (limited or 0))
    unit = 1024 ** int(math.log(max(highest, 1), 1024))
    rows = []
    for name, values in shown.items():
        drawing = (f'<rect class="user" x="0" y="8" width="{percent(median(values), highest)}"'
                   f' height="17"/>' + whisker(values, highest, 16.5))
        if limited:
            x = percent(limited, highest)
            drawing += f'<line class="limit" x1="{x}" x2="{x}" y1="0" y2="100%"/>'
        rows.append(bar_row(slots, name, drawing, f"<b>{text.size(median(values))}</b>"))
    key = ""
    if limited:
        key = f'<span class="key"><i class="k-limit"></i>--memory {text.size(limited)}</span>'
    return bars("Resident memory, at most", HINT, rows, ruler(highest, text.size, unit), key)


def bars(title, hint, rows, axis, key):
    return (
        f'<figure class="bars"><figcaption><b>{title}</b> <span>{hint}</span></figcaption>'
        f'{"".join(rows)}{axis}<p class="keys">{key}</p></figure>'
    )
