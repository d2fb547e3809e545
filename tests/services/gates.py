"""The real compute functions behind gates: a job stands still at a chosen function of a chosen party.

For daemons that run their tasks on threads of this process.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from services.tasks import FUNCTIONS as REAL
from services.tasks.compute import ComputeFunction, TaskContext, TaskResult

PATIENCE_S: Final = 240.0

_shut: dict[tuple[str, str], threading.Event] = {}


def _gated(
    name: str, function: ComputeFunction, context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]
) -> TaskResult:
    gate = _shut.get((context.party, name))
    if gate is not None:
        gate.wait(PATIENCE_S)
    return function(context, arguments, inputs)


@contextmanager
def shut(*places: tuple[str, str]) -> Iterator[None]:
    """Gates, each of a party and a function, that are shut within the block."""
    gates = {place: threading.Event() for place in places}
    _shut.update(gates)
    try:
        yield
    finally:
        release()


def open_one(place: tuple[str, str]) -> None:
    """Open one gate of several."""
    _shut.pop(place).set()


def release() -> None:
    """Open every gate."""
    for gate in _shut.values():
        gate.set()
    _shut.clear()


FUNCTIONS = {name: functools.partial(_gated, name, function) for name, function in REAL.items()}
