"""`make chaos`: rounds of real faults over every RabbitMQ that this machine has; prints tables and a verdict."""

import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from broker.installation import PROGRAMS, PrivateBrokerError
from services.daemon.control import ControlError
from services.daemon.local import NAMES
from tests.chaos.disk import Disks
from tests.chaos.rounds import Results, Storm, plan
from tests.chaos.tables import closing_line, coverage_table, recovery_table
from tests.chaos.three_parties import provider_killed
from tests.endurance.test_kills import undisturbed
from tests.endurance.town import Town

PROGRAMS_VARIABLE: Final = "WARREN_RABBITMQ"
"""Directories of further `rabbitmq-server` programs, like those of PATH."""

WIDTH_MIN: Final = 120
out = Console(highlight=False, soft_wrap=True, width=max(WIDTH_MIN, Console().width))


def programs() -> list[Path]:
    """Where a RabbitMQ is found: Debian's first (installed when it is missing), then what was unpacked beside it."""
    named = [Path(part) for part in os.environ.get(PROGRAMS_VARIABLE, "").split(os.pathsep) if part]
    beside = sorted(
        path.parent for root in ("/opt", "/usr/local") for path in Path(root).glob("*/sbin/rabbitmq-server")
    )
    return list(dict.fromkeys([PROGRAMS, *named, *beside]))


class Progress:
    """A line for each fault, with how far the rounds are, how fast they go, and when they will be over."""

    def __init__(self, faults: int) -> None:
        self._faults = faults
        self._began = time.monotonic()
        self.round = 0

    def teller(self, results: Results) -> Callable[[str], None]:
        """Prints what the rounds have to tell."""

        def tell(text: str) -> None:
            done, minutes = len(results.incidents), (time.monotonic() - self._began) / 60
            left = max(0, self._faults - done) * minutes / done if done else 0.0
            rate = f"{done} of {self._faults} faults, {done / minutes:.1f} a minute, {left:.0f} min left"
            out.print(f"round {self.round}: {text}  ({rate})", markup=False)

        return tell


def run(rounds: int, seed: int, where: Path, *, limited: bool) -> tuple[Results, dict[str, str]]:
    """All rounds with one RabbitMQ; also what they ran on."""
    chance = random.Random(seed)
    wanted = plan(rounds, chance)
    results = Results()
    expected = undisturbed()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warren-chaos-")))
        disks = stack.enter_context(Disks())
        town = stack.enter_context(Town(directory, where))
        for role in NAMES:
            disks.place(town, role, limited=limited)
        for role in NAMES:
            town.start(role)
        about = {"rabbitmq": ".".join(map(str, town.broker.version or ())), "disk": disks.kind}
        out.print(f"RabbitMQ {about['rabbitmq']} from {where}; data directories: {about['disk']}; seed {seed}")
        progress = Progress(sum(map(len, wanted)))
        storm = Storm(town, disks, expected, chance, results, progress.teller(results))
        for number, cells in enumerate(wanted, start=1):
            progress.round = number
            storm.round(cells)
        _three_parties(directory / "three", chance, where, results)
        if results.lost or results.different:
            for role in NAMES:
                out.print((town.paths[role].parent / "log").read_text(errors="replace")[-10_000:], markup=False)
    return results, about


def _three_parties(directory: Path, chance: random.Random, where: Path, results: Results) -> None:
    """One job of three parties, of which one provider is killed."""
    results.jobs += 1
    try:
        quiet, stormy = provider_killed(directory, chance, lambda text: out.print(text, markup=False), where)
    except (AssertionError, ControlError, TimeoutError, PrivateBrokerError) as error:
        results.lost.append(f"three parties: {type(error).__name__}: {error}")
        return
    if quiet != stormy:
        results.different.append("three parties")
    out.print(f"three parties: the models {'are the same' if quiet == stormy else 'differ'}")


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every fault meets every stage over all of them.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Of the schedule; one is drawn and told otherwise.")] = None,
    file: Annotated[Path | None, typer.Option("--json", help="Where to write everything that happened.")] = None,
    limited: Annotated[bool, typer.Option(help="Fill disks by a limit on processes although one can mount.")] = False,
) -> None:
    """Kill, cut, stall, wipe and fill, in every stage; the models must be those of an undisturbed run."""
    # A terminated harness tidies up like one that ends: file systems are mounted and processes run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    written, well = [], True
    for where in programs():
        results, about = run(rounds, seed, where, limited=limited)
        out.print(recovery_table(results), coverage_table(results), sep="\n")
        for cell in results.empty_cells:
            out.print(f"never happened: {cell}", markup=False)
        out.print(f"RabbitMQ {about['rabbitmq']}: {closing_line(results)}")
        well = well and not (results.lost or results.different or results.empty_cells)
        written.append({**about, "seed": seed, **dataclasses.asdict(results)})
    if file is not None:
        file.write_text(json.dumps(written, indent=1))
    raise typer.Exit(0 if well else 1)


if __name__ == "__main__":
    typer.run(main)
