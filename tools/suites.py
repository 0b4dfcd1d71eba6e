"""Chooses tests and sums up their results, for tools/check (meson brings python3 with it).

  suites.py select BUILD_DIR CONFIGURATION [SUITE…]   prints the names of the tests to run
  suites.py report RESULTS_DIR                        prints the table; exit code 1 on failures

A meson test names its suite first (unit, sim, contract, chaos, fuzz, perf, house), and may add marks:
  cores   cores meet in it: it runs under the thread sanitizer too
  long    it runs in the release configuration only
"""

import json
import os
import re
import subprocess
import sys

OUTPUT_LINES = 40  # of a failed test, per stream
OUTPUT_COLUMNS = 300
SUITES = ["unit", "sim", "contract", "chaos", "fuzz", "perf", "house"]
DOCTEST_COUNTS = re.compile(r"\[doctest\] test cases: *\d+ \| *(\d+) passed \| *(\d+) failed")


def introspect(build_dir):
    text = subprocess.run(
        ["meson", "introspect", "--tests", build_dir], check=True, capture_output=True, text=True
    ).stdout
    return json.loads(text)


def marks(test):
    """The suites of a test without the project's name: "gyre:unit" and "unit" both become unit."""
    return {suite.split(":")[-1] for suite in test["suite"]}


def runs_in(configuration, its_marks):
    if configuration == "release":
        return True
    if its_marks & {"house", "perf", "long"}:
        return False
    return configuration != "tsan" or "cores" in its_marks


def select(build_dir, configuration, suites):
    for test in introspect(build_dir):
        its_marks = marks(test)
        if runs_in(configuration, its_marks) and (not suites or its_marks & set(suites)):
            print(test["name"])


def cases(entry):
    """How many test cases of one meson test passed and failed."""
    if entry["result"] == "SKIP":
        return 0, 0
    good = entry["result"] in ("OK", "EXPECTEDFAIL")
    counts = DOCTEST_COUNTS.search(entry.get("stdout") or "")
    if counts:
        passed, failed = int(counts[1]), int(counts[2])
        return passed, failed if good else max(failed, 1)
    return (1, 0) if good else (0, 1)


def read_results(path):
    with open(path, encoding="utf-8", errors="replace") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def suite_of(name, by_name):
    its_marks = by_name.get(name.split(" / ")[-1], set())
    return next((suite for suite in SUITES if suite in its_marks), "other")


def print_output(configuration, entry):
    """The end of what a failed test said, so that it stands beside the result."""
    name = entry["name"].split(" / ")[-1]
    for stream in ("stdout", "stderr"):
        lines = (entry.get(stream) or "").splitlines()
        if lines:
            cut = ", its end" if len(lines) > OUTPUT_LINES else ""
            print(f"\n== {configuration}: {name}: {stream}{cut}")
            print("\n".join(line[:OUTPUT_COLUMNS] for line in lines[-OUTPUT_LINES:]))


def report(results_dir):
    rows, unfinished, notes = {}, [], []
    with open(os.path.join(results_dir, "runs"), encoding="utf-8") as runs:
        for run in runs:
            configuration, build_dir, expected, seconds = run.rstrip("\n").split("\t")
            by_name = {test["name"]: marks(test) for test in introspect(build_dir)}
            path = os.path.join(results_dir, configuration)
            entries = read_results(path) if os.path.exists(path) else []
            if len(entries) < int(expected):
                unfinished.append((configuration, int(expected) - len(entries)))
            for entry in entries:
                passed, failed = cases(entry)
                row = rows.setdefault(
                    (suite_of(entry["name"], by_name), configuration), [0, 0, 0.0]
                )
                row[0] += passed
                row[1] += failed
                row[2] += entry["duration"]
                if failed:
                    print_output(configuration, entry)
                if failed or entry["result"] == "SKIP":
                    notes.append((configuration, entry["name"].split(" / ")[-1], entry["result"]))
            rows[("(build and run)", configuration)] = [None, None, float(seconds)]

    order = SUITES + ["other", "(build and run)"]
    print(f"\n{'suite':<16} {'configuration':<14} {'passed':>7} {'failed':>7} {'seconds':>8}")
    for (suite, configuration), (passed, failed, seconds) in sorted(
        rows.items(), key=lambda row: (order.index(row[0][0]), row[0][1])
    ):
        counts = f"{'':>7} {'':>7}" if passed is None else f"{passed:>7} {failed:>7}"
        print(f"{suite:<16} {configuration:<14} {counts} {seconds:>8.1f}")
    for configuration, name, result in notes:
        word = "skipped" if result == "SKIP" else "failed"
        print(f"{word}: {configuration}: {name} ({result})")
    for configuration, count in unfinished:
        print(f"failed: {configuration}: {count} tests did not run (did the build fail?)")

    passed = sum(row[0] or 0 for row in rows.values())
    failed = sum(row[1] or 0 for row in rows.values()) + sum(count for _, count in unfinished)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "select":
        select(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(report(sys.argv[2]))
