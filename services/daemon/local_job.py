"""A job of all parties on this machine, from its submission to what every one of them knows at the end."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.daemon.control import ControlClient, ControlError
from services.daemon.local import BUSINESS, connect, names_of
from services.daemon.verbs import read_results
from services.daemon.waiting import Watch, or_why, wait_for
from services.party.configuration import load_party


class LocalError(Exception):
    """The job did not end well; `code` is its reason code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What all parties know at the end. Only a test or a demonstration ever has it all in one place."""

    job: str
    parameters: dict[str, bytes]
    history: bytes
    seconds: dict[str, float]
    cpu_seconds: float
    bytes_sent: dict[str, int]
    statistics: dict[str, dict[str, int]] = field(default_factory=dict)
    lag_worst_s: float = 0.0
    cpu_seconds_train: float = 0.0
    peak_bytes: dict[str, int] = field(default_factory=dict)
    journal_train: dict[str, dict[str, float]] = field(default_factory=dict)
    inference: dict[str, bytes] = field(default_factory=dict)
    scored: bytes = b""
    histories: dict[str, bytes] = field(default_factory=dict)
    metrics: bytes = b""


def run_job(parties: Sequence[Path], job: dict[str, Any], watch: Watch | None = None) -> LocalResult:
    """Submit a job at the business, the first of the parties, and collect what all of them know.

    Raises LocalError; ControlUnreachable or what ended a daemon, as `wait_for` does.
    """
    loaded = [load_party(path) for path in parties]
    with ExitStack() as stack:
        stack.enter_context(or_why(*(party.data_directory for party in loaded)))
        clients = [stack.enter_context(connect(party)) for party in loaded]
        at_business, at_providers = clients[0], clients[1:]
        try:
            name = at_business.ask("submit", job=job)["job"]
        except ControlError as error:
            raise LocalError(error.code, str(error)) from None
        began: list[dict[str, Any]] = []

        def note(view: dict[str, Any]) -> None:
            if not began and view["progress"].get("stage") == "train":
                began.extend(client.ask("status") for client in clients)
            if watch is not None:
                watch(view)

        views = {BUSINESS: wait_for(at_business, name, note)}
        if views[BUSINESS]["outcome"] != "done":
            raise _failure(views[BUSINESS], at_providers, name)
        roles = [role for role in names_of(len(at_providers)) if role != BUSINESS]
        views |= {role: wait_for(client, name) for role, client in zip(roles, at_providers, strict=True)}
        status = [client.ask("status") for client in clients]
    cpu = _cpu_seconds(status)
    results = {who: read_results(Path(view["results"])) for who, view in views.items()}
    return LocalResult(
        job=name,
        parameters={who: parameters for who, (parameters, _) in results.items()},
        history=results[BUSINESS][1],
        histories={who: history for who, (_, history) in results.items()},
        seconds=views[BUSINESS]["seconds"],
        cpu_seconds=cpu,
        bytes_sent={who: int(view["statistics"].get("bytes_sent", 0)) for who, view in views.items()},
        statistics={who: view["statistics"] for who, view in views.items()},
        lag_worst_s=max(entry["lag_worst_s"] for entry in status),
        cpu_seconds_train=cpu - _cpu_seconds(began) if began else 0.0,
        peak_bytes={who: int(entry["peak_bytes"]) for who, entry in zip(views, status, strict=True)},
        journal_train={
            who: {name: value - first["journal"][name] for name, value in last["journal"].items()}
            for who, first, last in zip(views, began, status, strict=False)
        },
        scored=_read(Path(views[BUSINESS]["results"]) / "scores.csv"),
        metrics=_read(Path(views[BUSINESS]["results"]) / "metrics.json"),
        inference={
            who: file.read_bytes()
            for who, view in views.items()
            if (file := Path(view["results"]) / "inference.json").exists()
        },
    )


def _read(path: Path) -> bytes:
    """A result that not every job has."""
    return path.read_bytes() if path.exists() else b""


def _cpu_seconds(status: list[dict[str, Any]]) -> float:
    """CPU seconds of all daemons and their workers; a process that they share counts once."""
    total = sum(entry["cpu_seconds"] for entry in status)
    if os.getpid() in {int(entry.get("pid", 0)) for entry in status}:
        total -= (len(status) - 1) * status[0]["own_cpu_seconds"]
    return float(total)


def _failure(view: dict[str, Any], at_providers: Sequence[ControlClient], name: str) -> LocalError:
    """The reason at the party that has it: the others only know a code."""
    reasons = [view["reason"]]
    for client in at_providers:
        with suppress(ControlError):
            reasons.append(client.ask("job", id=name).get("reason", ""))
    reasons = [text for text in reasons if text]
    return LocalError(view["reason_code"] or view["outcome"], "; ".join(dict.fromkeys(reasons)) or view["outcome"])
