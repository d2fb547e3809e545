"""What the runner knows of a machine: pure functions behind one small protocol."""

from typing import Any, Protocol

from protocol.effects import AnyEffect, AnyEvent


class Role(Protocol):
    """One role's machine. `State` is opaque to the engine: it stores what `encode` makes of it."""

    @property
    def logic_version(self) -> int:
        """Version of the machine's rules; a stored state of another version is folded again from its events."""

    def initial(self, job: str, me: str, partners: tuple[str, ...]) -> Any:
        """The state before the first event. `partners`: one or several, in the order of the contract."""

    def step(self, state: Any, event: AnyEvent) -> tuple[Any, tuple[AnyEffect, ...]]:
        """Apply one event.

        Raises:
            RemoteProtocolError: the partner said what it may not say; the job ends with its code.
            UnexpectedEventError: a fault of this program; the job ends, the daemon goes on.

        """

    def encode(self, state: Any) -> bytes:
        """The state's bytes, `STATE_BYTES_MAX` at most; raises ValueError beyond."""

    def decode(self, data: bytes) -> Any:
        """The inverse of `encode`."""
