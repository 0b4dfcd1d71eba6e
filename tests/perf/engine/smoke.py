"""The engine bench, seen from outside: every workload for a moment with a small store, right
answers and whole reports; and what scripts rely on: exit codes, reports of interrupted runs,
nothing left behind.

  smoke.py GYRE_ENGINE_BENCH [unittest arguments]
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BENCH = sys.argv[1]
PATIENCE_S = 240  # of anything that should end by itself; a hang, never a measure of speed
SMALL = [
    "--keys", "20000", "--pairs", "2", "--seconds", "0.1", "--sweep-seconds", "0.05",
    "--threads", "1,2", "--lanes", "16", "--overwrites", "1", "--write-buffer", "6M",
]
WORKLOADS = [
    "fillrandom", "fillsync", "readrandom", "readrandom-quarter", "seekrandom",
    "readwhilewriting", "overwrite",
]


class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name
        self.json = os.path.join(self.directory, "report.json")

    def command(self, *arguments):
        return [BENCH, "--dir", self.directory, "--json", self.json, *SMALL, *arguments]

    def run_bench(self, *arguments):
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S
        )

    def report(self):
        with open(self.json, encoding="utf-8") as file:
            return json.load(file)

    def check_nothing_left(self):
        self.assertEqual(set(os.listdir(self.directory)) - {"report.json"}, set())


class Workloads(Case):
    def check_run(self, step, run):
        self.assertEqual((run["wrong"], run["unfinished"], run["errors"]["failed"]), (0, 0, 0))
        self.assertGreater(run["ok"], 0)
        self.assertEqual(run["ok"], run["latency_us"]["n"])
        if step["kind"] == "latency":
            # Every operation of the schedule, however long it took.
            planned = run["rate"] * step["plan"]["duration_s"]
            self.assertAlmostEqual(run["ok"], planned, delta=0.01 * planned + 2)
        if step["plan"]["operation"] == "put":
            self.assertGreater(run["engine"]["user_bytes"], 0)

    def test_all_in_both_loops(self):
        done = self.run_bench()
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.report()
        self.assertFalse(report["interrupted"])
        names = [f"{name}, {loop} loop" for name in WORKLOADS for loop in ("closed", "open")]
        self.assertEqual([step["name"] for step in report["steps"]], names)
        for step in report["steps"]:
            self.assertIn(step["name"], done.stdout)
            order = [run["contender"] for run in step["runs"]]
            self.assertEqual(order, ["gyre", "rocksdb", "rocksdb", "gyre"])
            for run in step["runs"]:
                self.check_run(step, run)
        closed_overwrite = report["steps"][-2]["merged"]
        for engine in ("gyre", "rocksdb"):
            self.assertGreaterEqual(closed_overwrite[engine]["space_amplification"], 0.9)
        self.check_nothing_left()

    def test_one_core_and_own_keys(self):
        for routing in (["--cpus", "0"], ["--routing", "own"]):
            done = self.run_bench(
                "--engines", "gyre", "--loops", "closed", "--pairs", "1", *routing,
                "fillrandom", "readrandom", "seekrandom",
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            for step in self.report()["steps"]:
                self.check_run(step, step["runs"][0])


class Endings(Case):
    def test_bad_command_lines(self):
        for bad in (["--bogus"], ["nosuchload"], ["--pairs", "x"], ["--keys"]):
            done = subprocess.run([BENCH, *bad], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 2, bad)
            self.assertIn("--help", done.stderr)
        done = subprocess.run([BENCH, "--help"], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0)
        for name in WORKLOADS:
            self.assertIn(name, done.stdout)

    def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(self):
        done = self.run_bench("--keys", "1000000000", "--value-bytes", "60000")
        self.assertEqual(done.returncode, 1)
        self.assertIn("MiB free", done.stderr)
        self.check_nothing_left()

    def test_an_interrupted_run_leaves_a_report(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number.name):
                self.interrupt(number)

    def interrupt(self, number):
        if os.path.exists(self.json):
            os.remove(self.json)
        # Long enough that only the signal ends it.
        process = subprocess.Popen(
            self.command("--pairs", "1000", "--loops", "closed", "readrandom"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not os.path.exists(self.json) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 128 + number)
        self.assertIn("interrupted", errors)
        report = self.report()
        self.assertTrue(report["interrupted"])
        self.assertTrue(report["steps"][0]["runs"])
        self.check_nothing_left()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
