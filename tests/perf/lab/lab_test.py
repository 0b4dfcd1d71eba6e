"""The lab without servers: what it makes of histograms and runs, and how it searches and counts.

  lab_test.py GYRE_LOAD FLOOR [unittest arguments]
"""

import base64
import fcntl
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../perf/lab"))

import beside  # noqa: E402
import cli  # noqa: E402
import contenders  # noqa: E402
import load  # noqa: E402
import machine  # noqa: E402
import reads  # noqa: E402
import recovery  # noqa: E402
import runner  # noqa: E402
import stats  # noqa: E402
import verdicts  # noqa: E402
from histogram import COOKIE, COOKIE_COMPRESSED, HEADER, Histogram, is_supported  # noqa: E402
from knee import RATE_MIN, KneeSearch  # noqa: E402
from disk import like_reads_of  # noqa: E402
from scenarios import LIMIT_US, SCENARIOS, Aim, Bound, Memory, Share, Step  # noqa: E402

LOAD, FLOOR = sys.argv[1:3]


def encoded(counters):
    """HdrHistogram V2 of signed counters, a negative one standing for so many zeros."""
    payload = b""
    for counter in counters:
        value = (counter << 1) ^ (counter >> 63)
        while value >= 0x80:
            payload += bytes([value & 0x7F | 0x80])
            value >>= 7
        payload += bytes([value])
    plain = HEADER.pack(COOKIE, len(payload), 0, 3, 1, 3_600_000_000_000, 1.0) + payload
    packed = zlib.compress(plain)
    return base64.b64encode(struct.pack(">II", COOKIE_COMPRESSED, len(packed)) + packed).decode()


class Histograms(unittest.TestCase):
    def test_counters_and_runs_of_zeros_are_decoded(self):
        histogram = Histogram.decode(encoded([-1000, 300, -499, 7]))
        self.assertEqual(histogram.counts, {1000: 300, 1500: 7})
        self.assertEqual(histogram.total, 307)

    def test_a_cut_counter_is_refused(self):
        whole = base64.b64decode(encoded([-1000, 300]))
        plain = zlib.decompress(whole[8:])
        payload = plain[HEADER.size:-1]
        cut = HEADER.pack(COOKIE, len(payload), 0, 3, 1, 1 << 40, 1.0) + payload
        with self.assertRaises(ValueError):
            Histogram.decode(base64.b64encode(cut).decode())

    def test_what_is_not_a_histogram_is_refused(self):
        for text in ("AAAA", base64.b64encode(b"\x00" * 60).decode()):
            with self.assertRaises((ValueError, struct.error)):
                Histogram.decode(text)

    def test_percentiles_are_within_a_thousandth_of_the_sorted_samples(self):
        random_ = random.Random(3)
        samples = sorted(int(random_.lognormvariate(11, 1.5)) for _ in range(50_000))
        histogram = Histogram()
        for sample in samples:
            histogram.record(sample)
        for percentile in (1, 50, 90, 99, 99.9):
            exact = samples[histogram.rank(percentile) - 1] / 1e3
            self.assertGreaterEqual(histogram.at(percentile) * (1 + 1e-12), exact)
            self.assertLessEqual(histogram.at(percentile), exact * 1.001 + 0.001)

    def test_merging_adds_counters_and_never_averages(self):
        slow, fast = Histogram(), Histogram()
        fast.record(1000, 990_000)
        slow.record(9_000_000, 10_000)
        merged = Histogram.merged([slow, fast])
        self.assertEqual(merged.total, 1_000_000)
        self.assertAlmostEqual(merged.at(98.9), 1.0, delta=0.002)
        self.assertAlmostEqual(merged.at(99.1), 9000, delta=9)
        self.assertEqual(slow.total, 10_000)  # the parts stay what they were

    def test_a_percentile_needs_a_hundred_samples_above_it(self):
        self.assertTrue(is_supported(10_000, 99))
        self.assertFalse(is_supported(9_999, 99))
        histogram = Histogram()
        histogram.record(5000, 9_999)
        self.assertIsNone(histogram.summary()["p99"])
        self.assertIsNotNone(histogram.summary()["p90"])

    def test_the_spectrum_ends_where_the_samples_do(self):
        histogram = Histogram()
        for value in range(1, 100_001):
            histogram.record(value * 100)
        rows = histogram.spectrum()
        self.assertEqual(rows[0][0], 0)
        self.assertAlmostEqual(rows[-1][0], 99.9, places=6)
        self.assertEqual([row[1] for row in rows], sorted(row[1] for row in rows))

    def test_the_generators_own_percentiles_come_out(self):
        port = contenders.free_port()
        floor = subprocess.Popen([FLOOR, "--listen", f"127.0.0.1:{port}"],
                                 stdout=subprocess.DEVNULL)
        try:
            with tempfile.TemporaryDirectory() as directory:
                path = os.path.join(directory, "report.json")
                for _ in range(200):
                    done = subprocess.run(
                        [LOAD, "-q", "--closed", "-c", "8", "-d", "500ms", "--json", path,
                         f"http://127.0.0.1:{port}/v0/status"], capture_output=True, text=True)
                    if done.returncode == 0:
                        break
                self.assertEqual(done.returncode, 0, done.stderr)
                with open(path, encoding="utf-8") as file:
                    report = json.load(file)
        finally:
            floor.kill()
            floor.wait()
        intended = report["result"]["latency_us"]["intended"]
        summary = Histogram.decode(intended["hdr_b64"]).summary()
        self.assertEqual(summary["n"], intended["n"])
        for name in ("p50", "p90", "p99", "p999"):
            if intended[name] is None:
                self.assertIsNone(summary[name])
            else:
                self.assertAlmostEqual(summary[name], intended[name], delta=intended[name] / 300)


