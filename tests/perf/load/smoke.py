"""The binary, seen from outside: every workload for a moment against the bare responder and a node,
answers that are wrong, servers that die, hang or talk nonsense, and what scripts rely on.

  smoke.py GYRE_LOAD FLOOR GYRE SCHEMA [unittest arguments]
"""

import fcntl
import json
import os
import pty
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
from urllib.parse import parse_qs, urlsplit

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))

from json_schema import violations  # noqa: E402

LOAD, FLOOR, GYRE, SCHEMA = sys.argv[1:5]
PATIENCE_S = 120  # of anything that should end by itself; a hang, never a measure of speed


def free_port():
    # Below the range of outgoing connections, so that no client gets it meanwhile.
    for port in range(random.randrange(20000, 31000), 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def wait_for_port(port, process):
    for _ in range(PATIENCE_S * 20):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        time.sleep(0.05)
    raise RuntimeError("the server does not listen")


class Server:
    """A child process that serves; `with` kills it."""

    def __init__(self, command, port, directory=None):
        self.command, self.port, self.directory = command, port, directory
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_port(self.port, self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        if self.directory:
            shutil.rmtree(self.directory)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


def floor():
    port = free_port()
    return Server([FLOOR, "--listen", f"127.0.0.1:{port}"], port)


def node(*flags):
    port, directory = free_port(), tempfile.mkdtemp()
    return Server(
        [GYRE, "serve", "--listen", f"127.0.0.1:{port}", "--data", directory, "--cores", "1", *flags],
        port,
        directory,
    )


class Scripted:
    """A small key-value server; `answer(server, method, key, body)` may lie: it returns the whole
    answer in bytes, or None to say nothing."""

    def __init__(self, answer, hangs_up=False, bytewise=False):
        self.answer, self.values, self.lock = answer, {}, threading.Lock()
        self.asked = set()  # method, replicas
        self.hangs_up, self.bytewise = hangs_up, bytewise
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        reader = connection.makefile("rb")
        try:
            while line := reader.readline():
                method, target, _ = line.decode().split()
                size = 0
                while (field := reader.readline()) not in (b"\r\n", b""):
                    if field.lower().startswith(b"content-length:"):
                        size = int(field.split(b":")[1])
                body = reader.read(size)
                query = parse_qs(urlsplit(target).query)
                key = query.get("id", query.get("start", [""]))[0]
                with self.lock:
                    self.asked.add((method, *query.get("replicas", [])))
                    answer = self.answer(self, method, key, body)
                for begin in range(0, len(answer or b""), step := 1 if self.bytewise else 1 << 30):
                    connection.sendall(answer[begin:begin + step])
                if self.hangs_up:
                    break
        except OSError:
            pass
        if self.hangs_up:
            reader.close()
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for connection in self.sockets:
            connection.close()


def drain_terminal(descriptor):
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:  # the end of a terminal
        pass
    os.close(descriptor)


def response(status, body=b""):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def honest(server, method, key, body):
    if method == "PUT":
        server.values[key] = body
        return response(201)
    if method == "DELETE":
        server.values.pop(key, None)
        return response(202)
    return response(200, server.values[key]) if key in server.values else response(404)


def run(*arguments):
    return subprocess.run([LOAD, *arguments], capture_output=True, text=True, timeout=PATIENCE_S)


def report_of(*arguments):
    """Runs with --json -; the report, with exit code and standard error beside it."""
    done = run("--json", "-", *arguments)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    return report, done


class LoadTest(unittest.TestCase):
    """What the others have in common."""

    def check_sums(self, report, planned=None):
        """Nothing is lost between the schedule and the report."""
        result = report["result"]
        errors, unfinished = result["errors"], result["unfinished"]
        lost = errors["read"] + errors["write"] + errors["timeout"] + errors["malformed"]
        self.assertEqual(result["sent"], result["answered"] + lost + unfinished["sent"])
        failed = result["latency_us"]["failed"]["n"]
        self.assertEqual(result["answered"], result["latency_us"]["intended"]["n"] + failed)
        self.assertEqual(failed, errors["status"] - errors["not_found"])
        self.assertEqual(result["answered"], sum(result["statuses"].values()))
        self.assertEqual(errors["status"], sum(number for status, number
                                               in result["statuses"].items() if status > "399"))
        self.assertEqual(result["answered"], sum(s["answers"] for s in result["series"]))
        if planned is not None:
            self.assertEqual(planned, result["sent"] + unfinished["queued"])

    def check_good(self, report, done, planned=None):
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check_sums(report, planned)
        errors = dict(report["result"]["errors"])
        errors["status"] -= errors.pop("not_found")
        self.assertEqual(set(errors.values()), {0}, errors)
        self.assertEqual(report["result"]["unfinished"]["n"], 0)
        self.assertFalse(report["verdict"]["interrupted"])


class Workloads(LoadTest):
    """Every workload, model and output."""

    def test_every_workload_against_a_node_is_verified(self):
        common = ["-R", "2000", "-d", "1s", "--warmup", "200ms", "-c", "8", "--keys", "500",
                  "--drain", "60s", "--verify"]
        with node() as server:
            for workload in (
                ["--mix", "get", "--fill", "500"],
                ["--mix", "put", "--key-order", "sequential", "--value", "16..2000"],
                ["--mix", "range", "--range-records", "20"],
                ["--mix", "get=1,put=1", "--key-order", "zipfian", "--arrival", "poisson"],
                ["--mix", "get=1,put=1", "--key-order", "latest", "--arrival", "burst:20"],
                ["--mix", "get=1,put=1", "--key-order", "latest", "-t2"],
                ["--mix", "get=2,put=1,delete=1,range=1", "--value", "exp:200"],
                ["--mix", "delete", "--key-order", "uniform"],
            ):
                with self.subTest(workload):
                    report, done = report_of(*common, *workload, server.url)
                    planned = None if "poisson" in workload else 2000
                    self.check_good(report, done, planned)

    def test_the_redis_protocol_is_verified_too(self):
        common = ["-R", "2000", "-d", "1s", "--warmup", "200ms", "-c", "8", "--keys", "500",
                  "--drain", "60s", "--verify"]
        resp = free_port()
        with node("--resp", f"127.0.0.1:{resp}"):
            for workload in (
                ["--mix", "get", "--fill", "500"],
                ["--mix", "put", "--key-order", "sequential", "--value", "16..2000"],
                ["--mix", "get=1,put=1", "--value", "30000..100000", "-R", "200"],
                ["--mix", "get=2,put=1,delete=1", "--value", "exp:200"],
            ):
                with self.subTest(workload):
                    report, done = report_of(*common, *workload, f"redis://127.0.0.1:{resp}")
                    planned = 200 if "200" in workload else 2000
                    self.check_good(report, done, planned)
        done = run("-R", "10", "-d1s", "--mix", "get=1,range=1", f"redis://127.0.0.1:{resp}")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no ranges", done.stderr)

    def test_pipelines_are_verified_too(self):
        common = ["-d", "500ms", "--warmup", "100ms", "-c", "4", "--keys", "500", "--pipeline",
                  "16", "--drain", "60s", "--verify", "--fill", "500"]
        resp = free_port()
        with node("--resp", f"127.0.0.1:{resp}") as server:
            for url in (server.url, f"redis://127.0.0.1:{resp}"):
                for workload in (
                    ["-R", "2000", "--mix", "get=2,put=1,delete=1", "--value", "exp:200"],
                    ["-R", "4000", "--mix", "get=1,put=1", "--arrival", "burst:100"],
                    ["--closed", "--mix", "get=2,put=1"],
                    ["--closed", "--mix", "get=1,put=1", "--value", "10000..40000", "-t2"],
                ):
                    with self.subTest(url=url, workload=workload):
                        report, done = report_of(*common, *workload, url)
                        self.check_good(report, done)
                        self.assertEqual(report["plan"]["pipeline"], 16)

    def test_a_pipeline_answered_out_of_order_is_found(self):
        held = []

        def swapping(server, method, key, body):
            if method != "GET":
                return honest(server, method, key, body)
            held.append(honest(server, method, key, body))
            return held.pop() + held.pop() if len(held) == 2 else b""

        with Scripted(swapping) as server:
            _, done = report_of("--closed", "-d500ms", "-c1", "--keys", "50", "--key-order",
                                "sequential", "--fill", "50", "--verify", "--pipeline", "2",
                                server.url)
            self.assertEqual(done.returncode, 3, done.stderr)

    def test_a_connection_that_ends_loses_what_it_has_under_way(self):
        with Scripted(honest, hangs_up=True) as server:
            report, _ = report_of("-R", "400", "-d1s", "-c2", "--mix", "put", "--pipeline", "8",
                                  "--arrival", "burst:16", "--keep-going", server.url)
            self.check_sums(report)
            lost = report["result"]["errors"]["read"] + report["result"]["errors"]["write"]
            self.assertGreater(lost, report["result"]["answered"])

    def test_replicas_are_asked_of_every_target_with_every_request(self):
        with Scripted(honest) as one, Scripted(honest) as other:
            done = run("-R", "300", "-d1s", "-c2", "--keys", "10", "--mix", "get,put,delete",
                       "--replicas", "2/3", "--fill", "10", one.url, other.url)
            self.assertEqual(done.returncode, 0, done.stderr)
            for server in (one, other):
                self.assertEqual(server.asked,
                                 {(method, "2/3") for method in ("GET", "PUT", "DELETE")})

    def test_another_services_path_and_status(self):
        asked = set()

        def service(server, method, key, body):
            asked.add(key)
            return response(400)

        with Scripted(service) as server:
            report, done = report_of("-R", "300", "-d1s", "-c2", "--keys", "10", "--get",
                                     "/lookup?start=", "--expect", "400", server.url)
            self.assertEqual(asked, {f"key{number:010}" for number in range(10)})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(report["result"]["errors"]["status"], 0)
            self.assertEqual(report["result"]["statuses"]["400"], report["result"]["ok"])
            done = run("-R", "300", "-d1s", "-c2", "--keys", "10", server.url)
            self.assertNotEqual(done.returncode, 0)

    def test_fill_alone_reports_its_keys(self):
        with node() as server:
            done = run("-d0", "--fill", "3000", server.url)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("3000 keys filled", done.stderr)
            report, done = report_of("-R500", "-d1s", "--keys", "3000", "--drain", "60s",
                                     server.url)
            self.assertEqual(report["result"]["errors"]["not_found"], 0)

    def test_large_values_arrive_whole(self):
        with node() as server:
            report, done = report_of(
                "--closed", "-d1s", "-c4", "--fill", "20", "--keys", "20", "--value",
                "10000..300000", "--mix", "get=1,put=1", "--verify", "--drain", "60s", server.url)
            self.check_good(report, done)

    def test_models_threads_and_targets_against_the_bare_responder(self):
        with floor() as one, floor() as two:
            for flags, planned in (
                (["-R", "1000"], 1000),
                (["-R", "0..2000"], 1000),
                (["-R", "1000", "-t2"], 1000),
                (["--closed", "-t2"], None),
                (["-R", "1000", "--arrival", "poisson", "-t2"], None),
            ):
                with self.subTest(flags):
                    report, done = report_of(*flags, "-d1s", "-c8", "--warmup", "100ms", "--drain",
                                             "60s", one.url + "/v0/status", two.url + "/v0/status")
                    self.check_good(report, done, planned)

    def test_the_json_keeps_to_its_schema(self):
        with open(SCHEMA, encoding="utf-8") as file:
            schema = json.load(file)
        with floor() as server:
            report, _ = report_of("-R500", "-d1s", "--mix", "get=1,put=1", "--slo-p99=1h",
                                  "--slo-errors=100", server.url)
        self.assertEqual(list(violations(report, schema, schema)), [])
        # The check can fail.
        report["result"]["sent"] = "many"
        del report["plan"]["rate"]
        report["surprise"] = 1
        report["plan"]["model"] = "half"
        self.assertEqual(len(list(violations(report, schema, schema))), 4)

    def test_text_and_files(self):
        with floor() as server, tempfile.TemporaryDirectory() as directory:
            files = {name: os.path.join(directory, name) for name in ("json", "hdr", "series")}
            done = run("-R", "1000", "-d2s", "--warmup", "0s", "-c4", "-U", "--drain", "60s",
                       *(f"--{name}={path}" for name, path in files.items()), server.url + "/x")
            self.assertEqual(done.returncode, 0, done.stderr)
            for pattern in (
                r"^Running 2s test @ http://127.0.0.1:\d+/x\n  1 threads and 4 connections\n"
                r"  Thread Stats   Avg      Stdev     Max   \+/- Stdev\n    Latency ",
                r"\n  Latency Distribution \(HdrHistogram - Recorded Latency\)\n 50\.000% ",
                r"\n#\[Buckets =           27, SubBuckets     =         2048\]\n"
                r"-{58}\n\n  Latency ",
                r"\n  2000 requests in 2\.\d\ds, [\d.]+.?B read\n"
                r"Requests/sec: +[\d.]+\nTransfer/sec: ",
                r"\n  send lag ", r"\n  hiccups ",
            ):
                self.assertRegex(done.stdout, pattern)
            with open(files["hdr"], encoding="utf-8") as file:
                self.assertRegex(file.read(), r"^       Value   Percentile .*\n\n( +[\d.]+){4}\n")
            with open(files["series"], encoding="utf-8") as file:
                seconds = [json.loads(line) for line in file]
            self.assertEqual(sum(second["answers"] for second in seconds), 2000)
            with open(files["json"], encoding="utf-8") as file:
                self.check_sums(json.load(file), 2000)

    def test_a_terminal_sees_how_far_it_is(self):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        with floor() as server:
            process = subprocess.Popen(
                [LOAD, "-R200", "-d2s", "--warmup", "500ms", server.url + "/x"],
                stdout=subprocess.DEVNULL, stderr=theirs)
            process.wait(timeout=PATIENCE_S)
            os.close(theirs)
            seen = b""
            try:
                while piece := os.read(ours, 4096):
                    seen += piece
            except OSError:  # the end of a terminal
                pass
            os.close(ours)
        self.assertRegex(seen.decode(),
                         r"of 2 s  \d+/s  p50 .* in flight \d+  queued \d+  errors 0")


class Endings(LoadTest):
    """Exit codes, mistakes, interrupts."""

    def test_objectives_decide_the_exit_code(self):
        with floor() as server:
            met = run("-R200", "-d1s", "--slo-max=1h", "--slo-errors=0", server.url + "/x")
            self.assertEqual(met.returncode, 0, met.stdout)
            missed = run("-R200", "-d1s", "--slo-p50=1ns", server.url + "/x")
            self.assertEqual(missed.returncode, 3)
            self.assertIn("MISSED", missed.stdout)
            short = run("-R200", "-d1s", "--slo-p99.9=1h", server.url + "/x")
            self.assertEqual(short.returncode, 3)
            self.assertIn("NOT SUPPORTED", short.stdout)

    def test_bad_flags(self):
        for arguments, expected in (
            (["--frobnicate"], "not known"),
            (["-R", "10"], "which server"),
            (["http://127.0.0.1:1"], "--rate"),
            (["-R", "10", "nonsense"], "not a URL"),
            (["-R", "10", "--json="], "name of a file"),
            (["-R", "10", "-H", "no header"], "Name: value"),
            (["-R", "10", "-H", "Content-Length: 5"], "how long the request is"),
        ):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn(expected, done.stderr)
            self.assertEqual(done.stdout, "")
        self.assertEqual(run("--help").returncode, 0)

    def test_an_unreachable_server_is_named(self):
        done = run("-R10", "-d1s", f"http://127.0.0.1:{free_port()}")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"no connection to http://127.0.0.1:\d+ .*efused.*running")
        done = run("-R10", "-d1s", "http://no-such-host.invalid")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no-such-host.invalid", done.stderr)

    def test_a_file_that_cannot_be_written_is_an_error_before_the_run(self):
        for flag in ("--json", "--hdr", "--series"):
            done = run("-R10", "-d10m", flag, "/no/such/place", "http://127.0.0.1:1")
            self.assertEqual(done.returncode, 1)
            self.assertIn("/no/such/place", done.stderr)
            self.assertNotIn("connection", done.stderr)

    def test_a_report_that_nobody_can_read_is_an_error(self):
        with floor() as server, open("/dev/full", "w", encoding="utf-8") as full:
            for flags in ([], ["--json", "-"]):
                done = subprocess.run([LOAD, "-R10", "-d100ms", *flags, server.url + "/x"],
                                      stdout=full, stderr=subprocess.PIPE, text=True,
                                      timeout=PATIENCE_S)
                self.assertEqual(done.returncode, 1)
                self.assertIn("standard output", done.stderr)
            # A reader that has seen enough is none.
            ours, theirs = os.pipe()
            os.close(ours)
            done = subprocess.run([LOAD, "-R10", "-d100ms", server.url + "/x"], stdout=theirs,
                                  stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
            os.close(theirs)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def interrupted(self, number):
        asked = threading.Event()

        def answer(*_):
            asked.set()
            return response(200)

        with Scripted(answer) as server, tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "json")
            process = subprocess.Popen(
                [LOAD, "-R", "100", "-d", "10m", "--warmup", "0s", "--json", path,
                 server.url + "/x"], stdout=subprocess.PIPE, text=True)
            self.assertTrue(asked.wait(PATIENCE_S))
            process.send_signal(number)
            text, _ = process.communicate(timeout=PATIENCE_S)
            with open(path, encoding="utf-8") as file:
                return process.returncode, text, json.load(file)

    def test_interrupts_end_with_a_report(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            returned, text, report = self.interrupted(number)
            self.assertEqual(returned, code)
            self.assertIn("INTERRUPTED", text)
            self.assertTrue(report["verdict"]["interrupted"])
            self.assertLess(report["result"]["elapsed_s"], PATIENCE_S)
            self.check_sums(report)


class Troubles(LoadTest):
    """Servers that misbehave."""

    def test_a_server_that_dies_ends_the_run(self):
        with floor() as server:
            threading.Timer(1, server.kill).start()
            report, done = report_of("-R", "1000", "-d10m", "--warmup", "0s", server.url + "/x")
            self.assertEqual(done.returncode, 1)
            self.assertIn("the server went away", done.stderr)
            self.assertIn("--keep-going", done.stderr)
            self.assertTrue(report["verdict"]["interrupted"])
            self.assertGreater(report["result"]["errors"]["connect"], 0)
            self.assertGreater(report["result"]["unfinished"]["queued"], 0)
            self.check_sums(report)

    def test_keep_going_survives_a_restart(self):
        with floor() as server:
            def restart():
                server.kill()
                time.sleep(1.5)
                server.start()
            threading.Timer(0.5, restart).start()
            report, done = report_of("-R", "200", "-d4s", "--warmup", "0s", "--keep-going",
                                     "--drain", "60s", server.url + "/x")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(report["result"]["reconnects"], 0)
            self.check_sums(report, 800)
            # What was due while nobody was there waited, and that is its latency.
            self.assertGreater(report["result"]["latency_us"]["intended"]["max"], 1e6)

    def test_a_generator_that_stood_still_says_so(self):
        """Whoever reads the report must see that the delay was not the server's."""
        with floor() as server, tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "json")
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
            process = subprocess.Popen(
                [LOAD, "-R1000", "-d3s", "--warmup", "0s", "--drain", "60s", "--json", path,
                 server.url + "/x"], stdout=subprocess.DEVNULL, stderr=theirs)
            os.close(theirs)
            while b" of 3 s" not in os.read(ours, 4096):  # its progress line: it is under way
                pass
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            process.send_signal(signal.SIGCONT)
            threading.Thread(target=drain_terminal, args=(ours,), daemon=True).start()
            self.assertEqual(process.wait(timeout=PATIENCE_S), 0)
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
            self.check_sums(report, 3000)
            self.assertTrue(report["verdict"]["generator_limited"])
            self.assertIn("p99", report["verdict"]["generator_limited_at"])
            self.assertGreater(report["result"]["latency_us"]["send_lag"]["max"], 190e3)

    def test_a_silent_server_leaves_unfinished_requests_with_their_ages(self):
        with Scripted(lambda *_: None) as server:
            report, done = report_of("-R100", "-d1s", "-c4", "--warmup", "0s", "--drain", "200ms",
                                     "--slo-p50=100ms", server.url)
            self.assertEqual(done.returncode, 3)
            unfinished = report["result"]["unfinished"]
            self.assertEqual(unfinished["sent"], 4)
            self.assertEqual(unfinished["queued"], 96)
            self.assertGreater(unfinished["oldest_us"], 1e6)
            self.check_sums(report, 100)
            report, _ = report_of("-R100", "-d1s", "-c4", "--warmup", "0s", "--drain", "200ms",
                                  "--timeout", "300ms", server.url)
            self.assertGreater(report["result"]["errors"]["timeout"], 0)
            self.check_sums(report, 100)

    def test_a_slow_answer_delays_all_that_were_due_meanwhile(self):
        def slow_once(server, method, key, body):
            if not server.values:
                server.values["slept"] = b""
                time.sleep(1)
            return response(200)

        before = time.monotonic()
        with Scripted(slow_once) as server:
            report, _ = report_of("-R100", "-d2s", "-c1", "--warmup", "0s", "--drain", "60s",
                                  server.url + "/x")
            latency = report["result"]["latency_us"]
            # One request took a second; a hundred others should have started meanwhile.
            self.assertGreater(latency["intended"]["p75"] or latency["intended"]["mean"], 1e5)
            self.assertLess(latency["service"]["mean"], latency["intended"]["mean"] / 2)
            self.check_sums(report, 200)
            # Of the series that second tells it, though the requests behind it were late too.
            longest = [second["service_max"] for second in report["result"]["series"]]
            self.assertAlmostEqual(max(longest), latency["service"]["max"], delta=max(longest) / 500)
            self.assertEqual(sum(one > 9e5 for one in longest), 1)
            began_s = report["result"]["measured_from_us"] / 1e6
            self.assertTrue(before < began_s < time.monotonic() - 2, began_s)

    def test_nonsense_is_counted_as_malformed(self):
        with Scripted(lambda *_: b"220 mail.example ESMTP\r\n") as server:
            report, _ = report_of("-R50", "-d1s", "-c2", "--warmup", "0s", server.url)
            self.assertGreater(report["result"]["errors"]["malformed"], 0)
            self.check_sums(report)
            done = run("-R50", "-d1s", "-c2", "--warmup", "0s", server.url)
            self.assertEqual(done.returncode, 1)
            self.assertIn("NOT A SINGLE REQUEST WAS ANSWERED", done.stdout)

    def test_a_server_that_hangs_up_at_once_is_not_stormed(self):
        accepted = []
        listener = socket.create_server(("127.0.0.1", 0))

        def hang_up():
            try:
                while True:
                    accepted.append(listener.accept()[0].close())
            except OSError:
                pass

        threading.Thread(target=hang_up, daemon=True).start()
        url = "http://127.0.0.1:%d" % listener.getsockname()[1]
        report, done = report_of("-R100", "-d2s", "-c8", "--warmup", "0s", url)
        listener.close()
        self.assertEqual(done.returncode, 1)
        self.assertGreater(report["result"]["reconnects"], 0)
        # Without a pause it would be some thousands.
        self.assertLess(len(accepted), 1000)
        self.check_sums(report)

    def test_answers_of_every_framing_are_read(self):
        def framed(server, method, key, body):
            server.values["n"] = server.values.get("n", 0) + 1
            return (
                response(200, b"ok"),
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
                b"HTTP/1.1 204 No\r\n\r\n",
                b"HTTP/1.1 102 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            )[server.values["n"] % 4]

        with Scripted(framed) as server:
            report, done = report_of("-R200", "-d1s", "-c4", "--drain", "60s", server.url + "/x")
            self.check_good(report, done, 200)

    def test_connections_that_end_with_each_answer_are_made_again(self):
        for answer in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",  # its end is the answer's
        ):
            with self.subTest(answer), Scripted(lambda *_: answer, hangs_up=True) as server:
                report, done = report_of("-R100", "-d1s", "-c4", "--drain", "60s",
                                         server.url + "/x")
                self.check_good(report, done, 100)
                self.assertGreaterEqual(report["result"]["reconnects"], 100)

    def test_answers_that_come_byte_by_byte_are_read(self):
        with Scripted(honest, bytewise=True) as server:
            report, done = report_of("-R50", "-d1s", "-c4", "--keys", "10", "--mix", "get=1,put=1",
                                     "--verify", "--drain", "60s", server.url)
            self.check_good(report, done, 50)

    def test_a_schedule_far_beyond_the_server_costs_no_memory(self):
        with floor() as server:
            report, done = report_of("-R", "10m", "-d2s", "--warmup", "0s", server.url + "/x")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.check_sums(report, 20_000_000)
            self.assertGreater(report["result"]["unfinished"]["oldest_us"], 1e6)
            # Twice the same schedule, whatever became of it.
            planned = []
            for flags in (["-c1"], ["-c64"]):
                report, done = report_of("-R1m", "-d1s", "--warmup", "0s", "-t1", "--arrival",
                                         "poisson", "--drain", "0s", *flags, server.url + "/x")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.check_sums(report)
                planned.append(report["result"]["sent"] + report["result"]["unfinished"]["queued"])
            self.assertEqual(planned[0], planned[1])
            self.assertAlmostEqual(planned[0], 1e6, delta=5000)
            report, _ = report_of("-R0..2m", "-d1s", "--warmup", "0s", "-t2", "--drain", "0s",
                                  server.url + "/x")
            self.check_sums(report, 1_000_000)
        # A node that answers slowly: nothing wrong comes of requests that are drawn late.
        with node() as server:
            report, done = report_of("-R300k", "-d1s", "--warmup", "0s", "-c8", "-t2", "--mix",
                                     "get=1,put=1", "--key-order", "latest", "--verify", "--keys",
                                     "1000", "--arrival", "burst:7", server.url)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.check_sums(report)
            self.assertEqual(report["result"]["errors"]["wrong"], 0)

    def test_answers_and_refusals_have_latencies_of_their_own(self):
        def refuses_fast(server, method, key, body):
            if method == "PUT":
                return response(503)
            if key.endswith("0"):
                return response(404)  # an answer to a GET
            time.sleep(0.02)
            return response(200)

        with Scripted(refuses_fast) as server:
            report, done = report_of("-R20", "-d3s", "--warmup", "0s", "-c2", "--mix",
                                     "get=1,put=3", "--drain", "60s", server.url)
            self.check_sums(report, 60)
            result = report["result"]
            self.assertEqual(result["latency_us"]["failed"]["n"], result["statuses"]["503"])
            self.assertGreater(result["latency_us"]["intended"]["max"], 20e3)
            self.assertEqual(result["latency_us"]["by_operation"]["put"]["n"], 0)
            for second in result["series"]:
                self.assertTrue(second["max"] == 0 or second["answers"] > second["errors"], second)
            self.assertEqual(sum(second["errors"] for second in result["series"]),
                             result["statuses"]["503"])

    def test_errors_of_the_server_are_counted(self):
        with Scripted(lambda *_: response(503)) as server:
            report, done = report_of("-R50", "-d1s", "--warmup", "0s", "--slo-errors=1", server.url)
            self.assertEqual(done.returncode, 3)
            self.assertEqual(report["result"]["errors"]["status"], report["result"]["answered"])
            self.assertEqual(report["result"]["errors"]["unavailable"],
                             report["result"]["answered"])
            self.assertEqual(report["result"]["statuses"], {"503": report["result"]["answered"]})
            self.check_sums(report)
            done = run("-d0", "--fill", "10", Scripted(lambda *_: response(405)).url)
            self.assertEqual(done.returncode, 1)
            self.assertIn("405", done.stderr)


class WrongAnswers(LoadTest):
    """Answers that --verify must find, and some that it must not."""

    def wrong_with(self, answer, *arguments):
        with Scripted(answer) as server:
            report, done = report_of("-R", "300", "-d1s", "-c2", "--keys", "10", "--verify",
                                     "--drain", "60s", *arguments, server.url)
            return report, done

    def test_an_honest_scripted_server_is_never_wrong(self):
        for flags in ([], ["-t2"], ["-t2", "--key-order", "latest"]):
            with self.subTest(flags):
                report, done = self.wrong_with(honest, "--mix", "get=2,put=1,delete=1", "--fill",
                                               "10", *flags)
                self.check_good(report, done)
                self.assertGreater(report["result"]["verified"], 0)

    def test_planted_wrong_answers_are_found(self):
        def damaged(server, method, key, body):
            answer = honest(server, method, key, body)
            return answer[:-1] + b"!" if method == "GET" and key.endswith("7") else answer

        def mixed_up(server, method, key, body):
            return honest(server, method, "key0000000003" if method == "GET" else key, body)

        def forgets(server, method, key, body):
            if method == "PUT" and key in server.values:
                return response(201)  # acknowledged, not stored
            return honest(server, method, key, body)

        def loses(server, method, key, body):
            if method == "GET" and key.endswith("5"):
                return response(404)
            return honest(server, method, key, body)

        def says_nothing(server, method, key, body):
            return response(204) if method == "GET" else honest(server, method, key, body)

        def never_ends(server, method, key, body):
            if method == "GET" and key.endswith("5"):
                return response(200, b"x" * (17 << 20))
            return honest(server, method, key, body)

        def loses_new_keys(server, method, key, body):
            if method == "PUT" and key > "key0000000009":
                return response(201)
            return honest(server, method, key, body)

        # What was not acknowledged is no excuse for what was.
        def refuses_and_loses(server, method, key, body):
            server.values["n"] = server.values.get("n", 0) + 1
            if method == "PUT" and server.values["n"] % 2:
                return response(503)
            return response(201 if method == "PUT" else 404)

        def fails_once_and_forgets(server, method, key, body):
            known = server.values.setdefault("known", {})
            known[key] = known.get(key, 0) + (method == "PUT")
            if method == "PUT" and known[key] == 2:
                return response(500)
            return forgets(server, method, key, body)

        for answer, expected, *flags in (
            (refuses_and_loses, "not found"),
            (fails_once_and_forgets, "an old value"),
            (damaged, "fails its check"),
            (mixed_up, "fails its check"),
            (forgets, "an old value"),
            (forgets, "an old value", "-t2"),  # written by one thread, read by another
            (loses, "not found"),
            (says_nothing, "answered 204"),
            (never_ends, "more bytes than any value"),
            (loses_new_keys, "not found", "--key-order", "latest", "-t2"),
        ):
            with self.subTest(answer.__name__, flags=flags):
                report, done = self.wrong_with(answer, "--mix", "get=1,put=1", "--fill", "10",
                                               *flags)
                self.assertEqual(done.returncode, 3)
                self.assertGreater(report["result"]["errors"]["wrong"], 0)
                self.assertTrue(any(expected in example
                                    for example in report["result"]["wrong_examples"]),
                                report["result"]["wrong_examples"])

    def test_a_resurrected_value_is_found(self):
        def undead(server, method, key, body):
            return response(202) if method == "DELETE" else honest(server, method, key, body)

        report, _ = self.wrong_with(undead, "--mix", "get=1,delete=1", "--fill", "10")
        self.assertGreater(report["result"]["errors"]["wrong"], 0)

    def test_keys_of_an_earlier_run_are_known(self):
        def loses(server, method, key, body):
            lost = method == "GET" and key.endswith("5")
            return response(404) if lost else honest(server, method, key, body)

        for answer, value, wrong in ((honest, "100", ()), (loses, "100", "not found, but stored"),
                                     (honest, "101", "100 bytes, as none")):
            with self.subTest(wrong), Scripted(answer) as server:
                done = run("-d0", "--fill", "10", server.url)
                self.assertEqual(done.returncode, 0, done.stderr)
                report, done = report_of(
                    "-R200", "-d1s", "-c2", "--keys", "20", "--verify", "--drain", "60s",
                    "--filled", "10", "--value", value, server.url)
                self.assertEqual(done.returncode, 3 if wrong else 0)
                self.assertTrue(all(wrong in example
                                    for example in report["result"]["wrong_examples"]))
                # Of the other ten nothing is known, so that their 404 checks nothing.
                self.assertEqual(report["result"]["verified"] < report["result"]["answered"], True)
                self.assertGreater(report["result"]["verified"], 0)

    def test_the_text_says_how_much_was_checked(self):
        with Scripted(honest) as server:
            for mix, expected in (("put", r"\n  NOTHING WAS VERIFIED"),
                                  ("get", r"\n  VERIFIED: \d+ answers checked, none WRONG")):
                done = run("-R100", "-d1s", "-c2", "--keys", "5", "--verify", "--mix", mix,
                           server.url)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, expected)

    def test_a_range_with_a_hole_is_found(self):
        def holed(server, method, key, body):
            if method == "PUT":
                return honest(server, method, key, body)
            chunks = b""
            for index in range(int(key[3:]), min(int(key[3:]) + 3, 10)):
                name = "key%010d" % index
                record = name.encode() + b"\n" + server.values[name]
                if index != 4:
                    chunks += b"%x\r\n%s\r\n" % (len(record), record)
            return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
                    + b"0\r\n\r\n")

        report, done = self.wrong_with(holed, "--mix", "range", "--range-records", "3", "--fill",
                                       "10")
        self.assertEqual(done.returncode, 3)
        self.assertTrue(all(re.search("range key000000000[234]: . records instead of", example)
                            for example in report["result"]["wrong_examples"]))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]])
