"""Serves the console inside a daemon's process: never in the way of its work, and gone when it goes."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from services.console.access import Access, secret_of
from services.console.app import Console
from services.daemon.party_process import Running
from services.party.listening import Address, address_of

log = structlog.get_logger("console")

RETRY_S: Final = 5.0
CONNECTIONS_MAX: Final = 128


class _Server(uvicorn.Server):
    """Signals are the daemon's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def serve_console(running: Running) -> None:
    """Serve until cancelled, where party.toml says so. Raises ConfigError for a token that others may read.

    An address that is taken costs the daemon nothing but its console: that is said, and tried again.
    """
    if not running.party.file.console:
        return
    address = address_of(running.party.file.console)
    access = Access(secret_of(running.party.data_directory))
    said = False
    while True:
        try:
            listener = _listen(address)
        except OSError as error:
            if not said:
                why = error.strerror or type(error).__name__
                log.error("console not served: is another daemon's at the same address?", at=address.shown, cause=why)
                said = True
            await asyncio.sleep(RETRY_S)
            continue
        with listener:
            log.info("console", at=f"http://{address.shown}/")
            await _serve(Console(running, access, address), listener)


def _listen(address: Address) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(tuple(address))
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def _serve(console: Console, listener: socket.socket) -> None:
    config = uvicorn.Config(
        console.app(),
        lifespan="off",
        http="h11",
        ws="none",
        loop="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        console.close()
        server.should_exit = True
        await serving
