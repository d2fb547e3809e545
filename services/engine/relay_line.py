"""One job's way to one partner: how far its messages are published, and when the partner was last heard of.

The relay's memory, and no more than that: what is kept of a line is in `services.engine.lines`.
"""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class RelayLine:
    """See the module docstring.

    Attributes:
        cursor: the message after this sequence is the next to be published.
        reached: highest sequence published.
        missing_up_to: what was missing of the partner's answer goes up to this sequence; 0: nothing was.
        asked_up_to: `reached` when the open question was put: the answer tells nothing of what was published since.
        receipted: highest sequence that the partner has.
        asked: a question is open; the next receipt that is a message of its own answers it.
        wait: seconds of silence until the next question.
        quiet_since: loop time of the last sign of the partner.
        refused: why the broker does not take the next message.

    """

    job: str
    partner: str
    cursor: int
    receipted: int
    wait: float
    quiet_since: float
    reached: int = 0
    missing_up_to: int = 0
    asked_up_to: int = 0
    asked: bool = False
    ask_now: bool = False
    refused: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> tuple[str, str]:
        """Job and partner."""
        return self.job, self.partner
