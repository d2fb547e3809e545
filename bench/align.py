"""Microseconds per item of alignment: by every path through the kernel, without it, and by others, in one run.

In process, on one core. The whole intersection is what both parties compute, without the messages between them;
its time is per item and party.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alignment import sets
from alignment.curve import Points, map_many, mask_many
from bench.kernels import kernel_state
from bench.paillier_peers import cryptography_column, exchange
from bench.rounds import Column, Operation, Report, Row, Timed, Work, machine, one_core, race, version_of, versions
from kernel import library
from services import __version__

SCALARS = (bytes(range(32)), bytes(range(32, 64)))  # fixed: what is measured protects nothing
PYTHON = "python"
VERSION = f"Warren {__version__}"
FALSE_POSITIVES = 1e-9


def operations() -> list[Operation]:
    """What is timed, in the order of the table; what is wanted is a ratio to `cryptography`."""
    return [
        Operation("map", "map to the curve", "item", section="Alignment"),
        Operation("mask", "mask (X25519)", "item", wanted=4, section="Alignment"),
        Operation("intersect", "whole intersection", "item, party", section="Alignment"),
    ]


def measure(items: int = 4096, seconds: float = 0.5, say: Callable[[str], None] = lambda title: None) -> Report:
    """Two sides of `items` items, of which half are common.

    Args:
        items: of each side, at least 1.
        seconds: per operation and column; slow ones take five rounds whatever this is.
        say: is told each operation before it is raced.

    Raises:
        ValueError: no items.

    """
    if items < 1:
        raise ValueError("a side has at least one item")
    with one_core() as core:
        say("setting up")
        columns, ways = _contenders(items)
        return Report(
            benchmark="align",
            facts={"items": items, "seconds": seconds},
            machine=machine(core),
            versions=versions(),
            kernel=kernel_state(),
            columns=columns,
            rows=list(_races(columns, ways, seconds, say)),
        )


def _races(
    columns: Sequence[Column], ways: dict[str, dict[str, Timed]], seconds: float, say: Callable[[str], None]
) -> Iterator[Row]:
    compiled = kernel_state()["path"]
    wanted_of = None if compiled is None else (compiled, "cryptography")
    for operation in operations():
        racing = {key: calls[operation.key] for key, calls in ways.items() if operation.key in calls}
        say(operation.title)
        yield race(operation, racing, columns, seconds=seconds, wanted_of=wanted_of)


def _contenders(items: int) -> tuple[list[Column], dict[str, dict[str, Timed]]]:
    """The columns of the table, and by column and operation what is to be run."""
    kernel = kernel_state()
    sides = [[b"item %d" % (start + number) for number in range(items)] for start in (0, items - items // 2)]
    columns, ways = [], {}
    # The path that runs first: its ratios are the ones in the table.
    paths = sorted(kernel["paths"], key=lambda path: path != kernel["path"])
    for path in paths:
        columns.append(Column(path, f"compiled ({path})", VERSION, peer=False))
        ways[path] = own_calls(path, sides)
    if not paths:
        columns.append(Column("compiled", "compiled", VERSION, peer=False, absent=kernel["reason"]))
    note = f"gmpy2 {version_of('gmpy2')} and cryptography {version_of('cryptography')}"
    columns.append(Column(PYTHON, "Python", VERSION, peer=False, note=note))
    ways[PYTHON] = own_calls(None, sides)
    columns.append(cryptography_column())
    ways["cryptography"] = {"mask": exchange(map_many(sides[0]).tobytes(), SCALARS[0])}
    psi = psi_column()
    columns.append(psi)
    if not psi.absent:
        ways["openmined_psi"] = psi_calls(sides)
    return columns, ways


def own_calls(path: str | None, sides: Sequence[Sequence[bytes]]) -> dict[str, Timed]:
    """Our way of each operation, by key: on a path through the kernel, or (None) without it."""
    first = sides[0]
    points = map_many(first)

    def on_path(work: Work) -> Work:
        def switched() -> object:
            with library.using(path):
                return work()

        return switched

    return {
        "map": Timed("map_many", len(first), on_path(lambda: map_many(first))),
        "mask": Timed("mask_many", len(first), on_path(lambda: mask_many(points, SCALARS[0]))),
        "intersect": Timed(
            "map_many, mask_many, sets", sum(len(side) for side in sides), on_path(lambda: intersect(sides))
        ),
    }


def intersect(sides: Sequence[Sequence[bytes]]) -> tuple[sets.Match, sets.Match]:
    """All that two parties compute to align two lists of items, each in the order of its rows; what each finds."""
    lists = [sets.sorted_list(mask_many(map_many(side), scalar)) for side, scalar in zip(sides, SCALARS, strict=True)]
    for points, _ in lists:
        sets.commitment(points)
    answers = [
        _answer(own[0], theirs[0], scalar)
        for own, theirs, scalar in ((lists[0], lists[1], SCALARS[0]), (lists[1], lists[0], SCALARS[1]))
    ]
    # answers[0] are the first party's, to the list of the second.
    return (
        sets.match(answers[1], lists[0][1], answers[0]),
        sets.match(answers[0], lists[1][1], answers[1]),
    )


def _answer(own: Points, theirs: Points, scalar: bytes) -> sets.Tokens:
    """What a party makes of the partner's list once it has checked it, and its commitment with it."""
    points = sets.check_chunk(theirs.tobytes(), None)
    sets.refuse_reflected(points, own)
    sets.commitment(points)
    return sets.tokens(mask_many(points, scalar))


def psi_column() -> Column:
    """openmined-psi, or why it was not measured. It is no dependency of Warren."""
    key, title, version = "openmined_psi", "openmined-psi", version_of("openmined-psi")
    try:
        importlib.import_module("private_set_intersection.python")
    except ImportError as error:
        reason = "it is not installed" if version is None else f"{version} does not load: {error}"
        return Column(key, title, version or "", peer=True, absent=reason)
    return Column(key, title, version or "unknown", peer=True, note="NIST P-256; only the client learns who is common")


def psi_calls(sides: Sequence[Sequence[bytes]]) -> dict[str, Timed]:
    """openmined-psi's way: the server's list as it is, both parties' work in one time."""
    psi: Any = importlib.import_module("private_set_intersection.python")
    ours, theirs = ([item.decode() for item in side] for side in sides)

    def work() -> object:
        server, client = psi.server.CreateWithNewKey(True), psi.client.CreateWithNewKey(True)
        setup = server.CreateSetupMessage(FALSE_POSITIVES, len(ours), theirs, psi.DataStructure.RAW)
        return client.GetIntersection(setup, server.ProcessRequest(client.CreateRequest(ours)))

    call = "client.GetIntersection(server.CreateSetupMessage(...), server.ProcessRequest(client.CreateRequest(...)))"
    return {"intersect": Timed(call, len(ours) + len(theirs), work)}
