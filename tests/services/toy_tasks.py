"""Compute functions of the toy machine: cheap, deterministic, and some that misbehave on request."""

import hashlib
import os
import signal
import struct
import sys
import time
from typing import Any

from services.tasks.compute import TaskContext, TaskRefused, TaskResult

Inputs = tuple[bytes, ...]


def make(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Bytes that depend on seed, iteration and chunk alone."""
    assert len(context.job_secret) == 32
    label = f"{arguments['seed']}/{arguments['iteration']}/{arguments['chunk']}".encode()
    return TaskResult({}, ((hashlib.shake_256(label).digest(arguments["size"]), arguments["size"]),))


def answer(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The sum of a body's bytes, and a body to send back."""
    body = inputs[0]
    return TaskResult({"sum": sum(body)}, ((bytes(255 - byte for byte in body[:4096]), len(body)),))


def add(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The sum of all inputs' bytes."""
    return TaskResult({"sum": sum(sum(body) for body in inputs)})


def result(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """A result blob."""
    return TaskResult({}, ((repr(arguments["totals"]).encode(), 1),))


def refuse(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    raise TaskRefused("too_odd", "the input is too odd")


def die(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Take the whole worker process down, as a killer of memory hogs does, `times` times."""
    marks = context.data_directory / "deaths"
    seen = len(marks.read_bytes()) if marks.exists() else 0
    if seen < arguments["times"]:
        marks.write_bytes(b"x" * (seen + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return TaskResult({"sum": seen})


def die_writing(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Die once, with the length of a result and a few of its bytes in the pipe that results go by."""
    mark = context.data_directory / "died"
    if not mark.exists():
        mark.touch()
        frame = sys._getframe()
        while "result_queue" not in frame.f_locals:
            frame = frame.f_back
        os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 1000) + b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return TaskResult({"sum": 1})


def stumble(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    raise ZeroDivisionError("secret value 42")


def hoard(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Keep something on disk, as the release ledger does; a test says on which."""
    with (context.data_directory / "hoard").open("wb") as file:
        file.write(b"kept")
    return TaskResult({"sum": 0})


def note(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Write down which job ran, to see the order."""
    with (context.data_directory / "order").open("a") as file:
        file.write(f"{context.job} {arguments['name']}\n")
    return TaskResult({"sum": 0})


def cached(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """How often this process ran a task of this job."""
    context.cache["runs"] = context.cache.get("runs", 0) + 1
    return TaskResult({"sum": context.cache["runs"]})


def spin(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Keep a processor busy, until there is a file that says that it is enough."""
    (context.data_directory / "spinning").touch()
    end = time.monotonic() + arguments["seconds"]
    while time.monotonic() < end and not (context.data_directory / "enough").exists():
        pass
    return TaskResult({"sum": 0})


FUNCTIONS = {
    "hoard": hoard,
    "make": make,
    "answer": answer,
    "add": add,
    "result": result,
    "refuse": refuse,
    "die": die,
    "die_writing": die_writing,
    "stumble": stumble,
    "note": note,
    "cached": cached,
    "spin": spin,
}
