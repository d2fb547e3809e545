"""Real jobs with several providers: link terms go down a chain of them."""

from typing import Final

import msgspec
import numpy as np

from messages.schemas import Name
from protocol.contract import FurtherProvider, decode_contract, encode_contract, job_id
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


def chained(count: int) -> Story:
    """A training job of the bank with so many providers."""
    further = FURTHER[: count - 1]
    entries = tuple(
        FurtherProvider(name=name, key=identity(name).public.digest(), dataset="people") for name in further
    )
    pair = decode_contract(contract())
    agreed = encode_contract(
        msgspec.structs.replace(pair, further=entries, max_iterations=2, chunk_rows_max=20, nonce=b"chained.")
    )
    return Story(
        job=job_id(agreed),
        contract=agreed,
        roles={"bank": BUSINESS, "bureau": PROVIDER, **dict.fromkeys(further, PROVIDER)},
        blobs=lambda: ((pack_snapshot(tables()["bank"]), ROWS),),
        before=nothing,
        tables=lambda: _provided(count),
    )


TWO_PROVIDERS: Final = chained(2)
THREE_PROVIDERS: Final = chained(3)
