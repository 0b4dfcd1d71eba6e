"""Nodes of the comparator: what they ask each other, and that none starves another.

  cluster_smoke.py GYRE_THREADPOOL GYRE_LOAD [unittest arguments]
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../perf/lab"))

from cluster import Cluster, free_ports  # noqa: E402
from contenders import Contender, Place, node_command  # noqa: E402

THREADPOOL, LOAD = sys.argv[1:3]
PATIENCE_S = 120  # a hang, never a measure of speed


def asked(url, method="GET"):
    """Status and body."""
    try:
        data = b"v" if method == "PUT" else None
        request = urllib.request.Request(url, method=method, data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Nodes(unittest.TestCase):
    def start(self, count, *words):
        """Nodes of a cluster, or one by itself."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        contender = Contender("threadpool", lambda _: THREADPOOL,
                              lambda place: [*node_command(place, THREADPOOL), *words])
        ports = free_ports(count)
        peers = tuple(f"http://127.0.0.1:{port}" for port in ports) if count > 1 else ()
        nodes = Cluster(contender, [
            Place("", os.path.join(directory.name, str(port)), port,
                  sorted(os.sched_getaffinity(0)), 1, "128M", "none", "put", peers=peers)
            for port in ports])
        self.addCleanup(nodes.stop)
        nodes.wait_until_ready()
        return nodes

    def test_what_nodes_ask_each_other_is_no_part_of_a_lone_nodes_interface(self):
        lone, = self.start(1).urls
        status, body = asked(lone + "/internal/record?key=k")
        self.assertEqual(status, 400)
        self.assertIn(b"unknown path", body)

    def test_records_and_tombstones_are_told_to_peers_whole_and_ranges_have_values_only(self):
        one, _ = self.start(2).urls
        for key in ("a", "b"):
            self.assertEqual(asked(f"{one}/v0/entity?id={key}&replicas=2/2", "PUT")[0], 201)
        self.assertEqual(asked(f"{one}/v0/entity?id=a&replicas=2/2", "DELETE")[0], 202)
        for key, value in (("a", b""), ("b", b"v")):
            status, record = asked(f"{one}/internal/record?key={key}")
            self.assertEqual((status, record[24:]), (200, value))
        self.assertEqual(asked(f"{one}/internal/record?key=c")[0], 404)
        self.assertEqual(asked(f"{one}/internal/record?hlc=1")[0], 400)
        self.assertEqual(asked(f"{one}/internal/record?key=a&hlc=x", "PUT")[0], 400)
        self.assertEqual(asked(f"{one}/internal/record?key=a", "DELETE")[0], 405)
        self.assertEqual(asked(f"{one}/v0/entities?start=a&scope=node"), (200, b"b\nv"))
        self.assertEqual(asked(f"{one}/v0/entities?start=a")[0], 501)

    def test_workers_that_all_wait_for_peers_do_not_keep_peers_from_being_answered(self):
        """One worker for clients on each node, and clients that ask both at once: were what peers ask
        behind what clients ask, each worker would wait for the other until both gave up."""
        nodes = self.start(2, "--workers", "1", "--internal-workers", "1", "--peer-timeout", "20s")
        for operation in ("put", "get"):
            done = subprocess.run(
                [LOAD, "-q", "--closed", "-c", "32", "-d", "1s", "--warmup", "0s", "--keys", "100",
                 "--mix", operation, "--replicas", "2/2", "--fill", "100", "--timeout", "60s",
                 "--drain", "60s", "--json", "-", *nodes.urls],
                capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 0, done.stderr)
            result = json.loads(done.stdout)["result"]
            self.assertEqual(sum(result["errors"].values()), 0, result["errors"])
            self.assertEqual(result["unfinished"]["n"], 0)
            self.assertGreater(result["answered"], 100)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
