"""Both parties in this process, to try out what two organisations will do: no broker, same code, same jobs."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from services.client.business import BusinessClient, Preparations
from services.client.frames import polars_frame
from services.local import BUSINESS, NAMES, PROVIDER, LocalTables, connect, embedded, introduce, make_party
from services.party import load_party, write_private

NOWHERE: Final = "amqp://localhost/warren"
"""Of parties that never reach a broker."""


@contextmanager
def rehearsal(
    business: Any,
    provider: Any,
    *,
    identifier: str = "id",
    label: str,
    marks: tuple[str, ...] = (),
    provider_preparation: Preparations | None = None,
    business_preparation: Preparations | None = None,
) -> Iterator[BusinessClient]:
    """A client of a business whose partner runs in this process as well; both are gone at the end.

    `business` and `provider` are frames. The provider has its frame as a data set that `fit` uses by itself; the
    business has its own as the data set "labels", and may fit other frames. `marks`: those that the provider's policy
    accepts.
    """
    if not structlog.is_configured():
        # What daemons log is not what a notebook wants to read; who does has configured it.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="warren-") as name:
        place = Path(name)
        files = {}
        for role, frame in ((BUSINESS, business), (PROVIDER, provider)):
            files[role] = place / f"{role}.parquet"
            polars_frame(frame, identifier).write_parquet(files[role])
        tables = LocalTables(
            business=files[BUSINESS],
            provider=files[PROVIDER],
            identifier=identifier,
            label=label,
            business_preparation=_steps_file(place / "business.toml", business_preparation),
            provider_preparation=_steps_file(place / "provider.toml", provider_preparation),
        )
        first, second = (
            make_party(place / role, role, party, tables, broker=NOWHERE, marks=marks, declare=False, noise_seed="")
            for role, party in NAMES.items()
        )
        introduce(first, second)
        with embedded((first, second)):
            for path in (first, second):
                connect(load_party(path)).close()  # it is up when its console is
            yield BusinessClient(first, provider=f"{NAMES[PROVIDER]}/features")


def _steps_file(path: Path, steps: Preparations | None) -> Path | None:
    """A preparation as party.toml reads it from a file of its own."""
    if not steps:
        return None
    lines = [f"{_toml(column)} = {_toml(msgspec.to_builtins(list(listed)))}" for column, listed in steps.items()]
    write_private(path, "\n".join(lines).encode())
    return path


def _toml(value: Any) -> str:
    """Plain values in TOML's inline form."""
    if isinstance(value, dict):
        pairs = (f"{_toml(key)} = {_toml(entry)}" for key, entry in value.items() if entry is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # Texts, numbers and truth values of JSON are TOML's as well.
    return msgspec.json.encode(value).decode()
