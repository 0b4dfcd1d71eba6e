"""The disk bench, every kind for a moment: reads end when every block was read once, and a
percentile is given only where 100 samples lie above it.

  disk_test.py DISK DIRECTORY [unittest arguments]
"""

import json
import signal
import subprocess
import sys
import time
import unittest

DISK, DIRECTORY = sys.argv[1:3]
PATIENCE_S = 20  # a hang, never a measure of speed
KINDS = ["dsync", "fdatasync", "buffered", "allocated", "growing", "direct", "cold", "warm"]


def disk(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([DISK, "--dir", DIRECTORY, *arguments], capture_output=True, text=True,
                          timeout=PATIENCE_S)


def kinds(*arguments: str) -> dict[str, dict]:
    done = disk("--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {kind["kind"]: kind for kind in json.loads(done.stdout)["kinds"]}


class Disk(unittest.TestCase):
    def test_every_kind_runs(self):
        text = disk("--rounds", "1", "--seconds", "0.02", "--file-mib", "8")
        self.assertEqual(text.returncode, 0, text.stderr)
        self.assertEqual([line.split()[1] for line in text.stdout.splitlines()[2:]], KINDS)

    def test_a_round_of_reads_ends_when_all_blocks_were_read(self):
        # 3 MiB: what is drawn from is larger, a power of two.
        for mib, read_bytes, rounds in ((8, 4096, 2), (3, 4096, 1), (1, 1 << 20, 3)):
            with self.subTest(mib=mib, read_bytes=read_bytes):
                measured = kinds("--rounds", str(rounds), "--seconds", "1000", "--file-mib",
                                 str(mib), "--read-bytes", str(read_bytes), "--only", "direct",
                                 "--only", "cold", "--only", "warm")
                expected = rounds * (mib << 20) // read_bytes
                self.assertEqual([kind["n"] for kind in measured.values()], [expected] * 3)

    def test_percentiles_have_100_samples_above_them(self):
        cold = kinds("--rounds", "5", "--seconds", "1000", "--file-mib", "8", "--only", "cold")
        self.assertEqual(cold["cold"]["n"], 10240)  # 102 above p99, 10 above p99.9
        self.assertIsNotNone(cold["cold"]["p99_us"])
        self.assertIsNone(cold["cold"]["p999_us"])
        few = kinds("--rounds", "1", "--seconds", "1000", "--file-mib", "1", "--read-bytes",
                    "8192", "--only", "cold")["cold"]
        self.assertEqual((few["n"], few["p50_us"]), (128, None))
        self.assertGreater(few["max_us"], 0)

    def test_a_watch_tells_every_write_with_its_moment(self):
        before_us = time.monotonic() * 1e6
        done = disk("--watch", "100", "--seconds", "0.5", "--json")
        after_us = time.monotonic() * 1e6
        self.assertEqual(done.returncode, 0, done.stderr)
        watch = json.loads(done.stdout)["watch"]
        self.assertEqual(watch["n"], len(watch["writes"]))
        self.assertTrue(1 <= watch["n"] <= 50, watch["n"])  # fewer where one took long
        longest_us = max(latency for _, latency, _ in watch["writes"])
        self.assertAlmostEqual(longest_us, watch["max_us"], delta=0.01)
        end_us = before_us
        for started_us, latency_us, late_us in watch["writes"]:
            self.assertGreaterEqual(started_us, end_us - 1)
            self.assertGreater(latency_us, 0)
            self.assertGreaterEqual(late_us, 0)
            end_us = started_us + latency_us
        self.assertLess(end_us, after_us)
        # Each was due at a multiple of the interval behind the first.
        due_us = [started_us - late_us for started_us, _, late_us in watch["writes"]]
        for one in due_us:
            intervals = (one - due_us[0]) / 1e4
            self.assertAlmostEqual(intervals, round(intervals), delta=1e-3)

    def test_a_signal_ends_a_watch_with_its_figures(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            watch = subprocess.Popen(
                [DISK, "--dir", DIRECTORY, "--watch", "50", "--seconds", "1000", "--json"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(watch.kill)
            while not self.catches(watch.pid, number):
                self.assertIsNone(watch.poll())
                time.sleep(0.01)
            watch.send_signal(number)
            out, err = watch.communicate(timeout=PATIENCE_S)
            self.assertEqual(watch.returncode, 0, err)
            told = json.loads(out)["watch"]
            self.assertEqual(told["n"], len(told["writes"]))

    def catches(self, pid, number):
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            mask = next(line for line in file if line.startswith("SigCgt")).split()[1]
        return int(mask, 16) >> (number - 1) & 1

    def test_a_pace_that_is_none_is_refused(self):
        for pace in ("0", "1001", "fast"):
            self.assertEqual(disk("--watch", pace).returncode, 2, pace)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
