"""Makes reports of made-up results and has a real browser open them (report_browser_test.mjs).

  report_browser_test.py CHARTS_DIR PACKAGES_DIR

CHARTS_DIR holds the chart library, PACKAGES_DIR the node_modules with playwright-core. The browser
is the distribution's chromium, or what CHROMIUM names.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../../../perf/lab")]
sys.dont_write_bytecode = True

import report  # noqa: E402
import report_fixture  # noqa: E402

# Fields that the charts read: each is absent once.
CHARTED = {
    "merged", "runs", "knee", "spectrum", "latency_us", "hiccup_us", "series", "memory",
    "contender", "resident_bytes", "p50", "p99", "p999", "max", "errors", "answers", "rate",
    "held", "ok_per_s", "highest", "limit_us", "plan", "memory_bytes", "beside", "service_max",
    "disk_max",
}


def with_gaps():
    """One result per charted field that has only the step where the field is absent."""
    whole = report_fixture.small()
    for path in report_fixture.paths(whole):
        if path[0] != "steps" or len(path) < 3 or path[-1] not in CHARTED:
            continue
        result = copy.deepcopy(whole)
        report_fixture.put(result, path, None)
        result["steps"] = [result["steps"][path[1]]]
        result["scenario"]["title"] = ".".join(map(str, path))
        yield result


def main():
    charts_dir, packages_dir = sys.argv[1:3]
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium")
    node = shutil.which("node")
    if not browser or not node:
        sys.exit("chromium and node are needed: apt-get install chromium nodejs")
    results = {
        "full": [report_fixture.full()],
        "minimal": [report_fixture.minimal()],
        "several": [report_fixture.full(), report_fixture.minimal()],
        "gaps": list(with_gaps()),
    }
    with tempfile.TemporaryDirectory() as directory:
        for name, of in results.items():
            report.write_html(of, os.path.join(directory, name + ".html"), charts_dir)
        environment = dict(
            os.environ, HOME=directory, REPORTS=directory, PACKAGES=os.path.realpath(packages_dir),
            CHROMIUM=browser, GAPS=json.dumps(len(results["gaps"])),
        )
        test = os.path.join(HERE, "report_browser_test.mjs")
        return subprocess.run([node, test], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
