"""The bare chunked sender: what the bytes of a range cost, whoever makes them.

`sender.py PORT`: answers every request with the same 10,000 chunks of 170 bytes, as a range of
records would be framed. One thread, one epoll; the answer is one piece of memory, so nearly all of
the time is the kernel's. How many records were asked for is not looked at.
"""

import selectors
import socket
import sys

RECORDS = 10_000
RECORD_BYTES = 170
RECV_BYTES = 65536


def answer() -> memoryview:
    record = b"%x\r\n%s\r\n" % (RECORD_BYTES, b"r" * RECORD_BYTES)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return memoryview(head + record * RECORDS + b"0\r\n\r\n")


class Client:
    def __init__(self, connection: socket.socket, whole: memoryview):
        self.connection, self.whole = connection, whole
        self.rest = whole[:0]
        self.owed = 0
        self.seen = b""

    def receive(self) -> bool:
        """False at the end of the connection."""
        data = self.connection.recv(RECV_BYTES)
        self.seen += data
        self.owed += self.seen.count(b"\r\n\r\n")
        self.seen = self.seen[-3:] if not self.seen.endswith(b"\r\n\r\n") else b""
        return bool(data)

    def send(self) -> bool:
        """True when everything owed is sent."""
        while self.rest or self.owed:
            if not self.rest:
                self.rest = self.whole
                self.owed -= 1
            try:
                self.rest = self.rest[self.connection.send(self.rest):]
            except BlockingIOError:
                return False
        return True


def main() -> None:
    whole = answer()
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, events in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ, Client(connection, whole))
                continue
            client = key.data
            try:
                open_still = not events & selectors.EVENT_READ or client.receive()
                wanted = selectors.EVENT_READ
                if not client.send():
                    wanted |= selectors.EVENT_WRITE
            except OSError:
                open_still = False
            if not open_still:
                selector.unregister(client.connection)
                client.connection.close()
            elif wanted != key.events:
                selector.modify(client.connection, wanted, client)


if __name__ == "__main__":
    main()
