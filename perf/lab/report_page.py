"""The report's page: what was compared, whether the aims are met, on what machine, and each step.

All text comes from results and is escaped here; the charts are placeholders that charts.js fills
from the JSON in the page.
"""

import re
from datetime import datetime

import report_text as text
from report_bars import cpu_bars, memory_bars
from report_cluster import by_node, hop
from report_disk import disk_reads, recovery, stalls
from report_facts import facts, known
from report_tables import (
    all_runs, at, figures, highest_loads, met_mark, names_in, ratio_table, runs_of, summary, swatch,
)
from report_text import escape

# Line styles and colours are numbered (style.css); the same contender has the same one everywhere.
SLOTS = {
    "gyre": 0, "gyre-2-cores": 0, "gyre-resp": 0, "proxy": 0, "proxy-resp": 0, "threadpool": 1, "floor": 2, "nginx": 3, "redis": 4, "sender": 5,
    "gyre-1-core": 6,
}
SLOT_COUNT = 8
WHAT_IT_IS = {
    "gyre": "the node of this project: coroutines, one io_uring loop per core",
    "threadpool": "the comparator, as services are usually built: selectors, a task queue, a pool "
    "of workers, RocksDB",
    "floor": "a bare io_uring responder that only answers 200: what the kernel alone costs",
    "sender": "a bare chunked sender: what the bytes of a range alone cost",
    "gyre-1-core": "the node of this project with --cores 1",
    "gyre-2-cores": "the node of this project with --cores 2",
    "nginx": "nginx with a fixed answer, for the protocol alone",
    "gyre-resp": "the node of this project, over Redis' protocol",
    "proxy": "this project's caching proxy, with a Redis behind it",
    "proxy-resp": "this project's caching proxy over Redis' protocol, with a Redis behind it",
    "twemproxy": "twemproxy, with a Redis behind it",
    "redis": "Redis, over its own protocol",
}


def assign_slots(results):
    """A line style for every contender of all results; unknown ones take what is left, in turn."""
    names = []
    for result in results:
        names += [contender.get("name") for contender in result.get("contenders") or []]
        for step in result.get("steps") or []:
            names += names_in(step)
            names += list(at(step, "knee") or {})
            names += [*(at(step, "hop", "rounds") or {}), *(at(step, "by_node") or {})]
            names += [row.get("contender") for row in step.get("ratios") or []]
    slots, free = {}, len(set(SLOTS.values()))
    for name in dict.fromkeys(name for name in names if name):
        if name in SLOTS:
            slots[name] = SLOTS[name]
        else:
            slots[name] = free % SLOT_COUNT
            free += 1
    return slots


def page(results):
    slots = assign_slots(results)
    parts = [hatches()]
    if len(results) > 1:
        links = "".join(
            f'<li><a href="#s{index}">{escape(title_of(result))}</a> {tally(result)}</li>'
            for index, result in enumerate(results)
        )
        parts.append(f'<nav aria-label="Scenarios"><ol>{links}</ol></nav>')
    parts += [scenario(index, result, slots) for index, result in enumerate(results)]
    return "".join(parts), slots


def hatches():
    """The pattern that tells the kernel's share from the user's without colours."""
    patterns = "".join(
        f'<pattern id="hatch-{slot}" class="c{slot}" width="6" height="6"'
        ' patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line x1="1" x2="1" y1="0" y2="6"/></pattern>'
        for slot in range(SLOT_COUNT)
    )
    return f'<svg class="defs" width="0" height="0" aria-hidden="true">{patterns}</svg>'


def title_of(result):
    scenario_ = result.get("scenario") or {}
    return scenario_.get("title") or scenario_.get("name") or "Scenario"


def scenario(index, result, slots):
    facts_of = result.get("scenario") or {}
    eyebrow = [f"Scenario <code>{escape(facts_of.get('name') or '?')}</code>"]
    if facts_of.get("reproduces"):
        eyebrow.append(f"reproduces {escape(facts_of['reproduces'])}")
    eyebrow.append(when(result))
    parts = [
        f'<section class="scenario" id="s{index}"><header>',
        f'<p class="eyebrow">{" · ".join(filter(None, eyebrow))}</p>',
        f"<h1>{escape(title_of(result))}</h1>",
    ]
    if facts_of.get("description"):
        parts.append(f'<p class="lead">{escape(facts_of["description"])}</p>')
    parts += ["</header>", interruption(result), compared(result, slots), verdict(result)]
    parts += [facts(result), contents(index, result)]
    for number, step in enumerate(result.get("steps") or []):
        parts.append(step_article(index, number, step, slots))
    parts.append("</section>")
    return "".join(parts)


