"""The lab's clusters without a store: which steps there are, where nodes run, what is made of them.

  cluster_test.py [unittest arguments]
"""

import os
import signal
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../perf/lab"))

import cluster  # noqa: E402
import contenders  # noqa: E402
import machine  # noqa: E402
import runner  # noqa: E402
import verdicts  # noqa: E402
from load import Plan  # noqa: E402
from scenarios import SCENARIOS, Aim, Bound, Step, of_nodes, steps_of  # noqa: E402

PATIENCE_S = 60  # a hang, never a measure of speed
# Answers whatever it is asked, so that the lab takes it for a node that is ready. The first SIGTERM
# ends it well after a while, the later in the list the longer; the second at once.
NODE = """
import os, signal, socket, sys, threading
def end(*_):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
    place = [url.endswith(":" + sys.argv[1]) for url in sys.argv[3].split(",")].index(True)
    threading.Timer(0.1 + 0.3 * place, os._exit, [0]).start()
signal.signal(signal.SIGTERM, end)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = listener.accept()
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    client.close()
"""


def answering(name="node"):
    return contenders.Contender(
        name, lambda _: sys.executable,
        lambda place: [sys.executable, "-c", NODE, str(place.port), "--peers",
                       ",".join(place.peers)], clusters=True)


class Steps(unittest.TestCase):
    def test_every_step_is_there_with_each_number_of_nodes(self):
        steps = steps_of(SCENARIOS["sharded"], None)
        self.assertEqual([step.nodes for step in steps], [2, 2, 24, 24])
        self.assertEqual(len({step.name for step in steps}), 4)
        self.assertEqual({step.nodes for step in steps_of(SCENARIOS["sharded"], None, [3, 10])},
                         {3, 10})
        self.assertEqual({step.nodes for step in steps_of(SCENARIOS["larger-than-memory"], None)},
                         {1, 2, 4, 10, 24})

    def test_quick_ones_have_the_first_number_and_only_the_smoke_steps(self):
        steps = steps_of(SCENARIOS["sharded"], None, quick=True)
        self.assertTrue(steps)
        self.assertTrue(all(step.smoke and step.nodes == 2 for step in steps))

    def test_a_node_by_itself_is_asked_as_ever(self):
        one, two = (of_nodes(Step("s", "knee", "get", (), replicas="1/1"), n) for n in (1, 2))
        self.assertEqual((one.replicas, two.replicas), ("", "1/1"))
        self.assertEqual((one.name, two.name), ("s, 1 node", "s, 2 nodes"))

    def test_the_disk_is_an_aim_only_where_the_memories_together_do_not_hold_the_data(self):
        steps = [step for step in steps_of(SCENARIOS["larger-than-memory"], None)
                 if step.kind == "knee"]
        self.assertEqual({step.nodes for step in steps if step.aims}, {1, 2})

    def test_what_nodes_cannot_do_is_refused(self):
        with self.assertRaisesRegex(ValueError, "3 copies"):
            steps_of(SCENARIOS["replicated"], None, [2])
        with self.assertRaisesRegex(ValueError, "nobody would be left"):
            of_nodes(Step("s", "latency", "get", (), fault="killed"), 1)
        with self.assertRaisesRegex(ValueError, "--nodes"):
            steps_of(SCENARIOS["rate"], None, [2])

    def test_the_aim_of_replicas_is_for_all_cpus_within_ten_milliseconds(self):
        knees = [step for step in steps_of(SCENARIOS["replicated"], None) if step.kind == "knee"]
        self.assertEqual({(step.operation, step.durability) for step in knees},
                         {("put", "none"), ("put", "group"), ("get", None)})
        for step in knees:
            self.assertEqual((step.replicas, step.nodes, step.limit_us), ("2/3", 3, 10_000))
            self.assertTrue(step.share_cpus)
            self.assertEqual(step.aims[0].bounds[0].fixed, 60_000)

    def test_only_who_can_be_a_node_takes_part_in_a_cluster(self):
        its = runner.Runner.__new__(runner.Runner)
        able, unable = answering("able"), contenders.Contender(
            "unable", lambda _: sys.executable, lambda _: [])
        its.options = runner.Options("b", "o", "w", "c", {"able": able, "unable": unable})
        step = Step("s", "latency", "get", ("able", "unable"), rate=1)
        self.assertEqual(its.names_of(step), ["able", "unable"])
        self.assertEqual(its.names_of(of_nodes(step, 2)), ["able"])


class Requests(unittest.TestCase):
    def test_replicas_are_asked_for(self):
        plan = Plan("get", 64, 100.0, 1, 10, 100, replicas="2/3")
        self.assertIn("--replicas 2/3", " ".join(plan.arguments()))
        self.assertNotIn("--replicas", Plan("get", 64, 100.0, 1, 10, 100).arguments())


