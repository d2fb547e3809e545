"""A TCP line whose way up can be held: what a party sends stays on the line, what it receives still arrives.

When the party dies, what was held is lost with it, as on a line that was cut: the broker has the deliveries
unacknowledged and gives them again.
"""

import contextlib
import socket
import threading


class Uplink:
    """A line from one party to the broker's port. Threads, so that tests can stay synchronous."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """From now on nothing goes up."""
        self._flowing.clear()

    def flow(self) -> None:
        """What was held goes up, and everything after it."""
        self._flowing.set()

    def close(self) -> None:
        """Take the line away."""
        self._closed = True
        self._listener.close()
        self._flowing.set()

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
            threading.Thread(target=self._up, args=(party, broker, gone), daemon=True).start()
            threading.Thread(target=self._down, args=(broker, party, gone), daemon=True).start()

    def _up(self, party: socket.socket, broker: socket.socket, gone: threading.Event) -> None:
        party.settimeout(0.05)
        held = b""
        try:
            while not gone.is_set():
                try:
                    data = party.recv(65_536)
                except TimeoutError:
                    data = None
                if data == b"":
                    break
                held += data or b""
                if self._flowing.is_set() and held:
                    broker.sendall(held)
                    held = b""
        except OSError:
            pass
        finally:
            gone.set()
            self._shut(party, broker)

    def _down(self, broker: socket.socket, party: socket.socket, gone: threading.Event) -> None:
        try:
            while not gone.is_set() and (data := broker.recv(65_536)):
                party.sendall(data)
        except OSError:
            pass
        finally:
            gone.set()
            self._shut(party, broker)

    @staticmethod
    def _shut(*lines: socket.socket) -> None:
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