class Turns(unittest.TestCase):
    def test_two_are_interleaved_abba(self):
        order = [name for pair in range(4) for name in stats.turns(["a", "b"], pair)]
        self.assertEqual("".join(order), "abbabaab")

    def test_over_six_pairs_everybody_has_every_place_as_often(self):
        orders = [stats.turns("abc", pair) for pair in range(6)]
        self.assertEqual(orders[:2], [["a", "b", "c"], ["c", "b", "a"]])
        for place in range(3):
            column = sorted(order[place] for order in orders)
            self.assertEqual(column, ["a", "a", "b", "b", "c", "c"])

    def test_ratios_are_only_of_the_same_pair(self):
        self.assertEqual(stats.paired_ratios({0: 2.0, 1: 9.0, 2: 6.0}, {0: 1.0, 2: 2.0, 3: 1.0}),
                         [2.0, 3.0])
        self.assertEqual(stats.paired_ratios({0: 2.0}, {0: 0}), [])


class Knees(unittest.TestCase):
    def search(self, limit, start, flaky=()):
        search, tries = KneeSearch(start), 0
        while not search.done:
            tries += 1
            self.assertLess(tries, 200)
            search.tell(search.rate <= limit and tries not in flaky)
        return search, tries

    def test_it_finds_the_limit_from_above_and_below(self):
        for start in (100, 9_000, 10_000, 500_000):
            search, _ = self.search(10_000, start)
            self.assertLessEqual(search.held, 10_000)
            self.assertGreaterEqual(search.held, 10_000 / search.tolerance)

    def test_one_bad_run_does_not_end_it(self):
        search, _ = self.search(10_000, 5_000, flaky=(1, 4))
        self.assertGreaterEqual(search.held, 10_000 / search.tolerance)

    def test_a_server_that_holds_nothing_ends_it_without_a_rate(self):
        search, _ = self.search(0, 10_000)
        self.assertIsNone(search.held)
        self.assertLessEqual(search.failed, RATE_MIN)

    def test_a_rung_is_held_within_the_limit_without_errors_and_on_time(self):
        def rung(p99_us=1000, errors=0, unfinished=0, answered=1000.0):
            histogram = Histogram()
            histogram.record(p99_us * 1000, 10_000)
            run = {"errors": {"status": errors}, "unfinished": unfinished,
                   "ok_per_s": answered, "generator_limited": False,
                   "latency_us": histogram.summary()}
            return runner.rung_of(run, histogram, 1000.0, 0, LIMIT_US)["held"]

        self.assertTrue(rung())
        self.assertTrue(rung(answered=990))
        self.assertFalse(rung(p99_us=LIMIT_US + 10))
        self.assertFalse(rung(errors=1))
        self.assertFalse(rung(unfinished=1))
        self.assertFalse(rung(answered=989))


STAT = "{pid} ({name}) S {parent} 0 {session} 0 0 0 0 0 0 0 {user} {kernel} 0 0 20 0 1 0 5 0 0"


