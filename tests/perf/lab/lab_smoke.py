"""The lab's command against real servers: a moment of every scenario, and how it ends badly.

  lab_smoke.py LAB BUILD_DIR [unittest arguments]
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

from json_schema import violations  # noqa: E402

LAB, BUILD = sys.argv[1:3]
SCHEMA = os.path.join(os.path.dirname(LAB), "result.schema.json")
PATIENCE_S = 280  # of anything that should end by itself; a hang, never a measure of speed
CPUS = sorted(os.sched_getaffinity(0))


class LabTest(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory(prefix="lab-test-", dir=BUILD)
        self.out = os.path.join(self.place.name, "out")
        self.data = os.path.join(self.place.name, "data")
        self.addCleanup(self.place.cleanup)

    def command(self, *words):
        return [sys.executable, LAB, "run", *words, "--build", BUILD, "--out", self.out, "--data",
                self.data, "--server-cpus", str(CPUS[0]), "--generator-cpus", str(CPUS[-1])]

    def run_lab(self, *words):
        return subprocess.run(self.command(*words), capture_output=True, text=True,
                              timeout=PATIENCE_S, env=self.environment())

    def start(self, *words):
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=self.environment())

    def environment(self):
        """Whatever the lab starts inherits the mark, however it is called."""
        return os.environ | {"LAB_TEST_MARK": self.place.name}

    def result(self, name):
        with open(os.path.join(self.out, name + ".json"), encoding="utf-8") as file:
            result = json.load(file)
        with open(SCHEMA, encoding="utf-8") as file:
            schema = json.load(file)
        self.assertEqual(list(violations(result, schema, schema)), [])
        return result

    def marked(self):
        """{pid: command line} of whatever the lab of this test started, itself included."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    environment = file.read().split(b"\0")
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    command = file.read().split(b"\0")
            except OSError:
                continue
            if b"LAB_TEST_MARK=" + self.place.name.encode() in environment:
                found[int(pid)] = command
        return found

    def servers(self):
        return self.running(b"gyre")

    def running(self, program):
        return [pid for pid, command in self.marked().items()
                if os.path.basename(command[0]) == program]

    def check_gone(self):
        self.assertEqual(self.marked(), {})
        self.assertEqual(os.listdir(self.data), [])

    def wait_for_server(self, lab):
        end = time.monotonic() + PATIENCE_S
        while not (found := self.servers()):
            self.assertIsNone(lab.poll(), "the lab ended before a server ran")
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)
        return found


