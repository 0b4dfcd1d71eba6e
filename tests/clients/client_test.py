"""Starts a node with a RESP listener on free ports, runs a client against it, stops the node.

  client_test.py GYRE CORES COMMAND…      COMMAND gets HOST and PORT, then its other arguments

Exit code: the client's, or 1 if the node didn't start or didn't stop as it should.
"""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

READY_SECONDS = 60
CLIENT_SECONDS = 240
STOP_SECONDS = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_served(node, port):
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if node.poll() is not None:
            raise SystemExit(f"the node ended with {node.returncode} instead of serving")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(7) == b"+PONG\r\n":
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"the node didn't answer PING within {READY_SECONDS} s")


def main():
    gyre, cores, client, *arguments = sys.argv[1:]
    data = tempfile.mkdtemp(prefix="gyre-client-test-")
    http_port, resp_port = free_port(), free_port()
    node = subprocess.Popen(
        [gyre, "serve", "--listen", f"127.0.0.1:{http_port}", "--resp", f"127.0.0.1:{resp_port}"]
        + ["--data", data, "--cores", cores, "--memory", "256M"]
    )
    try:
        wait_until_served(node, resp_port)
        command = [client, "127.0.0.1", str(resp_port)]
        if client.endswith((".mjs", ".py")):
            interpreter = "node" if client.endswith(".mjs") else "/usr/bin/python3"
            command = [interpreter, *command]
        ended = subprocess.run(command + arguments, timeout=CLIENT_SECONDS, check=False)
        node.send_signal(signal.SIGTERM)
        stopped = node.wait(STOP_SECONDS)
        if stopped != 0:
            raise SystemExit(f"the node ended with {stopped}")
        sys.exit(ended.returncode)
    finally:
        if node.poll() is None:
            node.kill()
            node.wait()
        shutil.rmtree(data, ignore_errors=True)


main()
