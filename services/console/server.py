"""Serves the console inside a daemon's process: never in the way of its work, and gone when it goes."""

import asyncio
from typing import Final

import structlog

from services.console.access import Access, secret_of
from services.console.app import Console
from services.daemon.loopback import listen, serve_on
from services.daemon.party_process import Running
from services.party.listening import address_of

log = structlog.get_logger("console")

RETRY_S: Final = 5.0


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
            listener = listen(address.host, address.port)
        except OSError as error:
            if not said:
                why = error.strerror or type(error).__name__
                log.error("console not served: is another daemon's at the same address?", at=address.shown, cause=why)
                said = True
            await asyncio.sleep(RETRY_S)
            continue
        log.info("console", at=f"http://{address.shown}/")
        console = Console(running, access, address)
        await serve_on(listener, console.app(), stopping=console.close)
