"""The metrics over HTTP: what `metrics = "127.0.0.1:9464"` in party.toml switches on."""

from collections.abc import Awaitable, Callable

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

Render = Callable[[], Awaitable[bytes]]


def metrics_app(render: Render, host: str) -> Starlette:
    """`/metrics` for whoever comes by a name of this machine: a page of another site has another Host."""

    async def metrics(_: Request) -> Response:
        try:
            return Response(await render(), media_type=CONTENT_TYPE)
        except JournalError:
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
