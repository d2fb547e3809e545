"""What the events of a job tell beyond the headers of its messages: rows, columns, and numbers that were released."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from messages import codec, schemas
from messages.codec import CodecError
from protocol.effects import Computed, ControlReceived
from services.audit.export_file import UNREADABLE
from services.audit.replaying import Arrival, Task
from services.store import chain
from services.tasks.sealing import PLAIN

_OPENED_BY: Final = {
    "align.echo": "align.list",
    "align.evaluate": "align.list",
    "align.open": "align.echo",
    "align.places": "align.common",
    "features.open": "features.encrypted",
    "link.rotate": "link.terms",
    "link.evaluate": "link.terms",
    "residual.open": "residual.share",
    "score.open": "score.partial",
}
"""Function -> kind of the partner's bulk that it opens."""
_SEALED_BY: Final = {
    "align.list": "align.list",
    "align.echo": "align.echo",
    "align.common": "align.common",
    "features.encrypt": "features.encrypted",
    "link.terms": "link.terms",
    "link.rotate": "link.terms",
    "link.evaluate": "residual.share",
    "score.partial": "score.partial",
    "evaluate.partial": "score.partial",
}
"""Function -> kind of the bulk that it makes."""


@dataclass(slots=True)
class Seen:
    """What events tell beyond the headers, by direction and partner or by party."""

    party: str
    partner: str
    """The first one, whom tasks and events mean that name none."""
    sizes: dict[bytes, int] = field(default_factory=dict)
    rows: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    moduli: dict[str, int] = field(default_factory=dict)
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)
    gradients: Counter[tuple[str, str]] = field(default_factory=Counter)
    columns: dict[str, int] = field(default_factory=dict)
    agreed: tuple[int, ...] = ()
    """Columns of the providers in their order, as the business told them."""
    aligned: int = 0

    def task(self, task: Task) -> None:
        """Own results: what was made for the partner, and which part of it are numbers that it may read."""
        if not isinstance(task.event, Computed):
            return
        function = task.asked.function
        try:
            output = msgspec.msgpack.decode(task.event.output, type=dict[str, Any])
            arguments = msgspec.msgpack.decode(task.asked.arguments, type=dict[str, Any])
            self._task(function, task.asked.partner or self.partner, output, arguments, task.event)
        except (*UNREADABLE, KeyError, TypeError, ValueError, IndexError):
            return  # the replay names what is wrong with it

    def _task(
        self, function: str, partner: str, output: dict[str, Any], arguments: dict[str, Any], event: Computed
    ) -> None:
        if PLAIN in output and function in _SEALED_BY:
            self.sizes[event.blobs[0].sha256] = event.blobs[0].bytes
            self.rows[chain.SENT, _SEALED_BY[function], partner] += event.blobs[0].rows
        if function in _OPENED_BY:
            rows = int(arguments.get("rows", arguments.get("items", 0)))
            # In a chain a task opens what one partner sent and seals what it makes of it to another.
            self.rows[chain.RECEIVED, _OPENED_BY[function], arguments.get("from") or partner] += rows
        if function == "cross.close":
            self.gradients[chain.SENT, partner] += 1
        self.result(function, output)

    def result(self, function: str, output: dict[str, Any]) -> None:
        """Which part of an own result are numbers that a partner may read. Raises KeyError, TypeError, ValueError."""
        match function:
            case "admit" | "score.admit":
                self.columns[self.party] = int(output.get("columns", 0))
            case "align.match" | "align.join" | "align.adopt":
                self.aligned = int(output["count"])
            case "keys.generate":
                self.moduli[self.party] = int.from_bytes(output["modulus"], "little").bit_length()
            case "gradient":
                self.numbers[chain.SENT, ""] += len(output.get("products") or output["masked"])
            case "curvature.gradient" if "block" in output:
                self.numbers[chain.SENT, ""] += _told(output["block"]["gram"], output["block"]["gradient"])

    def arrival(self, arrival: Arrival) -> None:
        """The partners' control messages."""
        if isinstance(arrival.event, ControlReceived):
            self.message(arrival.header.sender, arrival.event.message)

    def message(self, sender: str, data: bytes) -> None:
        """A partner's control message, in its bytes."""
        try:
            message = codec.decode(data)
        except CodecError:
            return
        match message:
            case schemas.JobAccept():
                self.columns[sender] = message.columns
            case schemas.FeaturesCodes():
                self.moduli[sender] = int.from_bytes(message.modulus, "little").bit_length()
            case schemas.CrossTerm():
                self.gradients[chain.RECEIVED, sender] += 1
            case schemas.JobAgreed():
                self.agreed = tuple(message.columns)
            case schemas.StepMasked():
                self.numbers[chain.RECEIVED, sender] += len(message.row)
            case schemas.StepProducts():
                self.numbers[chain.RECEIVED, sender] += len(message.products)
            case schemas.CurvatureBlock():
                self.numbers[chain.RECEIVED, sender] += _told(message.gram, message.gradient)


def _told(gram: list[float], gradient: list[float]) -> int:
    """Numbers in a `curvature.block`: the noise and the unexplained part are two more."""
    return len(gram) + len(gradient) + 2
