"""Starts a node with a RESP listener on ports of its own choice, runs a client against it, stops it.

  client_test.py GYRE CORES COMMAND…      COMMAND gets HOST and PORT, then its other arguments

Exit code: the client's, or 1 if the node didn't start or didn't stop as it should.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

READY_SECONDS = 60
CLIENT_SECONDS = 240
STOP_SECONDS = 30


def resp_port(node):
    """The port that the node has chosen, out of the line that it prints when it serves."""
    for line in node.stdout:
        ready = re.match(r"gyre serves .* resp=127\.0\.0\.1:(\d+) ", line)
        if ready:
            return ready[1]
    raise SystemExit(f"the node ended with {node.wait()} instead of serving")


def main():
    gyre, cores, client, *arguments = sys.argv[1:]
    data = tempfile.mkdtemp(prefix="gyre-client-test-")
    node = subprocess.Popen(
        [gyre, "serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"]
        + ["--data", data, "--cores", cores, "--memory", "256M"],
        stdout=subprocess.PIPE,
        text=True,
    )
    # A node that doesn't start is ended, which ends the reading of its output.
    too_late = threading.Timer(READY_SECONDS, node.kill)
    try:
        too_late.start()
        port = resp_port(node)
        too_late.cancel()
        command = [client, "127.0.0.1", port]
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
        too_late.cancel()
        if node.poll() is None:
            node.kill()
            node.wait()
        shutil.rmtree(data, ignore_errors=True)


main()
