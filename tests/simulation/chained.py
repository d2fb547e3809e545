"""Real jobs with several providers: link terms go down a chain of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from learning import parts
from messages.schemas import Name
from protocol.contract import FurtherProvider, encode_contract, job_id
from protocol.contract_rules import decode_contract
from protocol.state import BUSINESS, PROVIDER
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table
from tests.simulation.agreement import ROWS, contract, identity, tables
from tests.simulation.played import Story, nothing

FURTHER: Final[tuple[Name, ...]] = ("carrier", "dealer", "exchange")


def _provided(count: int) -> dict[str, Table]:
    """Everybody's rows of people whom all know, but for a few: each further provider lacks some of its own."""
    chance = np.random.default_rng(12)
    found = {"bureau": tables()["bureau"]}
    names = tables()["bank"].identifiers
    for place, name in enumerate(FURTHER[: count - 1]):
        order = chance.permutation(ROWS)[place + 1 :]
        columns = tuple(f"{name}-{letter}" for letter in "abc")
        found[name] = Table([names[row] for row in order], columns, chance.normal(size=(len(order), 3)), None)
    return found


def _classified() -> Table:
    """The bank's rows with names of three classes for labels."""
    bank = tables()["bank"]
    classes = np.digitize(bank.values.sum(axis=1), [-0.5, 0.5]).astype(float)
    return replace(bank, label=classes, classes=("bad", "fair", "good"))


def _weighted() -> Table:
    """The bank's rows with amounts for labels, and weights."""
    bank = tables()["bank"]
    return replace(bank, label=bank.values.sum(axis=1), weight=1.0 + np.arange(ROWS) % 3)


def chained(
    count: int, nonce: bytes = b"chained.", own: Callable[[], Table] = lambda: tables()["bank"], **fields: object
) -> Story:
    """A training job of the bank, with its `own` table, and so many providers."""
    further = FURTHER[: count - 1]
    entries = tuple(
        FurtherProvider(name=name, key=identity(name).public.digest(), dataset="people") for name in further
    )
    pair = decode_contract(contract())
    salt = nonce * 4
    asked = msgspec.structs.replace(
        pair, **{"further": entries, "max_iterations": 2, "chunk_rows_max": 20, "nonce": nonce, **fields}
    )
    if asked.layout.divides:
        asked = msgspec.structs.replace(asked, parts_commitment=parts.commitment(parts.own_seed(salt)))
    agreed = encode_contract(asked)
    return Story(
        job=job_id(agreed),
        contract=agreed,
        roles={"bank": BUSINESS, "bureau": PROVIDER, **dict.fromkeys(further, PROVIDER)},
        blobs=lambda: ((pack_snapshot(own()), ROWS),),
        before=nothing,
        tables=lambda: _provided(count),
        results=4 if asked.evaluate else 2,
        facts=msgspec.msgpack.encode({"salt": salt}) if asked.layout.divides else b"",
    )


TWO_PROVIDERS: Final = chained(2)
THREE_PROVIDERS: Final = chained(3)
SEVERAL_VALIDATED: Final = chained(
    2,
    b"several1",
    folds=2,
    penalties=(0.1, 0.01),
    l2=0.01,
    max_iterations=3,
    validation=0.2,
    evaluate=("validation",),
    masks_bound=True,
)
SEVERAL_BLOCKS: Final = chained(2, b"several2", solver="block", block_share=0.4, max_iterations=4)
SEVERAL_STOPPED: Final = replace(
    chained(
        3,
        b"several3",
        validation=0.3,
        stop_metric="log_loss",
        patience=1,
        stop_every=1,
        stop_evaluations_max=2,
        max_iterations=4,
        masks_bound=True,
    ),
    policy={"stop_evaluations_max": 2},
)
SEVERAL_CLASSES: Final = chained(2, b"several4", _classified, classes=3, evaluate=("training",), masks_bound=True)
SEVERAL_WEIGHTED: Final = chained(
    3, b"several5", _weighted, task="linear", label_bound=16.0, weighted=True, residual_unit=2.0
)
