"""What every request has to pass before a page sees it, and what every answer says to the browser.

A page of another site can make a browser call 127.0.0.1, and a name of its own that it lets point there. So: only
the names that the console is called by (DNS rebinding), for anything that acts an origin of our own (cross-site
requests), and for everything that says something of a job both cookie and key (`services.console.access`).
"""

import json
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.console.access import Access
from services.party.listening import Address

KEY_HEADER: Final = "x-warren-key"
API: Final = "/api/"
METRICS: Final = "/metrics"
_SAFE: Final = frozenset({"GET", "HEAD"})

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def cookie_name(party: str, address: Address) -> str:
    """A name of its own for each daemon: those of one machine share its cookies, and containers their port."""
    return f"warren-{party}-{address.port}"


def names_of(address: Address, further: Sequence[str]) -> frozenset[str]:
    """What the `Host` header may say."""
    local = (f"127.0.0.1:{address.port}", f"localhost:{address.port}", f"[::1]:{address.port}")
    return frozenset({*local, address.shown, *further})


class Guard:
    """ASGI middleware; see the module docstring."""

    def __init__(self, app: ASGIApp, *, access: Access, names: frozenset[str], cookie: str) -> None:
        self._app = app
        self._access = access
        self._names = names
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                message["headers"] = headers.raw
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, dressed)
            return
        status, code, text = refusal
        body = json.dumps({"error": {"code": code, "message": text}}).encode()
        headers_ = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await dressed({"type": "http.response.start", "status": status, "headers": headers_})
        await dressed({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if len(headers.getlist("host")) != 1 or headers["host"] not in self._names:
            return 421, "wrong_host", "this console is not called by that name: use the link of `warren console`"
        if method not in _SAFE and not self._own_origin(headers):
            return 403, "wrong_origin", "only the console's own page may ask for this"
        if path.startswith(API):
            session = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
            if not self._access.may(session, headers.get(KEY_HEADER, "")):
                return 401, "no_session", "this browser has not entered, or its week is over: run `warren console`"
        return None

    def _own_origin(self, headers: Headers) -> bool:
        """Browsers state the origin of everything that is no GET; `sec-fetch-site` the newer ones."""
        origin = headers.get("origin", "")
        site = headers.get("sec-fetch-site", "same-origin")
        return site == "same-origin" and origin == f"http://{headers['host']}"
