"""The web console: requests to a running daemon's application, as an HTTP server hands them over.

An input is a request line, header lines, an empty line and a body. The words HOST, COOKIE and KEY stand for what the
console's own page would say, so that mutated requests get past the guard and not always.
"""

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from structlog.testing import capture_logs

from services.console.access import Access
from services.console.app import ACTIONS, Console
from services.console.guard import HEADERS, cookie_name
from services.daemon.party_process import Running as Served
from services.daemon.verbs import Verbs
from services.party.listening import Address
from services.party.logs import LogBook
from tests.fuzz.identities import ME
from tests.fuzz.living import JOB, begin, daemon_of, party_in
from tests.fuzz.oracle import bounded_memory, check_text, temporary_folder

MODULES: Final = ("services/console/access.py", "services/console/app.py", "services/console/guard.py")
HELD: Final = False
INPUT_BYTES_MAX: Final = 24_576

ADDRESS: Final = Address("127.0.0.1", 8700)
STATUSES: Final = {200, 307, 400, 401, 403, 404, 405, 409, 413, 421}
CODES: Final = {
    *("bad_input", "bad_request", "job_over", "no_session", "no_such_address", "not_pending", "not_provider"),
    *("unknown_action", "unknown_job", "wrong_host", "wrong_origin"),
}
PLACES: Final = ("stream?job=", "contract/", "peers", "month?month=2026-11", "models", "system")
_ANSWER_S: Final = 20.0
_PARTY: Final = 'name = "bank"\nbroker = "amqp://localhost/warren"\nconsole = "127.0.0.1:8700"\n'


class Running:
    """A daemon with one job, and its console's application, on a thread of their own; all end with the process."""

    def __init__(self) -> None:
        self._folder = temporary_folder("fuzz-console-")
        self.party = party_in(Path(self._folder.name), _PARTY)
        access = Access(bytes(32))
        session = access.enter(access.ticket())
        self.words = {
            b"HOST": ADDRESS.shown.encode(),
            b"COOKIE": f"{cookie_name(ME, ADDRESS)}={session}".encode(),
            b"KEY": access.key_of(session).encode(),
            b"TOKEN": access.metrics_token.encode(),
        }
        self._access = access
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(_ANSWER_S), "the daemon did not start"

    async def _run(self) -> None:
        daemon = daemon_of(self.party)
        book = LogBook()
        served = Served(self.party, daemon, book, Verbs(self.party, daemon, book).table())
        async with asyncio.TaskGroup() as group:
            await begin(group, daemon)
            self._app = Console(served, self._access, ADDRESS).app()
            self._ready.set()

    def ask(self, scope: dict[str, Any], body: bytes) -> list[dict[str, Any]]:
        """Everything that is sent in answer to a request."""
        assert self._thread.is_alive(), "the daemon is gone"
        return asyncio.run_coroutine_threadsafe(self._ask(scope, body), self._loop).result(_ANSWER_S)

    async def _ask(self, scope: dict[str, Any], body: bytes) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        said = iter([{"type": "http.request", "body": body, "more_body": False}])
        answered = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if (message := next(said, None)) is not None:
                return message
            await answered.wait()  # the browser leaves once it has something
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            told.append(dict(message))
            if message["type"] == "http.response.body":
                answered.set()

        await self._app(scope, receive, send)  # type: ignore[arg-type]
        return told


@functools.cache
def running() -> Running:
    with capture_logs():
        return Running()


def _request(method: str, path: str, body: bytes = b"", *more: str, entered: bool = True) -> bytes:
    headers = ["host: HOST", *(("cookie: COOKIE", "x-warren-key: KEY") if entered else ()), *more]
    return "\n".join((f"{method} {path}", *headers, "")).encode() + b"\n" + body


def seeds() -> Iterator[bytes]:
    own = ("origin: http://HOST", "sec-fetch-site: same-origin")
    for place in (*(f"/api/{place}" for place in PLACES), "/", "/enter?ticket=x", "/static/main.js", "/metrics"):
        yield _request("GET", place)
        yield _request("GET", place, entered=False)
    yield _request("GET", f"/api/stream?job={JOB}")
    yield _request("GET", f"/api/contract/{JOB}")
    yield _request("GET", "/metrics", b"", "authorization: Bearer TOKEN")
    for month in ("", "2026", "9999-12", "%00", "2026-11&month=2026-10"):
        yield _request("GET", f"/api/month?month={month}")
    for verb in (*ACTIONS, "submit"):
        for fields in ({"id": JOB, "reason": "x"}, {"id": "nothing"}, {"id": 7}, {}, [], None):
            yield _request("POST", f"/api/do/{verb}", json.dumps(fields).encode(), *own)
    yield _request("POST", "/api/do/cancel", b"{}", "origin: http://evil.example")
    yield _request("POST", "/api/do/cancel", b"x" * 20_000, *own)
    yield from (
        b"",
        b"GET",
        b"GET /static/../app.py\nhost: HOST\n\n",
        b"OPTIONS /api/peers\nhost: HOST\n\n",
        b"GET /%ff\n",
    )


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    lines = data.split(b"\n")
    pick = chance.randrange(5)
    if pick == 0:
        return plain(data, size_max)
    place = chance.randrange(len(lines))
    if pick == 1:
        del lines[place]
    elif pick == 2:
        lines.insert(
            place, chance.choice((b"host: HOST", b"cookie: COOKIE", b"x-warren-key: KEY", b"origin: http://HOST"))
        )
    elif pick == 3:
        lines[0] = f"{chance.choice(('GET', 'POST', 'HEAD'))} /api/{chance.choice(PLACES)}".encode()
    else:
        lines[place] = plain(lines[place], 200)
    return b"\n".join(lines)[:size_max]


def _scope(data: bytes, words: dict[bytes, bytes]) -> tuple[dict[str, Any], bytes]:
    """What a server makes of a request: it has checked method and names of headers, and nothing else."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        for word, meant in words.items():
            value = value.replace(word, meant)
        headers.append((name.strip().lower(), value.strip()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method.decode("ascii", "ignore").upper(),
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ADDRESS,
    }
    return scope, body


def fuzz_one(data: bytes) -> None:
    place = running()
    scope, body = _scope(data, place.words)
    with bounded_memory(), capture_logs() as told:
        answer = place.ask(scope, body)
    assert not [line for line in told if line["log_level"] in {"error", "critical"}], told
    start, *parts = answer
    assert start["type"] == "http.response.start"
    assert start["status"] in STATUSES, start
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert HEADERS.items() <= headers.items()
    text = b"".join(part.get("body", b"") for part in parts)
    if start["status"] == 200 and scope["path"].startswith("/api/"):
        assert (b"x-warren-key", place.words[b"KEY"]) in scope["headers"]
        assert any(name == b"cookie" and place.words[b"COOKIE"] in value for name, value in scope["headers"])
    if start["status"] >= 400 and headers.get("content-type") == "application/json" and scope["method"] != "HEAD":
        error = json.loads(text)["error"]
        assert error["code"] in CODES, error
        check_text(error["message"], modules=(), names=(error["message"],), chars_max=4000)
