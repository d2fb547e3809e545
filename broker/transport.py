"""The port that carries messages between parties, and its weak contract.

A transport may lose, repeat, reorder and corrupt what it carries; whoever stands above it numbers, signs and
resends. What it must keep, on every implementation (`tests/broker/test_transport_contract.py`):

* a message that is published again and again arrives at last;
* a delivery that was acknowledged does not come back;
* a delivery that was not acknowledged comes back after the line was lost;
* there is no other verb than `ack`: nothing is refused, requeued or dropped by the receiver;
* bulk never holds up control.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

MESSAGE_BYTES_MAX: Final = 8 * 2**20
"""The largest body that a transport takes. RabbitMQ 4.x closes the channel above 16 MiB."""


class PublishCode(StrEnum):
    """Why a publish did not come about. Only `OVERSIZED` is final: the others may pass with time."""

    DISCONNECTED = "disconnected"
    UNROUTABLE = "unroutable"
    REFUSED = "refused"
    FULL = "full"
    TIMEOUT = "timeout"
    OVERSIZED = "oversized"


class PublishFailed(Exception):
    """The broker did not confirm a message.

    After `disconnected` and `timeout` the message may have arrived all the same.

    Attributes:
        code: one of `PublishCode`, equal to its text.
        detail: a sentence for the operator, free of secrets.

    """

    def __init__(self, code: PublishCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the broker handed it over.

    Attributes:
        routing_key: as the broker states it; nothing in it is verified yet.
        body: the bytes, unverified.
        ack: tells the broker to forget the message. Never raises for a lost line: then the message comes
            back, and the journal knows it. May be called late and from any task of the loop, once.

    """

    routing_key: str
    body: bytes
    ack: Callable[[], Awaitable[None]]


Receiver = Callable[[Delivery], Awaitable[None]]
"""Takes a delivery over. Called one delivery at a time per traffic class, control before bulk."""


@dataclass(frozen=True, slots=True)
class TransportState:
    """What an operator wants to know of a transport.

    Attributes:
        up: connected, and consuming unless paused.
        detail: a sentence: what is missing or whom it waits for; free of secrets.
        changes: how often a connection was established.

    """

    up: bool
    detail: str
    changes: int


@runtime_checkable
class QueueDepths(Protocol):
    """A transport that can tell how much waits for its party at the broker."""

    async def depths(self) -> dict[str, int]:
        """Messages that wait, by queue; empty while the broker is away. Never raises for a lost line."""


class Transport(Protocol):
    """Carries bytes between parties. See the module docstring for what it promises."""

    async def run(self, receiver: Receiver) -> None:
        """Connect, consume and reconnect until cancelled. Call it once.

        An exception of the receiver is a fault of this program and ends `run` in an `ExceptionGroup`.
        """

    async def publish(self, routing_key: str, body: bytes) -> None:
        """Return when the broker has confirmed the message.

        Raises:
            PublishFailed: it has not, with the reason as `code`.

        """

    async def connected(self) -> None:
        """Wait until the transport is up."""

    @property
    def state(self) -> TransportState:
        """The present state."""

    def pause(self) -> None:
        """Give the receiver nothing more from now on; publishing goes on. For a full disk.

        What is not acknowledged goes back to the broker and comes again after `resume`.
        """

    def resume(self) -> None:
        """Consume again."""