def moment(stamp):
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return None


def when(result):
    started, finished = moment(result.get("started")), moment(result.get("finished"))
    if not started:
        return ""
    took = f", {text.duration((finished - started).total_seconds())}" if finished else ""
    return f"{started:%Y-%m-%d %H:%M} UTC{took}"


def interruption(result):
    if not result.get("interrupted"):
        return ""
    why = f": {escape(result['why'])}" if result.get("why") else ""
    return f'<p class="banner"><b>✕ Interrupted</b>{why}. What had run until then is below.</p>'


def compared(result, slots):
    rows = []
    for contender in result.get("contenders") or []:
        name = contender.get("name")
        if not name:
            continue
        version = known(contender.get("version"))
        version = version and f' <span class="version">{version}</span>'
        what = f" <span>{escape(WHAT_IT_IS[name])}</span>" if name in WHAT_IT_IS else ""
        rows.append(f"<li>{swatch(slots[name])}<p><b>{escape(name)}</b>{version}{what}</p></li>")
    if not rows:
        return ""
    return f'<h2 class="quiet">Compared</h2><ul class="compared">{"".join(rows)}</ul>'


# --- verdict -----------------------------------------------------------------------------------


def aims(result):
    return [
        (step, row) for step in result.get("steps") or [] for row in step.get("ratios") or []
        if row.get("met") is not None
    ]


def tally(result):
    lines = "".join(verdict_lines(result))
    met, missed = lines.count('<b class="met">'), lines.count('<b class="missed">')
    parts = [f'<b class="met">✓ {met} met</b>'] if met else []
    parts += [f'<b class="missed">✕ {missed} missed</b>'] if missed else []
    return " ".join(parts)


def verdict_lines(result):
    """The findings, each with its mark; those about aims say met or missed."""
    lines = [finding(line) for line in result.get("findings") or []]
    if not any('<b class="m' in line for line in lines):
        lines = [aim_line(step, row) for step, row in aims(result)] + lines
    return lines


def verdict(result):
    lines = verdict_lines(result)
    if not lines:
        return ""
    return (
        f'<div class="verdict"><h2>Verdict <span>{tally(result)}</span></h2>'
        f'<ul>{"".join(f"<li>{line}</li>" for line in lines)}</ul></div>'
    )


def finding(line):
    line = str(line)
    match = re.search(r"(?:^|: )(met|missed|not met)\b[:,]?\s*", line, re.IGNORECASE)
    if not match:
        return f'<b class="note">•</b><span>{escape(line)}</span>'
    words = line[match.end():] if match.start() == 0 else line
    return f"{met_mark(match[1].lower() == 'met')}<span>{escape(words)}</span>"


def aim_line(step, row):
    spread = text.interval(row.get("low"), row.get("high"), text.ratio)
    line = f"{step.get('name')}: {text.metric(row.get('metric'))} of {row.get('contender')} is "
    aim = row.get("aim_text") or text.ratio(row.get("aim"))
    return (
        f"{met_mark(row['met'])}<span>{escape(line)}<b>{text.ratio(row.get('median'))}</b>"
        f" {escape(row.get('to'))} ({spread}); aim {escape(aim)}</span>"
    )


# --- steps -------------------------------------------------------------------------------------


def contents(index, result):
    steps = result.get("steps") or []
    if len(steps) < 2:
        return ""
    links = "".join(
        f'<li><a href="#s{index}-{number}">{escape(step.get("name") or "Step")}</a></li>'
        for number, step in enumerate(steps)
    )
    return f'<nav class="contents" aria-label="Steps"><ol>{links}</ol></nav>'


