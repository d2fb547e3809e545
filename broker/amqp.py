"""The transport over RabbitMQ (AMQP 0-9-1, aio-pika).

It owns its reconnection: a plain connection, and a new one after jittered back-off whatever went wrong. The
library's "robust" connection leaves publishes and consumers in states that nobody outside can tell from
health.
"""

import asyncio
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import aio_pika
import structlog
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)

from broker.address import APPLY_HINT, Address
from broker.connection import OwnConnection
from broker.consuming import Consuming
from broker.frames import read_leniently
from broker.link import Link, LinkLost, Reading
from broker.topology import EXCHANGE, Limits
from broker.transport import MESSAGE_BYTES_MAX, PublishCode, PublishFailed, Receiver, TransportState
from broker.waiting import any_set, cancellation_asked_for, heed_cancellation

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AmqpOptions:
    """Sizes and times of an `AmqpTransport`.

    Attributes:
        control_prefetch: deliveries per control queue that may be unacknowledged.
        bulk_prefetch: the same per bulk queue.
        message_bytes_max: a larger body is refused before it is sent.
        publish_timeout_s: how long a publish waits for the broker's confirm.
        connect_timeout_s: how long an attempt to connect may take.
        heartbeat_s: a line that is silent for about three times as long is lost.
        backoff_min_s: pause after the first lost connection; doubles with each failure.
        backoff_max_s: the longest pause.
        probe_s: a queue that was silent for so long is asked for a sign of life.

    """

    control_prefetch: int = 64
    bulk_prefetch: int = 8
    message_bytes_max: int = MESSAGE_BYTES_MAX
    publish_timeout_s: float = 30.0
    connect_timeout_s: float = 20.0
    heartbeat_s: int = 10
    backoff_min_s: float = 0.3
    backoff_max_s: float = 10.0
    probe_s: float = 30.0


