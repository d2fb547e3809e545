"""The console's addresses: its page, what the page asks for, the stream that keeps it fresh, and what it may do.

| address | what |
|---|---|
| `/`, `/static/...` | the page; nothing in it is about this party |
| `/enter?ticket=` | a link of `warren console`: gives the browser its cookie and key |
| `/api/stream?job=` | server-sent events `overview` and, of one job, `job`: each when it has changed |
| `/api/contract/ID`, `/api/peers`, `/api/month`, `/api/models`, `/api/system` | JSON |
| `/metrics` | for a monitor with its bearer token |
| `/api/do/VERB` | POST: a verb of the control socket that changes something |
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.console.access import SESSION_S, Access
from services.console.facts import Facts
from services.console.guard import METRICS, Guard, cookie_name, names_of
from services.daemon.control import JOURNAL_AWAY, ControlError, answer
from services.daemon.metrics import CONTENT_TYPE
from services.daemon.party_process import Running
from services.party.listening import Address
from services.store.journal import JournalError

STATIC: Final = Path(__file__).parent / "static"
ACTIONS: Final = ("cancel", "approve", "decline", "revoke", "allow", "pause", "resume")
PERIOD_S: Final = 1.0
STILL_HERE_S: Final = 10.0
STREAMS_MAX: Final = 24
BODY_BYTES_MAX: Final = 16_384
_STATUS: Final = {"unknown_job": 404, "job_over": 409, "journal_unavailable": 503, JOURNAL_AWAY: 503, "internal": 500}


class Console:
    """Of one running daemon; `close` ends its streams."""

    def __init__(self, running: Running, access: Access, address: Address) -> None:
        self._running = running
        self._access = access
        self._cookie = cookie_name(running.party.file.name, address)
        self._names = names_of(address, running.party.file.console_hosts)
        self._facts = Facts(running)
        self._streams = 0
        self._over = asyncio.Event()

    def close(self) -> None:
        """The daemon is about to end."""
        self._over.set()

    def app(self) -> ASGIApp:
        """The ASGI application."""
        facts = self._facts
        routes = [
            Route("/", self._page),
            Route("/enter", self._enter),
            Route("/api/stream", self._stream),
            Route("/api/contract/{name}", _told(lambda request: facts.contract(request.path_params["name"]))),
            Route("/api/peers", _told(lambda _: facts.peers())),
            Route("/api/month", _told(lambda request: facts.month(request.query_params.get("month", "")))),
            Route("/api/models", _told(lambda _: facts.models())),
            Route("/api/system", _told(lambda _: facts.system())),
            Route("/api/do/{verb}", self._do, methods=["POST"]),
            Route(METRICS, self._metrics),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _failed})
        return Guard(app, access=self._access, names=self._names, cookie=self._cookie)

    async def _page(self, request: Request) -> Response:
        if self._access.session_holds(request.cookies.get(self._cookie, "")):
            return FileResponse(STATIC / "index.html")
        return FileResponse(STATIC / "locked.html", status_code=401)

    async def _enter(self, request: Request) -> Response:
        session = self._access.enter(request.query_params.get("ticket", ""))
        if not session:
            return FileResponse(STATIC / "locked.html", status_code=401)
        page = (STATIC / "enter.html").read_text(encoding="utf-8")
        # A hexadecimal number: there is nothing to escape in it.
        answered = HTMLResponse(page.replace("{{key}}", self._access.key_of(session)))
        answered.set_cookie(self._cookie, session, max_age=int(SESSION_S), httponly=True, samesite="strict", path="/")
        return answered

    async def _do(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in ACTIONS or verb not in self._running.verbs:
            return refusal("unknown_action", "this console cannot do that")
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                return refusal("bad_request", "the request is too long", 413)
        try:
            arguments = json.loads(body)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict) or not all(isinstance(one, str) for one in arguments.values()):
            return refusal("bad_request", "a JSON object of texts is needed")
        found = await answer(self._running.verbs, verb, arguments)
        if "error" in found:
            return refusal(found["error"]["code"], found["error"]["message"])
        return _json(found)

    async def _metrics(self, request: Request) -> Response:
        sort, _, token = request.headers.get("authorization", "").partition(" ")
        if sort.lower() != "bearer" or not self._access.monitor_may(token):
            return refusal("no_session", "a bearer token is needed: `warren console --metrics-token` prints it", 401)
        found = await answer(self._running.verbs, "metrics", {})
        if "error" in found:
            return refusal(found["error"]["code"], found["error"]["message"])
        return Response(found["ok"]["text"], media_type=CONTENT_TYPE)

    async def _stream(self, request: Request) -> Response:
        if self._streams >= STREAMS_MAX:
            return refusal("busy", f"{STREAMS_MAX} pages of this console are open: close some", 503)
        job = request.query_params.get("job", "")
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self._events(job), media_type="text/event-stream", headers=headers)

    async def _events(self, job: str) -> AsyncIterator[str]:
        """What has changed, once a second; and a sign of life, by which the page knows that the daemon is there."""
        self._streams += 1
        last: dict[str, str] = {}
        silent_s = 0.0
        try:
            while not self._over.is_set():
                for name, text in (await self._snapshot(job)).items():
                    if last.get(name) != text:
                        last[name], silent_s = text, 0.0
                        yield f"event: {name}\ndata: {text}\n\n"
                if silent_s >= STILL_HERE_S:
                    silent_s = 0.0
                    yield "event: still\ndata: {}\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), PERIOD_S)
                silent_s += PERIOD_S
        finally:
            self._streams -= 1

    async def _snapshot(self, job: str) -> dict[str, str]:
        found = {"overview": await _or_error(self._facts.overview())}
        if job:
            found["job"] = await _or_error(self._facts.job(job))
        return found


async def _or_error(asked: Awaitable[Any]) -> str:
    """One line of JSON: the answer, or what is wrong."""
    try:
        return _text(await asked)
    except (ControlError, JournalError) as error:
        code, message = _said(error)
        return _text({"error": {"code": code, "message": message}})


def _said(error: ControlError | JournalError) -> tuple[str, str]:
    """Code and text of what the daemon cannot answer."""
    if isinstance(error, ControlError):
        return error.code, str(error)
    return "journal_unavailable", f"the journal cannot be read just now: {error}"


def _told(ask: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """An address whose answer is JSON."""

    async def told(request: Request) -> Response:
        try:
            return _json({"ok": await ask(request)})
        except (ControlError, JournalError) as error:
            return refusal(*_said(error))

    return told


async def _failed(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return refusal("no_such_address", "there is nothing at this address", error.status_code)


def refusal(code: str, message: str, status: int = 0) -> Response:
    """An error for the page."""
    return JSONResponse({"error": {"code": code, "message": message}}, status or _STATUS.get(code, 400))


def _json(value: Any) -> Response:
    return Response(_text(value), media_type="application/json")


def _text(value: Any) -> str:
    """JSON; a number that is not defined is null, and the page shows a dash."""
    return msgspec.json.encode(value, enc_hook=str).decode()