class CpuTime(unittest.TestCase):
    def test_names_with_spaces_and_brackets_do_not_shift_the_fields(self):
        stat = STAT.format(pid=7, name="a (b) c", parent=2, session=9, user=30, kernel=12)
        self.assertEqual(machine.process_ticks(stat), (30, 12))
        self.assertTrue(machine.is_kernel_thread(stat))
        self.assertFalse(machine.is_kernel_thread(
            STAT.format(pid=7, name="x", parent=1, session=0, user=0, kernel=0)))

    def test_a_server_is_all_processes_of_its_session(self):
        stats_ = {pid: STAT.format(pid=pid, name="x", parent=1, session=session, user=pid, kernel=1)
                  for pid, session in ((10, 10), (11, 10), (12, 12))}
        self.assertEqual(machine.session_ticks(stats_, 10), (21, 2))

    def test_process_and_kernel_threads_are_divided_by_requests(self):
        before = machine.Clocks(100, 200, {5: 1_000_000, 6: 5})
        after = machine.Clocks(150, 300, {5: 3_000_000, 9: 500_000})
        cpu = machine.cpu_per_request(before, after, 1000)
        tick_us = 1e6 / machine.TICKS_PER_S
        self.assertAlmostEqual(cpu["user_us"], 50 * tick_us / 1000)
        self.assertAlmostEqual(cpu["kernel_us"], 100 * tick_us / 1000)
        self.assertAlmostEqual(cpu["process_us"], 150 * tick_us / 1000)
        # Thread 5 ran for 2 ms, the new one for 0.5; the one that ended is unknown.
        self.assertAlmostEqual(cpu["system_us"], cpu["process_us"] + 2.5)
        self.assertIsNone(machine.cpu_per_request(before, after, 0))

    def test_this_process_is_charged_for_what_it_does(self):
        before = machine.clocks([os.getsid(0)])
        total = sum(index * index for index in range(2_000_000))
        self.assertGreater(total, 0)
        after = machine.clocks([os.getsid(0)])
        self.assertGreater(after.user_ticks, before.user_ticks)

    def test_the_disks_interrupts_tell_its_cpu(self):
        text = ("           CPU0       CPU1\n"
                " 35:          9          1  PCI-MSIX  0-edge  virtio1-config\n"
                " 36:          4   18018011  PCI-MSIX  1-edge  virtio1-req.0\n"
                " 37:     999999          0  PCI-MSIX  0-edge  virtio10-req.0\n")
        self.assertEqual(machine.interrupt_cpu(text, "virtio1"), 1)
        self.assertIsNone(machine.interrupt_cpu(text, "nvme0"))


def a_run(contender, pair, order=0, **latency):
    return {"contender": contender, "pair": pair, "order": order, "latency_us": latency,
            "ok_per_s": 1000.0, "cpu": None, "memory": {"resident_max_bytes": 110}, "errors": {},
            "ok": 10, "unfinished": 0, "wrong": 0, "verified": 0, "generator_limited": False,
            "others_cpus_used": 0.0}


