"""The control socket: lines to a running daemon with one job, over its real Unix socket.

The data set that the daemon's party.toml names is not there, so that no input starts a job or asks the partner.
"""

import asyncio
import contextlib
import functools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

from structlog.testing import capture_logs

from services.daemon.control import ControlSocket, socket_path
from services.daemon.verbs import Verbs
from services.party.logs import LogBook
from tests.fuzz.living import JOB, begin, daemon_of, party_in
from tests.fuzz.oracle import bounded_memory, check_text, temporary_folder
from tests.fuzz.values import NUMBERS, TEXTS, any_value, changed_map

MODULES: Final = ("services/daemon/control.py", "services/daemon/verbs.py")
HELD: Final = False
INPUT_BYTES_MAX: Final = 8192

VERBS: Final = ("submit", "check", "jobs", "job", "cancel", "logs", "parked", "status")
CODES: Final = {"bad_request", "bad_input", "unknown_job", "unreachable", "job_over"}
ASKED: Final = {"task": "logistic", "dataset": "loans", "partner": "shop/features"}
_ANSWER_S: Final = 20.0
_PARTY: Final = """name = "bank"
broker = "amqp://localhost/warren"
[[dataset]]
name = "loans"
source = "loans.csv"
id = "id"
label = "y"
"""


class Running:
    """A daemon and its control socket on a thread of their own; both end with the process."""

    def __init__(self) -> None:
        self._folder = temporary_folder("fuzz-control-")
        self.party = party_in(Path(self._folder.name), _PARTY)
        self.path = socket_path(self.party.data_directory)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(_ANSWER_S), "the daemon did not start"

    async def _run(self) -> None:
        daemon = daemon_of(self.party)
        control = ControlSocket(self.party.data_directory, Verbs(self.party, daemon, LogBook()).table())
        async with asyncio.TaskGroup() as group:
            await begin(group, daemon)
            group.create_task(control.run())
            while not self.path.exists():
                await asyncio.sleep(0)
            self._ready.set()

    def ask(self, data: bytes) -> bytes:
        """All answers to all lines."""
        assert self._thread.is_alive(), "the daemon is gone"
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
            line.settimeout(_ANSWER_S)
            line.connect(str(self.path))
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            found = b""
            while part := line.recv(65_536):
                found += part
        return found


@functools.cache
def running() -> Running:
    with capture_logs():
        return Running()


def seeds() -> Iterator[bytes]:
    for verb in VERBS:
        for request in ({}, {"id": JOB}, {"id": "nothing"}, {"job": ASKED}, {"limit": 3}, {"id": 7}, {"limit": "x"}):
            yield json.dumps({"verb": verb, **request}).encode() + b"\n"
    yield json.dumps({"verb": "cancel", "id": JOB, "reason": "a mistake"}).encode() + b"\n"
    for value in ({}, [], None, 2**70, "\ud800", "x" * 3000):
        yield json.dumps({"verb": "job", "id": value}).encode()
        yield json.dumps({"verb": "cancel", "id": value}).encode()
        yield json.dumps({"verb": "submit", "job": value}).encode()
        yield json.dumps({"verb": "submit", "job": {**ASKED, "partner": value}}).encode()
        yield json.dumps({"verb": "submit", "job": {**ASKED, "dataset": value}}).encode()
        yield json.dumps({"verb": "check", "job": ASKED, "where": value}).encode()
        yield json.dumps({"verb": "cancel", "id": "nothing", "reason": value}).encode()
        for key in ("name", "source", "columns", "preparation"):
            given = {"name": "frame", "source": "rows.csv", "id": "id", key: value}
            yield json.dumps({"verb": "submit", "job": {**ASKED, "dataset": "frame"}, "table": given}).encode()
        yield json.dumps({"verb": "submit", "job": ASKED, "table": value}).encode()
    yield b'{"verb": "jobs"}\n{"verb": "status"}\n'
    yield from (b"", b"\n", b"[" * 4000, b'{"verb": ' + b"[" * 4000, b"\xff\n", b'{"verb": {}}', b'{"limit": NaN}')


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    if chance.randrange(4) == 0:
        return plain(data, size_max)
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    request: Any = None
    with suppress(ValueError, RecursionError):
        request = json.loads(lines[place])
    if not isinstance(request, dict):
        request = {"verb": chance.choice(VERBS)}
    pick = chance.randrange(6)
    if pick == 0:
        request["verb"] = chance.choice(VERBS)
    elif pick == 1 and isinstance(request.get("job"), dict):
        request["job"] = changed_map(request["job"], chance)
    elif pick == 2:
        request[chance.choice(("id", "limit", "reason", "where", "job"))] = chance.choice((*NUMBERS, *TEXTS, JOB))
    elif pick == 3:
        request[chance.choice(("id", "limit", "reason", "where", "job"))] = any_value(chance)
    else:
        request = changed_map(request, chance)
    with suppress(ValueError, TypeError, RecursionError):
        lines[place] = json.dumps(request).encode()
        return b"\n".join(lines)
    return plain(data, size_max)


def fuzz_one(data: bytes) -> None:
    place = running()
    with bounded_memory(), capture_logs() as told:
        answers = place.ask(data).split(b"\n")
    assert answers.pop() == b""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert len(answers) == len(lines), f"{len(lines)} lines, {len(answers)} answers"
    assert not [line for line in told if line["log_level"] in {"error", "critical"}], told
    for line, answer in zip(lines, answers, strict=True):
        _check(line, json.loads(answer))


def _check(line: bytes, answer: dict[str, Any]) -> None:
    if "ok" in answer:
        request = json.loads(line)
        assert request["verb"] in VERBS
        return
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message"}
    assert answer["error"]["code"] in CODES, answer
    # What an operator asks for comes back in the answer, printable and short.
    check_text(answer["error"]["message"], modules=(), names=(answer["error"]["message"],), chars_max=4000)
