"""The bare responder, which figures are divided by, in each of its variants: it answers keep-alive
requests, with bodies and without, each once; and values that mean nothing are refused.

  floor_test.py FLOOR [unittest arguments]
"""

import random
import socket
import subprocess
import sys
import time
import unittest

FLOOR = sys.argv[1]
PATIENCE_S = 20  # of anything that should end by itself; a hang, never a measure of speed
ROUNDS = 50
VARIANTS = (
    [],
    ["--receive", "one-shot"],
    ["--descriptors", "direct"],
    ["--receive", "one-shot", "--descriptors", "direct"],
    ["--min-wait", "50"],
    ["--min-wait", "50:2"],
    ["--spin", "50"],
    ["--cores", "2", "--spin", "50", "--descriptors", "direct"],
)
GET = b"GET /v0/entity?id=a HTTP/1.1\r\nHost: n\r\n\r\n"


def put(size: int) -> bytes:
    head = b"PUT /v0/entity?id=a HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n"
    return head % size + b"v" * size


class Client:
    """A keep-alive connection that reads answers one by one."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.reader = self.socket.makefile("rb")

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def answer(self) -> tuple[bytes, int]:
        """Its first line, and how long its body was."""
        first, size = self.reader.readline(), 0
        while (field := self.reader.readline()) not in (b"\r\n", b""):
            if field.lower().startswith(b"content-length:"):
                size = int(field.split(b":")[1])
        return first, len(self.reader.read(size))

    def silent(self) -> bool:
        """Nothing has come that was not asked for."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(1)
        except BlockingIOError:
            return True

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


class Floor:
    """The responder on a free port; `with` kills it."""

    def __init__(self, variant: list[str]):
        self.port = random.randrange(20000, 31000)
        self.process = subprocess.Popen(
            [FLOOR, "--listen", f"127.0.0.1:{self.port}", *variant], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> "Floor":
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                Client(self.port).close()
                return self
            except ConnectionRefusedError:
                time.sleep(0.02)
        self.process.kill()
        raise RuntimeError(self.process.communicate()[1])

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class Variants(unittest.TestCase):
    def good(self, client: Client) -> None:
        self.assertEqual(client.answer(), (b"HTTP/1.1 200 OK\r\n", 100))

    def check_one(self, floor: Floor) -> None:
        clients = [Client(floor.port) for _ in range(4)]
        for _ in range(ROUNDS):
            for client in clients:
                client.send(GET)
            for client in clients:
                self.good(client)
        for size in (0, 1, 100, 16 << 10, 300_000):  # the last ones take several receives
            for client in clients:
                client.send(put(size))
            for client in clients:
                self.good(client)
        first = clients[0]
        first.send(3 * GET + put(100) + GET)
        for _ in range(5):
            self.good(first)
        for piece in (GET[:10], GET[10:-2], GET[-2:] + put(50)[:-20], put(50)[-20:]):
            first.send(piece)
            time.sleep(0.01)  # so that the pieces usually come apart
        self.good(first)
        self.good(first)
        for client in clients:
            self.assertTrue(client.silent())
            client.close()
        last = Client(floor.port)  # others have gone meanwhile
        last.send(GET)
        self.good(last)
        last.close()
        self.assertIsNone(floor.process.poll())

    def test_each_answers_every_request_once(self):
        for variant in VARIANTS:
            with self.subTest(variant):
                try:
                    with Floor(variant) as floor:
                        self.check_one(floor)
                except RuntimeError as error:
                    if "takes a kernel" not in str(error):
                        raise

    def test_values_that_mean_nothing_are_refused(self):
        for flags in (
            ["--receive", "twice"], ["--descriptors", "none"], ["--spin", "long"],
            ["--spin", "-1"], ["--spin", "5us"], ["--min-wait", "x"], ["--min-wait", "50:"],
            ["--min-wait", ":8"], ["--spin"], ["--surprise", "1"],
        ):
            with self.subTest(flags):
                done = subprocess.run([FLOOR, *flags], capture_output=True, text=True,
                                      timeout=PATIENCE_S)
                self.assertEqual(done.returncode, 2)
                self.assertIn("usage: floor", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