class Verdicts(unittest.TestCase):
    def step(self, *aims, kind="latency"):
        return Step("s", kind, "get", ("gyre", "threadpool", "floor"), rate=1.0, aims=aims)

    def rows(self, step, runs, disk=None):
        return verdicts.ratios(step, {"runs": runs, "merged": {}}, disk or {}, 100)[0]

    def test_an_aim_is_judged_at_the_median_of_pairs(self):
        step = self.step(Aim("p99", (Bound(0.5, "threadpool"),)))
        runs = []
        for pair, figure in enumerate((40, 45, 90)):
            runs += [a_run("gyre", pair, p99=figure), a_run("threadpool", pair, p99=100)]
        row = self.rows(step, runs)[0]
        self.assertEqual((row["median"], row["low"], row["high"]), (0.45, 0.4, 0.9))
        self.assertIs(row["met"], True)
        runs[2]["latency_us"]["p99"] = 51
        self.assertIs(self.rows(step, runs)[0]["met"], False)

    def test_one_of_two_ways_is_enough(self):
        step = self.step(Aim("p99", (Bound(0.5, "threadpool"), Bound(1.25, "floor"))))
        runs = [a_run("gyre", 0, p99=80), a_run("threadpool", 0, p99=100), a_run("floor", 0, p99=70)]
        self.assertEqual([row["met"] for row in self.rows(step, runs)[:2]], [None, True])
        runs[2]["latency_us"]["p99"] = 60
        self.assertEqual([row["met"] for row in self.rows(step, runs)[:2]], [False, False])

    def test_the_disk_is_added_to_the_floor_by_the_same_percentile(self):
        disk = Histogram()
        disk.record(100_000, 1000)
        step = self.step(Aim("p50", (Bound(1, "floor", disk=1.5),)))
        runs = [a_run("gyre", 0, p50=190.0), a_run("floor", 0, p50=40.0)]
        row = self.rows(step, runs, {0: disk})[0]
        self.assertAlmostEqual(row["median"], 1.0, delta=0.002)
        self.assertEqual(row["to"], "floor + 1.5 × disk sync")
        aims = [row for row in self.rows(step, runs) if row["aim"] is not None]
        self.assertEqual(aims, [])  # without a probed disk there is no verdict

    def test_memory_is_judged_against_the_budget(self):
        step = self.step(Aim("resident", (Bound(1.15, "memory"),)), kind="sustained")
        row = self.rows(step, [a_run("gyre", 0, p50=1.0)])[0]
        self.assertAlmostEqual(row["median"], 1.1)
        self.assertIs(row["met"], True)

    def test_an_aim_that_cannot_be_judged_is_said_to_be(self):
        step = self.step(Aim("p999", (Bound(1.5, "floor"),)))
        runs = [a_run("gyre", 0, p999=None), a_run("floor", 0, p999=1.0)]
        rows, missing = verdicts.ratios(step, {"runs": runs, "merged": {}}, {}, 100)
        self.assertEqual(rows, [])
        self.assertEqual(len(missing), 1)
        self.assertIn("p99.9 ≤ 1.5 × floor", missing[0])

    def test_runs_with_errors_are_not_judged(self):
        step = self.step(Aim("p99", (Bound(0.5, "threadpool"),)))
        runs = [a_run("gyre", 0, p99=10), a_run("threadpool", 0, p99=100),
                a_run("gyre", 1, p99=10), a_run("threadpool", 1, p99=1)]
        runs[2]["errors"] = {"status": 1, "unavailable": 1}
        row = self.rows(step, runs)[0]
        self.assertEqual((row["median"], row["pairs"]), (0.1, 1))

    def test_limited_runs_are_left_out_where_enough_pairs_remain(self):
        step = self.step(Aim("p99", (Bound(0.5, "threadpool"),)))
        runs = [a_run(name, pair, p99=figure) for pair in range(4)
                for name, figure in (("gyre", 10), ("threadpool", 100))]
        runs[0].update(generator_limited=True)
        self.assertEqual(self.rows(step, runs)[0]["pairs"], 3)
        runs[2].update(generator_limited=True)
        self.assertEqual(self.rows(step, runs)[0]["pairs"], 4)

    def test_what_single_runs_have_too_few_samples_for_is_compared_merged(self):
        step = self.step(Aim("p999", (Bound(1.5, "floor"),)))
        runs = [a_run(name, pair, p999=None, p99=1.0) for pair in (0, 1)
                for name in ("gyre", "floor")]
        merged = {"gyre": {"latency_us": {"p999": 30.0}}, "floor": {"latency_us": {"p999": 10.0}}}
        rows, _ = verdicts.ratios(step, {"runs": runs, "merged": merged}, {}, 100)
        row = next(row for row in rows if row["metric"] == "p999")
        self.assertEqual((row["median"], row["pairs"], row["met"]), (3.0, 1, False))
        self.assertEqual([row["pairs"] for row in rows if row["metric"] == "p99"], [2])

    def test_findings_name_aims_errors_and_wrong_answers(self):
        step = {"name": "s", "kind": "verify", "knee": None, "runs": [a_run("gyre", 0)],
                "not_measured": ["p99.9 is missing"],
                "ratios": [{"contender": "gyre", "to": "floor", "metric": "p99", "median": 2.0,
                            "low": 1.0, "high": 3.0, "pairs": 3, "aim": 1.5,
                            "aim_text": "≤ 1.5 × floor", "met": False}]}
        step["runs"][0].update(wrong=2, verified=9, others_cpus_used=0.5, errors={
            "timeout": 3, "status": 7, "not_found": 1, "unavailable": 4})
        lines = verdicts.findings({"steps": [step]}, ["a note"])
        self.assertTrue(lines[0].startswith("missed: s: p99 of gyre is 2.00 × floor"), lines)
        self.assertEqual(lines[1], "not measured: s: p99.9 is missing")
        for text in ("3 timeout", "4 refused with 503", "2 other answers", "50% of a CPU"):
            self.assertIn(text, lines[2])
        self.assertTrue(lines[3].startswith("missed: s: 2 wrong of 9"), lines)
        self.assertEqual(lines[-1], "a note")
        step["runs"][0].update(wrong=0, verified=0)
        self.assertTrue(verdicts.verified_line(step).startswith("not measured"))

    def test_above_capacity_only_503_is_allowed(self):
        step = {"name": "s", "runs": [a_run("gyre", 0)]}
        step["runs"][0].update(unfinished=9, errors={"status": 5, "unavailable": 5, "read": 0})
        self.assertTrue(verdicts.refusals_line(step).startswith("met"))
        step["runs"][0].update(errors={"status": 5, "unavailable": 4, "read": 0})
        self.assertTrue(verdicts.refusals_line(step).startswith("missed"))

    def knee(self, gyre_ended, floor_ended):
        return {"knee": {"highest": {"gyre": [90.0], "floor": [100.0]},
                         "generator_ended": {"gyre": [gyre_ended], "floor": [floor_ended]}}}

    def test_a_knee_below_the_line_must_not_be_the_generators(self):
        step = self.step(Aim("highest", (Bound(0.8, "floor", at_least=True),)), kind="knee")
        rows, missing = verdicts.knee_ratios(step, self.knee(False, False))
        self.assertEqual(([row["met"] for row in rows], missing), ([True], []))
        rows, missing = verdicts.knee_ratios(step, self.knee(False, True))
        self.assertEqual(rows, [])
        self.assertIn("generator", missing[0])

    def test_a_knee_that_the_generator_ended_can_meet_an_aim_but_not_miss_it(self):
        step = self.step(Aim("highest", (Bound(0.95, "floor", at_least=True),)), kind="knee")
        self.assertIs(verdicts.knee_ratios(step, self.knee(False, False))[0][0]["met"], False)
        self.assertIsNone(verdicts.knee_ratios(step, self.knee(True, False))[0][0]["met"])


    def read_knee(self, ended, disk_per_s, blocks=0.8):
        rung = {"reads": {"blocks": blocks, "bytes": 6000.0, "blocks_per_s": blocks * 1000},
                "server_cpus_used": 0.9}
        return {"name": "s", "runs": [], "disk_reads": {"depth": 128, "read_bytes": [8192, 4096],
                                                        "per_s": disk_per_s},
                "knee": {"highest": {"gyre": [1000.0, 1000.0], "threadpool": [500.0, None]},
                         "generator_ended": {"gyre": [ended] * 2, "threadpool": [False] * 2},
                         "at_highest": {"gyre": [rung, rung], "threadpool": [None, None]},
                         "gyre": [rung, rung], "threadpool": []}}

    def test_reads_at_the_knee_are_judged_against_the_disk_of_the_same_pair(self):
        step = Step("s", "knee", "get", ("gyre", "threadpool"), memory=Memory(1 / 4, "caches"),
                    aims=(Aim("disk_reads", (Bound(0.85, "disk", at_least=True),)),))
        rows, missing = verdicts.knee_ratios(step, self.read_knee(False, [900.0, 800.0]))
        self.assertEqual((rows[0]["metric"], rows[0]["to"], missing), ("disk_reads", "disk", []))
        self.assertAlmostEqual(rows[0]["low"], 8 / 9)
        self.assertIs(rows[0]["met"], True)
        # The comparator's knee is told without an aim.
        self.assertEqual([(row["to"], row["median"], row["met"]) for row in rows[1:]],
                         [("threadpool", 2.0, None)])
        missed = self.read_knee(False, [1000.0, 1000.0])
        self.assertIs(verdicts.knee_ratios(step, missed)[0][0]["met"], False)
        missed = self.read_knee(True, [1000.0, 1000.0])
        self.assertIsNone(verdicts.knee_ratios(step, missed)[0][0]["met"])

    def test_reads_that_memory_answered_are_told(self):
        lines = verdicts.reads_lines(self.read_knee(False, [900.0, 800.0]))
        self.assertEqual(len(lines), 2, lines)
        for text in ("gyre read 0.80 blocks and 5.9 KiB", "800 blocks/s", "0.90 CPUs"):
            self.assertIn(text, lines[0])
        self.assertIn("850 reads/s of 6 KiB, 128 at a time", lines[1])
        lines = verdicts.reads_lines(self.read_knee(False, [900.0], blocks=0.1))
        self.assertTrue(lines[0].startswith("not measured: s: gyre read 0.10"), lines)