class AmqpTransport(Consuming):
    """The transport of one party at a RabbitMQ.

    Args:
        url: `amqps://user:password@host/warren?cafile=...`, or `?auth=EXTERNAL&certfile=...&keyfile=...` with
            `&cafile=...` to log in with a client certificate. The vhost is `warren` unless named.
        party: whose queues are read.
        peers: whose messages are read.
        declare: make exchanges and the queues that are read; for demonstrations and tests. Otherwise a
            missing queue is named in `state` and waited for.
        limits: byte limits for `declare`.
        ssl_context: instead of the files in the URL.
        allow_plain: take `amqp://` without TLS for a host that is not this machine.
        options: sizes and times.

    Raises:
        ValueError: the URL is malformed, or goes without TLS to another machine.

    """

    def __init__(
        self,
        url: str,
        party: str,
        peers: Sequence[str],
        *,
        declare: bool = False,
        limits: Limits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        allow_plain: bool = False,
        options: AmqpOptions | None = None,
    ) -> None:
        super().__init__()
        self._options = options or AmqpOptions()
        self._address = Address.parse(url, party, self._options.heartbeat_s, allow_plain=allow_plain)
        self._party = party
        self._peers = tuple(peers)
        self._declare = declare
        self._limits = limits
        self._ssl_context = ssl_context
        self._link: Link | None = None
        self._state = TransportState(False, f"waiting for the broker at {self._address.place}", 0)

    def __repr__(self) -> str:
        return f"AmqpTransport({self._party!r} at {self._address.place})"

    @property
    def state(self) -> TransportState:
        """The present state."""
        return self._state

    async def publish(self, routing_key: str, body: bytes) -> None:
        """See `Transport.publish`. A key that begins with `status.` may go nowhere without an error."""
        if len(body) > self._options.message_bytes_max:
            detail = f"{len(body)} bytes are more than {self._options.message_bytes_max}"
            raise PublishFailed(PublishCode.OVERSIZED, detail)
        link = self._link
        if link is None:
            raise PublishFailed(PublishCode.DISCONNECTED, self._state.detail)
        try:
            async with asyncio.timeout(self._options.publish_timeout_s):
                await link.publish(routing_key, body)
        except asyncio.CancelledError:
            if cancellation_asked_for():
                raise
            detail = "the connection was lost before the broker confirmed"
            raise PublishFailed(PublishCode.DISCONNECTED, detail) from None
        except Exception as error:
            heed_cancellation()
            raise _publish_failed(error, routing_key, self._options.publish_timeout_s) from None
        heed_cancellation()

    async def depths(self) -> dict[str, int]:
        """See `QueueDepths`."""
        link = self._link
        if link is None:
            return {}
        found: dict[str, int] = {}
        try:
            async with asyncio.timeout(self._options.publish_timeout_s):
                found = await link.depths()
        except asyncio.CancelledError:
            if cancellation_asked_for():
                raise
        except Exception as error:
            # A queue or a line that goes away meanwhile is told by `state`.
            log.debug("no depths", error=type(error).__name__)
        heed_cancellation()
        return found

    async def run(self, receiver: Receiver) -> None:
        """See `Transport.run`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.serve(receiver))
            group.create_task(self._stay_connected())

    async def _stay_connected(self) -> NoReturn:
        options = self._options
        pause_s = options.backoff_min_s
        while True:
            changes = self._state.changes
            # Whatever a library throws at garbage from the network must not end a daemon.
            try:
                reason = await self._one_connection()
            except LinkLost as error:
                reason = str(error)
            except asyncio.CancelledError:
                if cancellation_asked_for():
                    raise
                reason = "the connection was lost"
            except Exception as error:
                reason = self._address.explain(error)
            heed_cancellation()
            self._set_state(False, reason)
            if self._state.changes > changes:
                pause_s = options.backoff_min_s
            # Jitter, so that the parties do not all come back in the same instant.
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - guards nothing
            pause_s = min(pause_s * 2, options.backoff_max_s)

    async def _one_connection(self) -> str:
        """Connect and serve until the connection is lost; returns why."""
        options = self._options
        read_leniently()
        connection = await aio_pika.connect(
            self._address.url,
            ssl_context=self._ssl_context,
            timeout=options.connect_timeout_s,
            connection_class=OwnConnection,
        )
        reading = Reading(options.control_prefetch, options.bulk_prefetch, options.probe_s, options.publish_timeout_s)
        link = Link(connection, self._party, self._peers, reading)
        try:
            if self._declare:
                await link.declare(self._limits)
            await self._serve(link)
        finally:
            self._link = None
            self._up.clear()
            self._state = replace(self._state, up=False)
            self._inbox.shut()
            await link.close()
        return f"{link.reason}; waiting for the broker at {self._address.place}"

    async def _serve(self, link: Link) -> None:
        opened = False

        def ready() -> None:
            nonlocal opened
            self._link = link
            detail = f"connected to {self._address.place}" + (", paused" if self._paused else "")
            self._set_state(True, detail, changed=not opened)
            opened = True

        while not link.lost.is_set():
            self._turned.clear()
            if self._paused:
                ready()
                await any_set(link.lost, self._turned)
            else:
                self._inbox.open()
                await link.consume(self._inbox, until=self._turned, ready=ready)
                self._inbox.shut()

    def _set_state(self, up: bool, detail: str, *, changed: bool = False) -> None:
        said_before = self._state.detail
        self._state = TransportState(up, detail, self._state.changes + int(changed))
        if up:
            self._up.set()
        if detail != said_before:
            log.info("broker_connected" if up else "broker_away", party=self._party, detail=detail)


def _publish_failed(error: Exception, routing_key: str, timeout_s: float) -> PublishFailed:
    """The outcome that an exception of aio-pika stands for."""
    match error:
        case PublishError():
            return PublishFailed(PublishCode.UNROUTABLE, f"no queue takes {routing_key}: {APPLY_HINT}")
        case DeliveryError():
            return PublishFailed(PublishCode.FULL, f"a queue for {routing_key} is full")
        case ChannelNotFoundEntity():
            return PublishFailed(PublishCode.UNROUTABLE, f"exchange {EXCHANGE} is missing: {APPLY_HINT}")
        case ChannelAccessRefused() | ChannelPreconditionFailed():
            return PublishFailed(PublishCode.REFUSED, f"the broker refuses {routing_key}: {error}")
        case TimeoutError():
            return PublishFailed(PublishCode.TIMEOUT, f"no confirm within {timeout_s:g} s")
        case _:
            return PublishFailed(PublishCode.DISCONNECTED, f"the connection was lost ({type(error).__name__})")
