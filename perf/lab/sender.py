"""The bare chunked sender: what the bytes of a range cost, whoever makes them.

`sender.py PORT`: answers every request with the same 10,000 chunks of 170 bytes, as a range of
records would be framed. A thread per connection, blocking; the answer is one piece of memory, so
nearly all of the time is the kernel's. How many records were asked for is not looked at.
"""

import socket
import sys
import threading

RECORDS = 10_000
RECORD_BYTES = 170
RECV_BYTES = 65536
SEND_BYTES = 1 << 20  # per call, so that the kernel copies while the client reads


def answer() -> memoryview:
    record = b"%x\r\n%s\r\n" % (RECORD_BYTES, b"r" * RECORD_BYTES)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return memoryview(head + record * RECORDS + b"0\r\n\r\n")


def serve(connection: socket.socket, whole: memoryview) -> None:
    seen = b""
    try:
        with connection:
            while data := connection.recv(RECV_BYTES):
                seen += data
                for _ in range(seen.count(b"\r\n\r\n")):
                    for start in range(0, len(whole), SEND_BYTES):
                        connection.sendall(whole[start : start + SEND_BYTES])
                seen = b"" if seen.endswith(b"\r\n\r\n") else seen[-3:]
    except OSError:
        pass  # the client is gone


def main() -> None:
    whole = answer()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, whole), daemon=True).start()


if __name__ == "__main__":
    main()
