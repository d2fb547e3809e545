"""A line to the private PostgreSQL that breaks where a test says: a server that goes away as its client sees it.

It passes the messages of PostgreSQL's protocol on (version 3, "Frontend/Backend Protocol" of its manual) and breaks at
a request, before the server hears of it, or at its answer, when the server has done what it was asked.
"""

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Final

from tests import postgres

_HEADER: Final = 5
_PORT: Final = ".s.PGSQL.5432"
_REQUEST_ENDS: Final = (b"Q", b"S")
_READY: Final = b"Z"


class Break(Enum):
    """Where a line breaks: the request is not passed on, or its answer is not."""

    REQUEST = 1
    ANSWER = 2


Decide = Callable[[bytes], Break | None]
"""Told each request in full (its statement stands in it); called on the threads of lines."""


class _Gone(Exception):
    """One end has hung up."""


@contextmanager
def broken_line(database: str, decide: Decide) -> Iterator[str]:
    """The SQLAlchemy URL of a database behind such lines."""
    with tempfile.TemporaryDirectory(prefix="warren-line-") as directory:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(Path(directory) / _PORT))
        listener.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_carry, args=(client, decide), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"postgresql+psycopg://{postgres.USER}@/{database}?host={directory}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _carry(client: socket.socket, decide: Decide) -> None:
    """One client's line, until one of the two hangs up or it breaks."""
    with client, socket.socket(socket.AF_UNIX) as server, suppress(_Gone, OSError):
        server.connect(str(Path(postgres.running_server()) / _PORT))
        server.sendall(_greeting(client))
        client.sendall(_until(server, (_READY,)))
        while True:
            request = _until(client, _REQUEST_ENDS)
            decided = decide(request)
            if decided is Break.REQUEST:
                return
            server.sendall(request)
            answer = _until(server, (_READY,))
            if decided is Break.ANSWER:
                return
            client.sendall(answer)


def _greeting(client: socket.socket) -> bytes:
    """A client's first message, which has no type."""
    size = _exactly(client, 4)
    return size + _exactly(client, int.from_bytes(size, "big") - 4)


def _until(source: socket.socket, last: tuple[bytes, ...]) -> bytes:
    """Messages up to one of such a type."""
    found = bytearray()
    while True:
        header = _exactly(source, _HEADER)
        found += header + _exactly(source, int.from_bytes(header[1:], "big") - 4)
        if header[:1] in last:
            return bytes(found)


def _exactly(source: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = source.recv(size - len(found))
        if not part:
            raise _Gone
        found += part
    return bytes(found)