def plan_line(step):
    plan = step.get("plan") or {}
    rate = plan.get("rate")
    parts = [
        known(plan.get("operation"), lambda name: escape(str(name).upper())),
        known(plan.get("connections"), lambda n: f"{n} connections"),
        {"closed": "closed loop", "hop": "closed loop", "knee": "open loop, rising rate"}.get(step.get("kind"), "")
        if rate is None else f"open loop at {text.rate(rate)}",
        known(plan.get("duration_s"), text.duration),
        known(plan.get("keys"), lambda n: f"{text.count(n)} keys"),
        known(plan.get("value_bytes"), lambda n: f"values of {text.size(n)}"),
        known(plan.get("nodes") if plan.get("nodes") != 1 else None, lambda n: f"{n} nodes"),
        known(plan.get("replicas"), lambda asked: f"replicas={escape(asked)}"),
        known(plan.get("fault"), lambda how: f"one node {escape(how)}"),
        known(plan.get("durability"), lambda name: f"durability {escape(name)}"),
        known(plan.get("memory_bytes"), lambda n: f"--memory {text.size(n)}"),
    ]
    return " · ".join(f"<span>{part}</span>" for part in parts if part)


def step_article(index, number, step, slots):
    parts = [
        f'<article class="step" id="s{index}-{number}">',
        f"<h2>{escape(step.get('name') or 'Step')}</h2>",
        f'<p class="plan">{plan_line(step)}</p>',
    ]
    content = [
        summary(step, slots), highest_loads(step, slots), recovery(step, slots),
        hop(step, slots), by_node(step, slots), charts(index, number, step), disk_reads(step, slots), stalls(step, slots),
        ratio_table(step, slots), all_runs(step, slots),
    ]
    parts += content if any(content) else ['<p class="empty">Nothing of this step has run.</p>']
    bars = cpu_bars(step, slots) + memory_bars(step, slots)
    if bars:
        parts.insert(-2, f'<div class="figures">{bars}</div>')
    return "".join(parts) + "</article>"


CHARTS = {
    "percentiles": (
        "Latency by percentile",
        "Lower is better. Line: all runs merged; band: lowest to highest run.",
    ),
    "knee": (
        "Load against p99",
        "Further right and lower is better. Each mark is a rung of a ladder, hollow where the "
        "limit did not hold; the line joins their medians.",
    ),
    "latency-time": (
        "Latency over time: {}",
        "Per second: p50, p99, slowest. ✕: seconds with errors such as 503.",
    ),
    "stalls-time": (
        "Longest request of each second",
        "From sending to the answer; lower is better. Dotted: the disk's longest synced write of "
        "4 KiB to another file in that second.",
    ),
    "answers-time": ("Answers over time", "Per second. ✕: seconds with errors such as 503."),
    "memory-time": ("Resident memory over time", "Of the server's process."),
}


def charts(index, number, step):
    wanted = []
    if any(run.get("spectrum") for run in step.get("runs") or []) or any(
        at(entry, "spectrum") for entry in (step.get("merged") or {}).values()
    ):
        wanted.append(("percentiles", None))
    knee = step.get("knee") or {}
    if any(isinstance(rungs, list) and rungs for rungs in knee.values()):
        wanted.append(("knee", None))
    timed = [name for name in names_in(step) if figures(runs_of(step, name), "series")]
    wanted += [("latency-time", name) for name in timed]
    if any(run.get("beside") and run.get("series") for run in step.get("runs") or []):
        wanted.append(("stalls-time", None))
    if timed:
        wanted.append(("answers-time", None))
    if figures(step.get("runs") or [], "memory", "resident_bytes"):
        wanted.append(("memory-time", None))
    if not wanted:
        return ""
    figures_ = "".join(chart(index, number, kind, name) for kind, name in wanted)
    return f'<div class="figures">{figures_}</div>'


def chart(index, number, kind, name):
    title, hint = CHARTS[kind]
    title = title.format(name)
    contender = f' data-contender="{escape(name)}"' if name else ""
    return (
        f'<figure class="chart" data-chart="{kind}" data-result="{index}" data-step="{number}"'
        f"{contender}>"
        f"<figcaption><b>{escape(title)}</b> <span>{hint}</span></figcaption>"
        f'<div class="plot" tabindex="0" role="application" aria-roledescription="chart"'
        f' aria-label="{escape(title)}. {hint} Left and right arrow keys read the figures."></div>'
        '<div class="legend" aria-live="polite"></div></figure>'
    )
