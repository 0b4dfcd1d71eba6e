"""The disk bench, every kind for a moment: reads end when every block was read once, and a
percentile is given only where 100 samples lie above it.

  disk_test.py DISK DIRECTORY [unittest arguments]
"""

import json
import subprocess
import sys
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


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
