"""How the report writes figures: three significant digits, thin spaces, units that a person reads.

perf/lab/report/models.js writes the figures that move with the cursor by the same rules.
"""

import html
import math
import re

THIN = "\u202f"  # narrow no-break space: between a figure and its unit, and between thousands
ABSENT = "–"

METRICS = {
    "p50": "latency p50",
    "p90": "latency p90",
    "p99": "latency p99",
    "p999": "latency p99.9",
    "p9999": "latency p99.99",
    "max": "latency max",
    "mean": "latency mean",
    "answered_per_s": "throughput",
    "ok": "good answers/s",
    "bytes": "bytes per second",
    "highest": "highest load held",
    "disk_reads": "reads per second at the knee",
    "recovery": "speed of recovery",
    "user_us": "CPU per request, user",
    "kernel_us": "CPU per request, kernel",
    "process_us": "CPU per request, process",
    "system_us": "CPU per request, whole system",
    "system": "CPU per request, whole system",
    "process": "CPU per request, process",
    "resident": "resident memory",
    "resident_max_bytes": "resident memory",
}


def escape(text):
    return html.escape(str(text), quote=True)


def grouped(number):
    """18237 as 18 237, with thin spaces; up to four digits stay together."""
    text = f"{number:.0f}"
    return text if abs(number) < 10_000 else f"{int(text):,}".replace(",", THIN)


def significant(number, digits=3):
    """1234.5 as 1234, 12.345 as 12.3, 0.01234 as 0.0123: no exponents, no false precision."""
    if number == 0:
        return "0"
    # Rounded first: 9.996 has as many digits before its point as 10.0.
    rounded = float(f"{number:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return grouped(number) if decimals <= 0 else f"{number:.{decimals}f}"


def scaled(number, units, step, digits=3):
    """The figure in the first unit in which it stays below the step to the next."""
    if number is None:
        return ABSENT
    for unit in units[:-1]:
        if abs(float(f"{number:.{digits - 1}e}")) < step:
            return significant(number, digits) + THIN + unit
        number /= step
    return significant(number, digits) + THIN + units[-1]


def latency(us):
    return scaled(None if us is None else us * 1000, ["ns", "µs", "ms", "s"], 1000)


def size(count):
    return scaled(count, ["B", "KiB", "MiB", "GiB", "TiB"], 1024)


def rate(per_s):
    return ABSENT if per_s is None else significant(per_s, 4) + "/s"


def count(number):
    return ABSENT if number is None else grouped(number)


def ratio(number):
    return ABSENT if number is None else significant(number) + "×"


def tick(number, write):
    """As write does, but round figures lose their trailing zeros and zero its unit: an axis."""
    if number == 0:
        return "0"
    return re.sub(r"\.0+(?=\D|$)|(\.\d*[1-9])0+(?=\D|$)", r"\1", write(number))


def interval(low, high, write):
    """Both ends of a range; the unit only once when it is the same."""
    if low is None or high is None:
        return ABSENT
    first, last = write(low), write(high)
    if first == last:
        return first
    unit = re.search(r"\D*$", last)[0]
    return f"{first.removesuffix(unit)}–{last}"


def duration(seconds):
    if seconds is None:
        return ABSENT
    if seconds < 120:
        return f"{seconds:.3g}{THIN}s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes}{THIN}min"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def metric(name):
    return METRICS.get(name, str(name).replace("_", " "))