class Watches(unittest.TestCase):
    BEGAN_US = 5_000_000.0

    def series(self, *longest_us):
        return [{"t": t, "answers": 10, "service_max": longest}
                for t, longest in enumerate(longest_us)]

    def laid(self, series, *writes):
        beside.lay_beside(series, self.BEGAN_US, [
            [self.BEGAN_US + second * 1e6, latency_us, 5.0] for second, latency_us in writes])
        return series

    def test_a_write_counts_in_every_second_that_it_touches(self):
        rows = self.laid(self.series(1, 1, 1, 1), (0.5, 300.0), (0.9, 1_300_000.0), (3.1, 200.0))
        self.assertEqual([row["disk_max"] for row in rows], [1.3e6, 1.3e6, 1.3e6, 200.0])
        rows = self.laid(self.series(1, 1), (0.5, 300.0), (1.0, 100.0), (1.2, 50.0))
        self.assertEqual([row["disk_max"] for row in rows], [300.0, 100.0])

    def test_a_stall_is_excused_by_one_of_the_disk_in_a_neighbouring_second_only(self):
        stall = 90_000
        for second, above in ((0, 1), (1, 0), (2, 0), (3, 0), (4, 1)):
            writes = [(t + 0.5, 100.0) for t in range(5)] + [(second + 0.6, 75_000.0)]
            rows = self.laid(self.series(500, 500, stall, 500, 500), *writes)
            its = beside.stalls_of(rows)
            self.assertEqual((its["seconds"], its["above"]), (5, above), second)
        self.assertAlmostEqual(its["longest_above_us"], stall - 100.0)

    def test_up_to_the_limit_above_the_disk_is_no_stall(self):
        for longest, above in ((20_100, 0), (20_101, 1)):
            rows = self.laid(self.series(longest), (0.5, 100.0))
            self.assertEqual(beside.stalls_of(rows)["above"], above)

    def test_seconds_without_a_write_near_or_without_answers_are_not_judged(self):
        rows = self.laid(self.series(9e9, 1, 9e9, 1), (3.5, 100.0))
        rows[3]["answers"] = 0
        its = beside.stalls_of(rows)
        self.assertEqual((its["seconds"], its["above"]), (1, 1))
        its = beside.stalls_of(self.laid(self.series(1)))
        self.assertEqual((its["seconds"], its["longest_above_us"]), (0, None))

    def test_writes_of_the_run_are_those_under_way_in_it(self):
        writes = [[0.0, 10.0, 0.0], [95.0, 10.0, 0.0], [150.0, 1.0, 0.0], [199.0, 50.0, 0.0],
                  [200.0, 1.0, 0.0]]
        self.assertEqual(beside.during(writes, 100.0, 200.0), writes[1:4])

    def run_with(self, above, p99, service_p99=1000.0, limited=False):
        return {"contender": "gyre", "service_us": {"p999": 11_000.0, "max": 268_000.0}, "beside": {
            "stalls": {"limit_us": 20_000, "seconds": 600, "above": above},
            "disk": {"latency_us": {"p999": 1200.0, "max": 41_000.0}},
            "gets": {"rate": 2000.0, "errors": {"unavailable": 3}, "generator_limited": limited,
                     "latency_us": {"p99": p99}, "service_us": {"p99": service_p99}}}}

    def test_stalls_and_gets_are_judged_of_the_first_and_told_of_others(self):
        lines = verdicts.beside_lines("s", self.run_with(0, 3100.0), judged=True)
        self.assertTrue(lines[0].startswith("met: s: in 0 of 600 seconds gyre's"), lines)
        for text in ("over 20 ms longer", "p99.9 11 ms, longest 268 ms", "1.2 ms and 41 ms"):
            self.assertIn(text, lines[0])
        self.assertTrue(lines[1].startswith("met: s: 2,000 GETs/s"), lines)
        for text in ("p99 of 3.1 ms (aim 5 ms)", "3 were refused"):
            self.assertIn(text, lines[1])
        lines = verdicts.beside_lines("s", self.run_with(1, 5100.0, 5050.0, True), judged=True)
        self.assertTrue(all(line.startswith("missed: ") for line in lines), lines)
        lines = verdicts.beside_lines("s", self.run_with(1, 5100.0), judged=False)
        self.assertTrue(all(line.startswith("s: ") for line in lines), lines)

    def test_a_late_generator_can_show_that_gets_were_fast_but_not_that_they_were_slow(self):
        for p99, service, limited, word in ((4900.0, 1.0, True, "met"), (5100.0, 1.0, True, "open"),
                                            (5100.0, 1.0, False, "missed"),
                                            (9000.0, 5100.0, True, "missed"),
                                            (None, None, False, "not measured")):
            gets = self.run_with(0, p99, service, limited)["beside"]["gets"]
            self.assertEqual(verdicts.gets_word(gets), word + ": ")


