"""Two parties with real tables for tests that run whole daemons, and patience to wait for what these do."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalTables, introduce, make_party

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
PARTNER: Final = {BUSINESS: PROVIDER, PROVIDER: BUSINESS}
NOWHERE: Final = dict.fromkeys(NAMES, "amqp://localhost/warren")
"""Broker URLs, by role, of parties that never reach one: for the embedded transport."""
POLL_S: Final = 0.002
PATIENCE_S: Final = 240.0
"""How long a test waits for what must come: costs nothing when it comes, and no machine is too busy for it."""


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Poll until `condition` is true and give its value; fails the test naming `what`."""
    found = within(timeout_s, condition)
    assert found, f"waited {timeout_s:.0f} s in vain: {what}"
    return found


def within(timeout_s: float, condition: Callable[[], Any]) -> Any:
    """Poll until `condition` is true or the time is over, and give its last value."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found


def example_tables(directory: Path, rows: int) -> LocalTables:
    """The first rows of the credit-default example, one file per party."""
    for who in (BUSINESS, PROVIDER):
        table = pl.read_parquet(EXAMPLES / "default_credit" / f"{who}.parquet").head(rows)
        table.write_parquet(directory / f"{who}.parquet")
    return LocalTables(
        business=directory / "business.parquet", provider=directory / "provider.parquet", identifier="id", label="y"
    )


def make_parties(
    directory: Path,
    tables: LocalTables,
    *,
    marks: tuple[str, ...],
    names: Mapping[str, str] = NAMES,
    urls: Mapping[str, str] = NOWHERE,
    noise_seed: str = "",
    retention: tuple[str, ...] = ("digests",),
) -> dict[str, Path]:
    """party.toml, by role, of two parties that know each other; with `noise_seed` each gets one of its own."""
    paths = {
        role: make_party(
            directory / role,
            role,
            names[role],
            tables,
            broker=urls[role],
            marks=marks,
            declare=False,
            noise_seed=f"{noise_seed}/{role}" if noise_seed else "",
            retention=retention,
            inference=True,
        )
        for role in NAMES
    }
    introduce(paths[BUSINESS], paths[PROVIDER])
    return paths
