"""The control socket: a Unix socket of mode 0600 in the data directory, for the commands of the daemon's own operator.

One JSON object a line in, one a line out: `{"verb": ..., arguments}` -> `{"ok": ...}` or
`{"error": {"code", "message"}}`. Nothing else of a daemon listens.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import select
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from services.store.journal_errors import JournalClosed, JournalUnavailable

log = structlog.get_logger("control")

SOCKET_NAME = "control.sock"
LINE_BYTES_MAX = 2**24
STOPPING = "stopping"
"""Code of an answer that a stopping daemon could not give any more."""
JOURNAL_AWAY = "journal_away"
"""Code of an answer that waits for the journal's server."""
TURN_S = 0.2
SOCKET_PATH_BYTES_MAX = 100

Verb = Callable[[dict[str, Any]], Awaitable[Any]]


class ControlError(Exception):
    """What the daemon answered instead of a result; `code` says of which kind."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlUnreachable(ControlError):
    """No daemon listens in this data directory, or the one that did has stopped."""


def socket_path(data_directory: Path) -> Path:
    """Where the control socket is; a long data directory gets a short link to it in the temporary directory."""
    path = data_directory.resolve() / SOCKET_NAME
    if len(str(path).encode()) <= SOCKET_PATH_BYTES_MAX:
        return path
    return short_link(path.parent) / SOCKET_NAME


def short_link(target: Path) -> Path:
    """A short name for a directory, the same in every process, made when it is missing.

    The temporary directory is everybody's: a link that another user put there would hand this user's jobs to
    that user's program. Raises ControlError for one that is not ours.
    """
    link = Path(tempfile.gettempdir()) / f"warren-{hashlib.sha256(bytes(target)).hexdigest()[:12]}"
    try:
        link.symlink_to(target)
    except FileExistsError:
        if not link.is_symlink() or link.lstat().st_uid != os.getuid() or link.readlink() != target:
            raise ControlError("control_link", f"{link} is not your link to {target}: remove it") from None
    return link


class ControlSocket:
    """The daemon's side: answers verbs until cancelled."""

    def __init__(self, data_directory: Path, verbs: dict[str, Verb]) -> None:
        self._path = socket_path(data_directory)
        self._verbs = verbs
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Listen until cancelled; then hang up, so that no command waits for a daemon that is gone."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(self._path))
        try:
            self._path.chmod(0o600)  # before anybody can connect: it does not listen yet
            server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_BYTES_MAX)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                # Not `serve_forever`: cancelled, it waits for connections that nobody but us would end.
                server.close()
                for writer in self._open:
                    writer.transport.abort()
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while line := await reader.readline():
                found = await self._answer(line)
                writer.write(json.dumps(found, default=_plain).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            log.debug("a control connection ended early")
        except asyncio.CancelledError:
            # The daemon ends. Python's streams would ask this task for its exception, and print a traceback.
            log.debug("a control connection was ended")
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name = request.pop("verb")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            name, request = "", {}
        return await answer(self._verbs, name, request)


async def answer(verbs: Mapping[str, Verb], name: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What a verb answers: `{"ok": ...}`, or `{"error": {"code", "message"}}`. Does not raise."""
    if not isinstance(name, str) or name not in verbs:
        return {"error": {"code": "bad_request", "message": "the control socket does not know this command"}}
    try:
        return {"ok": await verbs[name](request)}
    except ControlError as error:
        return {"error": {"code": error.code, "message": str(error)}}
    except JournalClosed:
        return {"error": {"code": STOPPING, "message": "the daemon stopped while it was asked"}}
    except JournalUnavailable as error:
        text = f"the journal cannot commit ({error}): is there room on the disk, and its server there? Try again then"
        return {"error": {"code": "journal_unavailable", "message": text}}
    except Exception as error:
        log.exception("a control command failed")
        return {"error": {"code": "internal", "message": f"{type(error).__name__}; the daemon's log says more"}}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


class ControlClient:
    """The command line's side: one connection, one request at a time."""

    def __init__(self, data_directory: Path, timeout_s: float | None = None) -> None:
        """Connect. `timeout_s`: who does not answer within it counts as gone. Raises ControlUnreachable."""
        self.data_directory = data_directory
        self._path = socket_path(data_directory)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(self._path))
        except OSError:
            self._socket.close()
            raise ControlUnreachable(
                "unreachable", f"no daemon runs on {data_directory}: start it with `warren serve party.toml`"
            ) from None
        self._file = self._socket.makefile("rwb")

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The daemon's answer. Raises ControlError with the daemon's code and text."""
        try:
            self._file.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            self._file.flush()
            self._await_answer()
            line = self._file.readline()
        except OSError:
            line = b""
        if not line:
            raise ControlUnreachable("unreachable", "the daemon went away while it was asked")
        answer = json.loads(line)
        if "error" in answer:
            if answer["error"]["code"] == STOPPING:
                raise ControlUnreachable("unreachable", answer["error"]["message"])
            raise ControlError(answer["error"]["code"], answer["error"]["message"])
        return answer["ok"]

    def _await_answer(self) -> None:
        """Wait in short turns: a signal that reaches another thread would not wake this one. Raises OSError."""
        limit = self._socket.gettimeout()
        deadline = None if limit is None else time.monotonic() + limit
        while not select.select([self._socket], [], [], TURN_S)[0]:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):  # a question that a dead daemon did not take
            self._file.close()
        self._socket.close()

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