class Places(unittest.TestCase):
    def test_no_port_is_given_twice_though_nobody_listens_on_it_yet(self):
        contenders.random.randrange, kept = (lambda low, _: low + 7), contenders.random.randrange
        try:
            ports = [contenders.free_port(), *cluster.free_ports(3), contenders.free_port()]
        finally:
            contenders.random.randrange = kept
        self.assertEqual(len(set(ports)), 5)

    def test_each_node_has_cpus_of_its_own_where_there_are_enough(self):
        self.assertEqual([cluster.cpus_of_node([0, 1, 2, 3], 2, 2, i) for i in (0, 1)],
                         [[0, 1], [2, 3]])
        self.assertEqual([cluster.cpus_of_node([0, 1], 1, 3, i) for i in range(3)], [[0, 1]] * 3)

    def test_nodes_know_each_other_and_keep_apart(self):
        its = runner.Runner.__new__(runner.Runner)
        its.options = runner.Options("b", "o", "/w", "c", {}, server_cpus=[0])
        its.directories = 0
        gyre = contenders.CONTENDERS["gyre"]
        places = its.places_of(of_nodes(Step("s", "latency", "get", ("gyre",)), 3), gyre)
        self.assertEqual(len({place.directory for place in places}), 3)
        self.assertEqual({place.peers for place in places}, {tuple(place.url for place in places)})
        commands = [gyre.command(place) for place in places]
        for place, command in zip(places, commands):
            self.assertEqual(command[command.index("--advertise") + 1], place.url)
            self.assertEqual(command[command.index("--peers") + 1], ",".join(place.peers))
            self.assertEqual(command[command.index("--listen") + 1], place.url[7:])
        alone = contenders.Place("b", "/d", 77, [0], 1, "1G", "none", "get")
        self.assertNotIn("--peers", gyre.command(alone))

    def test_the_comparator_is_a_node_too_with_workers_for_its_peers(self):
        place = contenders.Place("b", "/d", 77, [0], 1, "1G", "none", "get", True, ("u", "v"))
        command = " ".join(contenders.THREADPOOL.command(place))
        for words in ("--peers u,v", "--advertise http://127.0.0.1:77", "--internal-workers 64"):
            self.assertIn(words, command)
        self.assertTrue(contenders.THREADPOOL.clusters)
        self.assertFalse(contenders.CONTENDERS["floor"].clusters)

    def test_a_node_of_ones_own_is_started_with_all_urls(self):
        own = contenders.custom("mine=node --me {url} --all {peers}")
        place = contenders.Place("b", "/d", 77, [0], 1, "1G", "none", "get", peers=("u", "v"))
        self.assertEqual(own.command(place), ["node", "--me", "http://127.0.0.1:77", "--all", "u,v"])
        self.assertTrue(own.clusters)
        self.assertFalse(contenders.custom("mine=node {listen}").clusters)


