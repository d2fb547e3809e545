"""Compute functions of a party that never gets anything done."""

import threading

from services.tasks.compute import TaskContext, TaskResult


def idle(context: TaskContext, arguments: dict, inputs: tuple[bytes, ...]) -> TaskResult:
    threading.Event().wait(4.0)  # longer than any story here on a busy machine, and no longer: a daemon waits for it
    return TaskResult({"sum": 0})


FUNCTIONS = {name: idle for name in ("make", "answer", "add", "result")}
