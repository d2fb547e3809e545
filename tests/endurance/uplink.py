"""A TCP line that can be held on its way up, stalled both ways, and cut.

What is held or stalled stays on the line. When the party dies, what it had sent is lost with it, as on a line that
was cut: the broker has the deliveries unacknowledged and gives them again.
"""

import contextlib
import socket
import struct
import threading

PATIENCE_S = 0.05
"""How long a direction waits for bytes, or to flow again, before it looks whether the line is still wanted."""


class Uplink:
    """A line from one party to the broker's port. Threads, so that tests can stay synchronous."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._up_flows, self._down_flows = threading.Event(), threading.Event()
        self.flow()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        self._lines: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """From now on nothing goes up."""
        self._up_flows.clear()

    def stall(self) -> None:
        """Become a black hole: connections stay and can be made, nothing passes."""
        self._up_flows.clear()
        self._down_flows.clear()

    def flow(self) -> None:
        """What was held goes on its way, and everything after it."""
        self._up_flows.set()
        self._down_flows.set()

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        lines = list(self._lines)
        for line in lines:
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                line.shutdown(socket.SHUT_RDWR)
        return len(lines) // 2

    def close(self) -> None:
        """Take the line away."""
        self._closed = True
        self._listener.close()
        self.flow()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                party, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                party.close()
                continue
            gone = threading.Event()
            for source, sink, flows in ((party, broker, self._up_flows), (broker, party, self._down_flows)):
                source.settimeout(PATIENCE_S)
                self._lines.add(source)
                threading.Thread(target=self._carry, args=(source, sink, flows, gone), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, flows: threading.Event, gone: threading.Event) -> None:
        """One direction of a connection; ends when either end is gone, even while nothing flows."""
        held = b""
        try:
            while not gone.is_set():
                try:
                    data = source.recv(65_536)
                except TimeoutError:
                    data = None
                if data == b"":
                    break
                held += data or b""
                if flows.is_set() and held:
                    self._send(sink, held, gone)
                    held = b""
        except OSError:
            pass
        finally:
            gone.set()
            self._lines.discard(source)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
            source.close()

    @staticmethod
    def _send(sink: socket.socket, data: bytes, gone: threading.Event) -> None:
        view = memoryview(data)
        while view and not gone.is_set():
            with contextlib.suppress(TimeoutError):
                view = view[sink.send(view) :]