class Clusters(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        ports = cluster.free_ports(3)
        peers = tuple(f"http://127.0.0.1:{port}" for port in ports)
        self.its = cluster.Cluster(answering(), [
            contenders.Place("b", os.path.join(self.place.name, str(port)), port,
                             sorted(os.sched_getaffinity(0)), 1, "1G", "none", "get", peers=peers)
            for port in ports])
        self.addCleanup(self.its.stop)
        self.its.wait_until_ready()

    def state(self, node):
        return machine.process_fields(machine.read(f"/proc/{node.pid}/stat"))[0]

    def wait_for(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.001)

    def test_all_nodes_are_asked_and_a_dead_one_is_missed(self):
        self.assertEqual(len(set(self.its.urls)), 3)
        self.its.check()
        os.kill(self.its.nodes[1].pid, signal.SIGKILL)
        self.its.nodes[1].process.wait()
        with self.assertRaisesRegex(contenders.LabError, "SIGKILL"):
            self.its.check()

    def test_a_node_that_the_lab_killed_is_neither_asked_nor_missed(self):
        self.its.disturb("killed")
        self.assertIsNotNone(self.its.nodes[2].process.poll())
        self.assertEqual(self.its.urls, [node.url for node in self.its.nodes[:2]])
        self.its.check()
        with self.assertRaises(contenders.LabError):
            self.its.disturb("slow")

    def test_a_slow_node_is_stopped_and_goes_on_in_turns_and_is_left_running(self):
        self.its.disturb("slow")
        node = self.its.nodes[2]
        self.assertNotIn(node.url, self.its.urls)
        for _ in range(2):
            self.wait_for(lambda: self.state(node) == "T")
            self.wait_for(lambda: self.state(node) != "T")
        self.its.slowness.end()
        self.wait_for(lambda: self.state(node) != "T")

    def test_it_ends_whole_though_a_node_is_stopped(self):
        self.its.disturb("slow")
        self.wait_for(lambda: self.state(self.its.nodes[2]) == "T")
        processes = [node.process for node in self.its.nodes]
        slowness = self.its.slowness
        self.its.stop()
        self.assertFalse(slowness.thread.is_alive())  # it would stop whoever got the pid next
        self.assertEqual([process.poll() for process in processes], [0, 0, 0])
        self.assertEqual(os.listdir(self.place.name), [])

    def test_it_starts_again_on_the_same_places(self):
        before = self.its.pids
        self.its.reopen()
        self.assertFalse(set(before) & set(self.its.pids))
        self.its.check()
        self.assertTrue(all(node.answers() for node in self.its.nodes))

    def test_cpu_time_and_memory_are_those_of_all_nodes(self):
        stats = {100: "100 (n) S 1 100 100 0 -1 0 0 0 0 0 7 3 0 0",
                 101: "101 (n) S 1 101 101 0 -1 0 0 0 0 0 5 2 0 0",
                 102: "102 (n) S 1 102 102 0 -1 0 0 0 0 0 9 9 0 0"}
        machine.all_stats, kept = (lambda: stats), machine.all_stats
        try:
            both = machine.clocks([100, 101])
        finally:
            machine.all_stats = kept
        self.assertEqual((both.user_ticks, both.kernel_ticks), (12, 5))
        each = [machine.resident_bytes([pid]) for pid in self.its.pids]
        self.assertEqual(machine.resident_bytes(self.its.pids), sum(each))

    def test_the_command_is_told_without_the_list_of_nodes(self):
        self.assertIn("--peers PEERS", self.its.described("b")["command"])

    def test_what_nodes_stored_is_weighed_when_they_have_ended(self):
        for index, node in enumerate(self.its.nodes):
            data = os.path.join(node.place.directory, "data", "shard-000")
            os.makedirs(data)
            for name, size in (("1.table", 1000 * index), ("1.values", 10), ("1.log", 5000)):
                with open(os.path.join(data, name), "wb") as file:
                    file.write(b"x" * size)
        weighed = self.its.weigh()
        self.assertEqual(weighed["table_bytes"], [10, 1010, 2010])
        self.assertTrue(all(size >= 5010 for size in weighed["disk_bytes"]))
        self.assertEqual(len(weighed["cpu_s"]), 3)
        self.assertTrue(all(node.process.poll() is not None for node in self.its.nodes))


class Verdicts(unittest.TestCase):
    def test_the_hop_is_what_forwarded_requests_cost_more(self):
        # Half of them forwarded: 8 µs of 10 locally, so 4 more each, a third of 12.
        its = verdicts.hop_of(0, 8.0, 10.0, 0.5)
        self.assertEqual((its["hop_us"], its["share"]), (4.0, 4.0 / 12.0))
        self.assertAlmostEqual(verdicts.hop_of(0, 8.0, 10.0, 2 / 3)["hop_us"], 3.0)
        self.assertLess(verdicts.hop_of(0, 8.0, 7.9, 0.5)["hop_us"], 0)

    def hop(self, mixed_us, errors=0):
        rounds = [verdicts.hop_of(pair, 10.0, mixed_us, 0.5) for pair in range(3)]
        runs = [{"contender": f"{name}, {which}", "errors": {"read": errors}, "unfinished": 0}
                for name in ("gyre", "threadpool") for which in ("local", "forwarded")]
        return verdicts.hop_lines({
            "name": "s", "runs": runs,
            "hop": {"forwarded_share": 0.5, "rounds": {"gyre": rounds, "threadpool": rounds}}})

    def test_the_hop_is_judged_of_the_first_and_told_of_others(self):
        self.assertTrue(self.hop(10.8)[0].startswith("met: s: the hop is 14%"))
        self.assertTrue(self.hop(11.0)[0].startswith("missed: s: the hop is 17%"))
        self.assertTrue(self.hop(11.0)[1].startswith("s: the hop is 17%"))
        self.assertIn("2.0 µs on top of 10.0", self.hop(11.0)[0])
        self.assertTrue(self.hop(10.8, errors=1)[0].startswith("not measured: "))

    def test_nodes_are_told_with_the_largest_over_the_mean(self):
        line, = verdicts.node_lines({"name": "s", "by_node": {"gyre": {
            "cpu_s": [1.0, 3.0], "disk_bytes": [10240, 10240], "table_bytes": [1024, 3072]}}})
        self.assertIn("2.0 KiB in tables (1.0 to 3.0, most 1.50 of the mean)", line)
        self.assertIn("10.0 KiB on the disk (10.0 to 10.0, most 1.00 of the mean)", line)
        self.assertIn("2.0 s of CPU time", line)

    def test_a_knee_may_be_judged_by_a_fixed_rate(self):
        step = Step("s", "knee", "put", ("gyre",), aims=(
            Aim("highest", (Bound(1, "60,000/s", at_least=True, fixed=60_000),)),))

        def met(*rates, ended=False):
            knee = {"highest": {"gyre": list(rates)}, "generator_ended": {"gyre": [ended]},
                    "at_highest": {"gyre": []}}
            return [row["met"] for row in verdicts.knee_ratios(step, {"knee": knee})[0]]

        self.assertEqual(met(50_000, 66_000, 70_000), [True])
        self.assertEqual(met(50_000, 59_000, 70_000), [False])
        self.assertEqual(met(50_000, ended=True), [None])  # it may hold more


if __name__ == "__main__":
    unittest.main()