class Recoveries(unittest.TestCase):
    STEP = Step("s", "recovery", "put", ("gyre",), aims=(
        Aim("recovery", (Bound(1, "300 MiB/s", at_least=True, fixed=300 * 2**20),)),))

    def record(self, *took_s):
        rounds = [recovery.figures_of(pair, 0.04, 0.04 + took, (30 << 20, 27 << 20, 200_000))
                  for pair, took in enumerate(took_s)]
        return {"name": "s", "recovery": {"gyre": rounds}}

    def test_an_empty_start_is_taken_off_and_the_median_is_judged(self):
        rows, missing = verdicts.recovery_ratios(self.STEP, self.record(0.05, 0.08, 0.5))
        self.assertEqual((len(rows), missing), (1, []))
        self.assertAlmostEqual(rows[0]["median"], 30 / 0.08 / 300)
        self.assertEqual((rows[0]["to"], rows[0]["aim_text"]), ("300 MiB/s", "≥ 300 MiB/s"))
        self.assertIs(rows[0]["met"], True)
        rows, _ = verdicts.recovery_ratios(self.STEP, self.record(0.05, 0.11, 0.5))
        self.assertIs(rows[0]["met"], False)

    def test_a_start_that_took_no_longer_has_no_speed(self):
        record = self.record(-0.01, 0.0)
        self.assertEqual([its["bytes_per_s"] for its in record["recovery"]["gyre"]], [None, None])
        rows, missing = verdicts.recovery_ratios(self.STEP, record)
        self.assertEqual(rows, [])
        self.assertIn("too short", missing[0])
        self.assertEqual(verdicts.recovery_lines(record), [])

    def test_its_line_has_log_speed_and_both_starts(self):
        line, = verdicts.recovery_lines(self.record(0.06, 0.1, -1))
        for text in ("30.0 MiB", "200,000 records of 27.0 MiB",
                     "at 400 MiB/s (300 to 500, 2 of 3 rounds)",
                     "ready after 100 ms, without a log after 40"):
            self.assertIn(text, line)

    def test_a_start_is_over_with_the_line_that_tells_what_was_recovered(self):
        line = "gyre serves http://127.0.0.1:1 admin=off cores=1 data=/d records_recovered={}\n"
        found = recovery.READY_LINE.search("level=warn\n" + line.format(42))
        self.assertEqual(found[1], "42")
        self.assertIsNone(recovery.READY_LINE.search(line.format(42)[:-2].rstrip("4")))

    def test_a_lock_and_a_port_are_seen_to_be_taken(self):
        with tempfile.NamedTemporaryFile() as file, open(file.name, "rb") as other:
            self.assertTrue(recovery.can_be_locked(file.name))
            fcntl.flock(other, fcntl.LOCK_EX)
            self.assertFalse(recovery.can_be_locked(file.name))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.assertFalse(recovery.can_be_bound(port))
        self.assertTrue(recovery.can_be_bound(port))


