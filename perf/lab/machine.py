"""The machine: what it is, and its clocks of CPU time.

"process" is what the server's processes (all of its session) were charged, io_uring's workers among
them; the kernel knows the sum to the nanosecond (shown in ticks of 10 ms), its division into user and kernel from samples.
"system" adds what kernel threads ran meanwhile on any CPU: disk completions, block and network
workers. Interrupts are charged to whoever they interrupt. /proc/stat is not used: it counts in
samples, which an often idle CPU evades.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Optional

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# --- clocks ---
def process_fields(stat: str) -> list[str]:
    """What follows the name, which may hold spaces and brackets: state is [0]."""
    return stat[stat.rfind(")") + 2 :].split()


def process_ticks(stat: str) -> tuple[int, int]:
    """User and kernel time, from the text of /proc/PID/stat."""
    fields = process_fields(stat)
    return int(fields[11]), int(fields[12])


def is_kernel_thread(stat: str) -> bool:
    """A child of kthreadd, from the text of /proc/PID/stat."""
    fields = process_fields(stat)
    return len(fields) > 1 and fields[1] == "2"


def session_of(stat: str) -> int:
    fields = process_fields(stat)
    return int(fields[3]) if len(fields) > 3 else 0


def all_stats() -> dict[int, str]:
    """/proc/PID/stat of every process there is."""
    return {int(pid): text for pid in os.listdir("/proc") if pid.isdigit()
            if (text := read(f"/proc/{pid}/stat"))}


def session_ticks(stats: dict[int, str], session: int) -> tuple[int, int]:
    """User and kernel time of all processes of a session."""
    times = [process_ticks(stat) for stat in stats.values() if session_of(stat) == session]
    return sum(user for user, _ in times), sum(kernel for _, kernel in times)


def kernel_threads_ns(stats: dict[int, str]) -> dict[int, int]:
    """CPU time of every kernel thread, by pid."""
    times = {}
    for pid, stat in stats.items():
        if is_kernel_thread(stat):
            fields = read(f"/proc/{pid}/schedstat").split()
            if fields:
                times[pid] = int(fields[0])
    return times


@dataclass(frozen=True)
class Clocks:
    """CPU time up to one moment."""

    user_ticks: int
    kernel_ticks: int
    kernel_threads_ns: dict[int, int]


def clocks(sessions: list[int]) -> Clocks:
    """Of all of them together."""
    stats = all_stats()
    ticks = [session_ticks(stats, session) for session in sessions]
    return Clocks(sum(user for user, _ in ticks), sum(kernel for _, kernel in ticks),
                  kernel_threads_ns(stats))


def cpu_per_request(before: Clocks, after: Clocks, requests: float) -> Optional[dict]:
    """Microseconds per request. Kernel threads that ended in between are not counted."""
    if requests <= 0:
        return None
    us = 1e6 / TICKS_PER_S / requests
    user = (after.user_ticks - before.user_ticks) * us
    kernel = (after.kernel_ticks - before.kernel_ticks) * us
    threads_ns = sum(ns - before.kernel_threads_ns.get(pid, 0)
                     for pid, ns in after.kernel_threads_ns.items())
    process = user + kernel
    return {
        "user_us": user, "kernel_us": kernel, "process_us": process,
        "system_us": process + threads_ns / 1e3 / requests,
    }


def resident_bytes(sessions: list[int]) -> Optional[int]:
    """Of all processes of these sessions."""
    sizes = []
    for pid in os.listdir("/proc"):
        if pid.isdigit() and session_of(read(f"/proc/{pid}/stat")) in sessions:
            found = re.search(r"^VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status"), re.M)
            sizes += [int(found[1]) * 1024] if found else []
    return sum(sizes) or None


# --- facts ---
def load_average() -> Optional[float]:
    text = read("/proc/loadavg").split()
    return float(text[0]) if text else None


def chosen(path: str) -> Optional[str]:
    """The one in brackets, as in "always [madvise] never"."""
    text = read(path).strip()
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else text or None


def filesystem_of(path: str) -> tuple[str, str]:
    """Type and device number (major:minor) of the mount that holds path."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1], wanted
    return "", wanted


def interrupt_cpu(interrupts: str, device: str) -> Optional[int]:
    """The CPU that took most interrupts of a device (virtio1, nvme0), from /proc/interrupts."""
    counts: list[int] = []
    for line in interrupts.splitlines():
        fields = line.split()
        if not fields or not re.search(rf"\b{re.escape(device)}(-(?!config)|q\d|\b(?!-))", line):
            continue
        numbers = []
        for field in fields[1:]:
            if not field.isdigit():
                break
            numbers.append(int(field))
        counts = [a + b for a, b in zip(counts, numbers)] if counts else numbers
    return counts.index(max(counts)) if any(counts) else None


def disk_interrupt_cpu(device_number: str) -> Optional[int]:
    place = os.path.realpath(f"/sys/dev/block/{device_number}")
    for part in reversed(place.split("/")):
        if re.fullmatch(r"virtio\d+|nvme\d+|ata\d+", part):
            return interrupt_cpu(read("/proc/interrupts"), part)
    return None


def facts(data_directory: str) -> dict:
    cpu = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", read("/proc/meminfo"), re.M)
    kind, device = filesystem_of(data_directory)
    return {
        "cpu": cpu[1].strip() if cpu else "",
        "cores": os.cpu_count(),
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "kernel": os.uname().release,
        "governor": chosen("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "thp": chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "filesystem": kind,
        "disk_interrupt_cpu": disk_interrupt_cpu(device),
        "disk_sync_us": None,
        "load_average": load_average(),
    }


def git(directory: str, *arguments: str) -> Optional[str]:
    try:
        done = subprocess.run(["git", "-C", directory, *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def introspected(build: str, name: str):
    try:
        return json.loads(read(os.path.join(build, "meson-info", name)))
    except ValueError:
        return None


def build_facts(build: str) -> dict:
    """Of the build that is measured, whose source may be another tree than the lab's own."""
    directories = (introspected(build, "meson-info.json") or {}).get("directories", {})
    source = directories.get("source", os.path.dirname(os.path.realpath(__file__)))
    status = git(source, "status", "--porcelain", "--untracked-files=no")
    shown = ("buildtype", "optimization", "debug", "b_ndebug", "b_lto", "b_sanitize", "cpp_args")
    options = {option["name"]: option["value"]
               for option in introspected(build, "intro-buildoptions.json") or []}
    return {
        "commit": git(source, "rev-parse", "--short=12", "HEAD"),
        "dirty": status is None or status != "",
        "compiler": compiler(build),
        "options": ", ".join(f"{name}={options[name]}" for name in shown
                             if options.get(name) not in (None, "", [], "none")),
    }


def compiler(build: str) -> Optional[str]:
    """As the build's compilation database calls it."""
    try:
        commands = json.loads(read(os.path.join(build, "compile_commands.json")))
    except ValueError:
        return None
    words = next((entry["command"].split() for entry in commands
                  if entry["file"].endswith(".cpp")), [])
    command = next((word for word in words if "ccache" not in word), None)
    if command is None:
        return None
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True)
    except OSError:
        return command
    return done.stdout.splitlines()[0] if done.stdout else command
