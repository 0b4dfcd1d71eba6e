"""What a result was measured on and with: machine, build, pinning, command lines, folded away."""

import report_text as text
from report_text import escape


def facts(result):
    groups = [("Machine", machine_facts(result.get("machine") or {})),
              ("Build and run", run_facts(result))]
    started = [
        (contender.get("name") or "?", f"<code>{escape(contender['command'])}</code>")
        for contender in result.get("contenders") or [] if contender.get("command")
    ]
    groups.append(("Contenders as started", started))
    columns = ""
    for title, rows in groups:
        rows = [(name, value) for name, value in rows if value]
        if rows:
            items = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in rows)
            columns += f"<div><h3>{title}</h3><dl>{items}</dl></div>"
    if not columns:
        return ""
    return (
        '<details class="facts"><summary><b>Machine, build, commands</b> '
        f'<span>{in_one_line(result)}</span></summary>'
        f'<div class="columns">{columns}</div></details>'
    )


def in_one_line(result):
    machine, build = result.get("machine") or {}, result.get("build") or {}
    parts = []
    if machine.get("cpu"):
        cores = f", {machine['cores']} cores" if machine.get("cores") else ""
        parts.append(escape(machine["cpu"]) + cores)
    if machine.get("kernel"):
        parts.append(f"Linux {escape(machine['kernel'])}")
    if build.get("commit"):
        changes = " with changes" if build.get("dirty") else ""
        parts.append(f"commit {escape(str(build['commit'])[:10])}{changes}")
    pairs = max((row.get("pairs") or 0 for step in result.get("steps") or []
                 for row in step.get("ratios") or []), default=0)
    if pairs:
        parts.append("1 pair of runs" if pairs == 1 else f"up to {pairs} interleaved pairs of runs")
    return " · ".join(parts)


def known(value, write=escape):
    return "" if value is None or value == "" else write(value)


def machine_facts(machine):
    sync = machine.get("disk_sync_us") or {}
    synced = [
        f"{label} {text.latency(sync[key])}"
        for key, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"))
        if sync.get(key) is not None
    ]
    return [
        ("CPU", known(machine.get("cpu"))), ("Cores", known(machine.get("cores"))),
        ("Memory", known(machine.get("memory_bytes"), text.size)),
        ("Kernel", known(machine.get("kernel"))), ("Governor", known(machine.get("governor"))),
        ("Transparent huge pages", known(machine.get("thp"))),
        ("File system", known(machine.get("filesystem"))),
        ("Disk interrupts on CPU", known(machine.get("disk_interrupt_cpu"))),
        ("Synced 4 KiB overwrite", ", ".join(synced)),
        ("Load average before", known(machine.get("load_average"), lambda load: f"{load:.2f}")),
    ]


def run_facts(result):
    build, pinning = result.get("build") or {}, result.get("pinning") or {}
    commit = known(build.get("commit"), lambda commit: f"<code>{escape(str(commit)[:12])}</code>")
    if commit and build.get("dirty"):
        commit += " <b>with uncommitted changes</b>"

    def cpus(numbers):
        return ", ".join(map(str, numbers or []))

    return [
        ("Commit", commit), ("Compiler", known(build.get("compiler"))),
        ("Options", known(build.get("options"))),
        ("Server on CPU", cpus(pinning.get("server_cpus"))),
        ("Generator on CPU", cpus(pinning.get("generator_cpus"))),
        ("Started", known(result.get("started"))), ("Finished", known(result.get("finished"))),
        ("Command", known(result.get("command"), lambda line: f"<code>{escape(line)}</code>")),
    ]