class DiskReads(unittest.TestCase):
    METRICS = ('# TYPE gyre_reads counter\ngyre_reads{shard="0",level="0"} 7\n'
               'gyre_reads{shard="0",level="1"} 35\ngyre_reads_other 1000\ngyre_plain 4\n')

    def test_metrics_are_summed_over_their_labels(self):
        self.assertEqual(reads.metric_sum(self.METRICS, "gyre_reads"), 42)
        self.assertEqual(reads.metric_sum(self.METRICS, "gyre_plain"), 4)
        self.assertIsNone(reads.metric_sum(self.METRICS, "gyre_read"))

    def test_reads_are_told_per_request(self):
        its = reads.per_request(reads.Reads(100, 1000), reads.Reads(150, 401_000), 100, 20.0)
        self.assertEqual(its, {"blocks": 0.5, "bytes": 4000, "blocks_per_s": 10.0})
        self.assertIsNone(reads.per_request(None, None, 100, 20.0))
        self.assertIsNone(reads.per_request(reads.Reads(0, 0), reads.Reads(0, 0), 0, 20.0))

    def test_no_two_runs_whose_reads_are_counted_ask_for_the_same_keys(self):
        seeds = []

        class Generator:
            def run(self, server, plan, companions):
                seeds.append(plan.seed)
                return {}, Histogram()

        its = runner.Runner.__new__(runner.Runner)
        its.generator, its.companions, its.reading_runs = Generator(), None, 0
        for count_reads in (True, True, False, True, False):
            its.load(None, load.Plan("get", 4, 10.0, 1, 100, 100, count_reads=count_reads), {})
        self.assertEqual(len({seed for seed in seeds if seed != 1}), 3)
        self.assertEqual(seeds.count(1), 2)  # as everywhere else
        plan = load.Plan("get", 4, 10.0, 1, 100, 100, seed=7)
        self.assertIn("--seed 7", " ".join(plan.arguments()))

    def test_the_disk_is_read_in_the_size_next_to_the_servers(self):
        for mean, size in ((0, 4096), (5500, 4096), (6200, 8192), (9560, 8192), (1e9, 1 << 20)):
            self.assertEqual(like_reads_of(mean), size)


