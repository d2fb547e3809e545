"""The metrics over HTTP: what `metrics = "127.0.0.1:9464"` in party.toml switches on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.daemon.loopback import listen, serve_on
from services.daemon.metrics import CONTENT_TYPE
from services.party.listening import address_of
from services.store.journal import JournalError

log = structlog.get_logger("metrics")

TIMEOUT_S: Final = 8.0
"""Less than a Prometheus waits: a journal that is away is an answer, too."""

Render = Callable[[], Awaitable[bytes]]


def metrics_app(render: Render, host: str) -> Starlette:
    """`/metrics` for whoever comes by a name of this machine: a page of another site has another Host."""

    async def metrics(_: Request) -> Response:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return Response(await render(), media_type=CONTENT_TYPE)
        except (JournalError, TimeoutError):
            return PlainTextResponse("the journal cannot be read just now", status_code=503)

    hosts = [host, "localhost", "127.0.0.1", "[::1]"]
    return Starlette(
        routes=[Route("/metrics", metrics)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
    )


async def serve_metrics(address: str, render: Render) -> None:
    """Serve until cancelled. A port that is taken is told in the log, and the daemon goes on without."""
    place = address_of(address)
    try:
        listener = listen(place.host, place.port)
    except OSError as error:
        log.error("metrics are not served: choose another port in party.toml", address=address, cause=error.strerror)
        return
    log.info("metrics are served", address=f"http://{place.shown}/metrics")
    await serve_on(listener, metrics_app(render, place.host))