class Scenarios(LabTest):
    def check(self, *names):
        done = self.run_lab(*names, "--quick")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in names:
            result = self.result(name)
            self.assertFalse(result["interrupted"], result["why"])
            for step in result["steps"]:
                self.check_step(step, result)
            with open(os.path.join(self.out, name + ".html"), encoding="utf-8") as file:
                self.assertIn(result["scenario"]["title"], file.read())
        self.check_gone()
        return done.stderr

    def check_step(self, step, result):
        told = [contender["name"] for contender in result["contenders"]]
        if step["kind"] == "knee":
            for name, rates in step["knee"]["highest"].items():
                self.assertIn(name, told)
                self.assertEqual(len(rates), 2)
                self.assertTrue(step["knee"][name])
            return
        if step["kind"] == "recovery":
            for rounds in step["recovery"].values():
                self.assertEqual([its["pair"] for its in rounds], [0, 1])
                for its in rounds:
                    self.assertGreater(its["records"], 0)
                    self.assertGreater(its["log_bytes"], its["record_bytes"])
                    self.assertGreater(its["start_s"], 0)
            return
        self.assertTrue(step["runs"])
        for run in step["runs"]:
            self.assertIn(run["contender"].partition(",")[0], told)
            self.assertGreater(run["ok"], 0, run)
            self.assertEqual(run["wrong"], 0)
            for kind in ("connect", "read", "write", "malformed"):
                self.assertEqual(run["errors"].get(kind, 0), 0, run["errors"])
            self.assertGreater(run["memory"]["resident_max_bytes"], 0)
            if step["kind"] == "verify":
                self.assertGreater(run["verified"], 0)
            else:
                self.assertGreaterEqual(run["cpu"]["system_us"], run["cpu"]["process_us"])

    def test_rate_and_verify(self):
        self.check("rate", "verify")
        step = self.result("rate")["steps"][0]
        order = [run["contender"] for run in sorted(step["runs"], key=lambda run: run["order"])]
        self.assertEqual(order, ["gyre", "threadpool", "floor", "floor", "threadpool", "gyre"])
        self.assertGreater(step["merged"]["gyre"]["latency_us"]["n"],
                           max(run["latency_us"]["n"] for run in step["runs"]))
        self.assertIn("0 wrong of", " ".join(self.result("verify")["findings"]))

    def test_range_overload_fractions(self):
        self.check("range", "overload", "fractions")
        for run in self.result("range")["steps"][0]["runs"]:
            self.assertGreater(run["bytes_per_s"], 0)
        overload = self.result("overload")
        for run in overload["steps"][0]["runs"]:
            self.assertGreater(run["beside"]["gets"]["latency_us"]["n"], 0)
            self.assertEqual(run["beside"]["gets"]["errors"]["not_found"], 0)  # filled before
            self.assertGreater(run["beside"]["disk"]["latency_us"]["n"], 0)
            self.assertGreater(run["beside"]["stalls"]["seconds"], 0)
            self.assertGreater(run["series"][0]["disk_max_near"], 0)
        for text in ("longer than the disk's longest write", "GETs/s beside it"):
            self.assertIn(text, " ".join(overload["findings"]))

    def test_cpu_and_cores(self):
        self.check("cpu", "cores")
        names = {run["contender"] for run in self.result("cpu")["steps"][0]["runs"]}
        self.assertEqual(names, {"gyre", "threadpool", "floor", "nginx"})

    def test_recovery(self):
        self.check("recovery")
        self.assertEqual(list(self.result("recovery")["steps"][0]["recovery"]), ["gyre"])

    def test_larger_than_memory(self):
        self.check("larger-than-memory")
        result = self.result("larger-than-memory")
        step = result["steps"][0]
        self.assertEqual(step["kind"], "knee")
        for contender in result["contenders"]:
            self.assertIn(f"--memory {step['plan']['memory_bytes']} ", contender["command"])
        # Though all of it would fit into the page cache.
        rungs = [rung for name in ("gyre", "threadpool") for rung in step["knee"][name]]
        for rung in rungs:
            self.assertGreater(rung["reads"]["blocks"], 0.2, rung)
            self.assertGreater(rung["reads"]["bytes"], 500, rung)
        self.assertEqual(len(step["disk_reads"]["per_s"]), 2)
        self.assertIn("the bare disk gave", " ".join(result["findings"]))

    def test_clusters(self):
        self.check("sharded", "replicated", "peer-hop")
        for name, nodes in (("sharded", 2), ("replicated", 3)):
            step = self.result(name)["steps"][0]
            self.assertEqual(step["plan"]["nodes"], nodes)
            for its in step["by_node"].values():
                self.assertEqual(len(its["table_bytes"]), nodes)
                self.assertGreater(min(its["table_bytes"]), 0)  # each has a part
        replicated = self.result("replicated")
        self.assertEqual([step["plan"]["fault"] for step in replicated["steps"]],
                         ["", "killed", "slow"])
        for step in replicated["steps"][1:]:
            for run in step["runs"]:  # the others answer what a node's absence leaves to them
                self.assertEqual(sum(run["errors"].values()), 0, run["errors"])
        hop = self.result("peer-hop")
        for rounds in hop["steps"][0]["hop"]["rounds"].values():
            self.assertEqual([its["pair"] for its in rounds], [0, 1])
        self.assertIn("on top of", " ".join(hop["findings"]))

    def test_larger_than_memory_on_two_nodes(self):
        done = self.run_lab("larger-than-memory", "--quick", "--no-html", "--nodes", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        step, = self.result("larger-than-memory")["steps"]
        for name, its in step["by_node"].items():
            self.assertGreater(min(its["table_bytes"]), 0)
            for rung in step["knee"][name]:
                self.assertGreater(rung["reads"]["blocks"], 0.2, rung)
        self.check_gone()

    def test_knee(self):
        self.assertIn("holds", self.check("knee"))


class Endings(LabTest):
    def test_a_server_that_dies_is_named_with_its_log(self):
        lab = self.start("rate", "--contenders", "gyre", "--seconds", "30", "--no-html")
        pid = self.wait_for_server(lab)[0]
        os.kill(pid, signal.SIGKILL)
        _, err = lab.communicate(timeout=PATIENCE_S)
        self.assertEqual(lab.returncode, 1, err)
        self.assertRegex(err, rf"gyre \(pid {pid}\) was killed by SIGKILL")
        result = self.result("rate")
        self.assertTrue(result["interrupted"])
        self.assertIn("SIGKILL", result["why"])
        self.check_gone()

    def test_of_a_long_run_that_is_cut_the_part_that_ran_is_kept(self):
        lab = self.start("verify", "--seconds", "100", "--rate", "2000", "--keys", "1000",
                         "--no-html")
        pid = self.wait_for_server(lab)[0]
        command = [word.decode() for word in self.marked()[pid]]
        while self.requests(command[command.index("--listen") + 1]) < 8000:  # filled and warm: 5,000
            self.assertIsNone(lab.poll())
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        _, err = lab.communicate(timeout=PATIENCE_S)
        self.assertEqual(lab.returncode, 1, err)
        run = self.result("verify")["steps"][0]["runs"][0]
        self.assertGreater(run["ok"], 0)
        self.assertLess(run["ok"], 190_000)
        self.check_gone()

    def requests(self, address):
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return 0  # it does not listen yet
        return sum(int(n) for n in re.findall(r'requests_total{[^}]*kind="(?:get|put)"} (\d+)', text))

    def test_an_interruption_keeps_what_was_measured(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            lab = self.start("rate", "--contenders", "floor", "--seconds", "0.3", "--pairs", "500",
                             "--no-html")
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end:
                self.assertIsNone(lab.poll())
                path = os.path.join(self.out, "rate.json")
                if os.path.exists(path) and any(s["runs"] for s in self.result("rate")["steps"]):
                    break
                time.sleep(0.05)
            lab.send_signal(number)
            _, err = lab.communicate(timeout=PATIENCE_S)
            self.assertEqual(lab.returncode, code, err)
            result = self.result("rate")
            self.assertTrue(result["interrupted"])
            self.assertIn(number.name, result["why"])
            self.assertTrue(result["steps"][0]["runs"])
            self.check_gone()
            os.unlink(path)

    def test_what_runs_beside_a_long_run_ends_with_it(self):
        for ends_server in (True, False):
            lab = self.start("overload", "--contenders", "gyre", "--quick", "--seconds", "100",
                             "--rate", "2000", "--no-html")
            self.wait_for_server(lab)
            while len(self.running(b"gyre-load")) < 2 or not self.running(b"disk"):
                self.assertIsNone(lab.poll())
                time.sleep(0.05)
            if ends_server:
                os.kill(self.servers()[0], signal.SIGKILL)
            else:
                lab.send_signal(signal.SIGTERM)
            _, err = lab.communicate(timeout=PATIENCE_S)
            self.assertEqual(lab.returncode, 1 if ends_server else 143, err)
            self.check_gone()

    def test_a_server_that_does_not_start_is_told_with_its_own_words(self):
        done = self.run_lab("rate", "--contenders", "floor", "--contender",
                            "broken=sh -c 'echo no such luck >&2; exit 4'", "--quick", "--no-html")
        self.assertEqual(done.returncode, 1)
        self.assertIn("broken", done.stderr)
        self.assertIn("no such luck", done.stderr)
        self.check_gone()

    def test_a_server_behind_a_script_is_measured_and_stopped_whole(self):
        floor = os.path.join(BUILD, "perf/floor/floor")
        script = f"{floor} --listen {{listen}} & wait"
        done = self.run_lab("cpu", "--step", "status, closed loop", "--contenders", "floor",
                            "--contender", f"wrapped=sh -c '{script}'", "--quick", "--no-html")
        self.assertEqual(done.returncode, 0, done.stderr)
        for run in self.result("cpu")["steps"][0]["runs"]:
            self.assertGreater(run["cpu"]["process_us"], 0, run["contender"])
        self.check_gone()

    def test_what_is_not_built_is_said_before_anything_runs(self):
        empty = os.path.join(self.place.name, "empty")
        done = subprocess.run(
            [sys.executable, LAB, "run", "rate", "--quick", "--no-html", "--build", empty, "--out",
             self.out, "--data", self.data], capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, re.escape("is not built"))

    def test_list_names_every_scenario(self):
        done = subprocess.run([sys.executable, LAB, "list"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0)
        for name in ("rate", "knee", "range", "overload"):
            self.assertRegex(done.stdout, rf"(?m)^{name} ")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