class Scenarios(unittest.TestCase):
    def test_every_scenario_is_whole(self):
        for scenario in SCENARIOS.values():
            steps = scenario.steps(None)
            self.assertTrue(any(step.smoke for step in steps), scenario.name)
            self.assertEqual(len({step.name for step in steps}), len(steps), scenario.name)
            for step in steps:
                for name in step.contenders:
                    self.assertIn(name, contenders.CONTENDERS)
                if isinstance(step.rate, Share):
                    self.assertIn(step.rate.of, contenders.CONTENDERS)
                for aim in step.aims:
                    self.assertIn(aim.metric, verdicts.WORDS)

    def test_memory_may_be_a_share_of_the_data(self):
        def memory(share_of, **changes):
            its = runner.Runner.__new__(runner.Runner)
            its.options = runner.Options("b", "o", "w", "c", {}, **changes)
            return its.memory_of(Step("s", "knee", "get", ("gyre",), keys=1_000_000,
                                      value_bytes=148, memory=share_of))

        self.assertEqual(memory(None, memory="2G", memory_bytes=2 << 30), ("2G", 2 << 30))
        self.assertEqual(memory(Memory(1 / 4, "whole")), ("40250000", 40_250_000))
        needed, runner.least_memory_bytes = runner.least_memory_bytes, lambda build, cores: 28 << 20
        try:
            self.assertEqual(memory(Memory(1 / 4, "caches"))[1], (28 << 20) + 80_500_000)
        finally:
            runner.least_memory_bytes = needed

    def test_where_the_data_is_larger_than_the_memory_little_of_it_is_set_aside(self):
        def commands(beyond_memory):
            place = contenders.Place("b", "/d", 77, [0], 1, "40M", "none", "get", beyond_memory)
            return [" ".join(contenders.CONTENDERS[name].command(place))
                    for name in ("gyre", "threadpool")]

        for command in commands(True):
            self.assertIn("--max-value 1M --max-connections 256", command)
        self.assertIn("--direct --workers 64", commands(True)[1])
        for command in commands(False):
            self.assertNotIn("--max-value", command)
            self.assertNotIn("--direct", command)

    def test_a_contender_of_ones_own_is_started_with_its_places(self):
        own = contenders.custom("spin=build/floor --listen {listen} --spin 50 --data {data}")
        place = contenders.Place("b", "/d", 77, [0], 3, "1G", "none", "get")
        self.assertEqual(own.command(place), ["build/floor", "--listen", "127.0.0.1:77", "--spin",
                                              "50", "--data", "/d/data"])
        for bad in ("gyre=x", "noequals", "Bad=x", "name="):
            with self.assertRaises(ValueError):
                contenders.custom(bad)


    def test_the_comparator_gets_the_workers_that_are_best_for_the_load(self):
        def workers(durability, operation):
            place = contenders.Place("b", "/d", 77, [0], 1, "1G", durability, operation)
            command = contenders.THREADPOOL.command(place)
            return command[command.index("--workers") + 1] if "--workers" in command else None

        self.assertEqual(workers("group", "mixed"), "32")
        self.assertIsNone(workers("group", "put"))
        self.assertIsNone(workers("none", "get"))


class Reports(unittest.TestCase):
    def report(self, busiest, starved):
        empty = {"p50": None, "p99": None, "p999": None, "max": 0}
        return {
            "result": {
                "answered": 10, "ok": 10, "elapsed_s": 1, "bytes_read": 0, "verified": 0,
                "errors": {"wrong": 0}, "unfinished": {"n": 0}, "series": [], "hiccup_us": empty,
                "latency_us": {"intended": {"hdr_b64": encoded([-1000, 10])}, "service": empty,
                               "send_lag": empty},
                "cpu": {"generator_busiest": busiest, "generator_starved": starved},
            },
            "verdict": {"generator_limited": False, "generator": "fine"},
        }

    def test_a_closed_loop_as_fast_as_the_generator_is_stamped(self):
        closed = load.Plan("range", 4, None, 1, 100, 100)
        open_ = load.Plan("range", 4, 10.0, 1, 100, 100)
        for busiest, starved, plan, limited in ((0.9, 0.07, closed, True), (0.9, 0, closed, False),
                                                (0.99, 0, open_, False)):
            run, _, _ = load.from_report(self.report(busiest, starved), plan)
            self.assertEqual(run["generator_limited"], limited)

    def test_requests_of_the_warm_up_count_for_cpu(self):
        plan = load.Plan("get", 4, 10.0, 5, 100, 100)
        self.assertAlmostEqual(plan.warmup_s, 0.5)
        self.assertAlmostEqual(load.from_report(self.report(0, 0), plan)[2], 11)
        self.assertEqual(load.Plan("get", 4, None, 5, 100, 100).warmup_s, 0)


class CommandLine(unittest.TestCase):
    def test_bad_values_exit_with_2(self):
        for words in (["run"], ["run", "nothing"], ["run", "rate", "--pairs", "0"],
                      ["run", "rate", "--memory", "lots"], ["run", "rate", "--server-cpus", "9999"],
                      ["run", "rate", "--contenders", "mysql"], ["run", "rate", "--pairs", "1.5"],
                      ["run", "sharded", "--nodes", "0"], ["run", "sharded", "--nodes", "2,99"],
                      ["run", "sharded", "--nodes", "two"],
                      ["run", "rate", "--contender", "x"], [], ["report"]):
            with self.assertRaises(SystemExit) as raised, open(os.devnull, "w") as nowhere:
                stderr, sys.stderr = sys.stderr, nowhere
                try:
                    cli.main(words)
                finally:
                    sys.stderr = stderr
            self.assertEqual(raised.exception.code, 2, words)

    def test_numbers_and_sizes_are_read_as_people_write_them(self):
        self.assertEqual(cli.size_bytes("512M"), 512 << 20)
        self.assertEqual(cli.positive("10k"), 10_000)
        self.assertEqual(cli.cpu_list("0"), [0])
        self.assertEqual(cli.node_counts("1,24,3,24"), [1, 24, 3])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
