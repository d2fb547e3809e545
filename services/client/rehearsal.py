"""All parties in this process, to try out what two organisations will do: no broker, same code, same jobs."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from services.client.business import BusinessClient, Preparations
from services.client.frames import polars_frame
from services.daemon.local import BUSINESS, LocalTables, connect, embedded, introduce, make_party
from services.party.configuration import load_party, write_private

NOWHERE: Final = "amqp://localhost/warren"
"""Of parties that never reach a broker."""


@contextmanager
def rehearsal(
    business: Any,
    *providers: Any,
    identifier: str = "id",
    label: str,
    marks: tuple[str, ...] = (),
    business_preparation: Preparations | None = None,
    provider_preparation: Preparations | Sequence[Preparations | None] | None = None,
) -> Iterator[BusinessClient]:
    """A client of a business whose partners run in this process as well; all are gone at the end.

    `business` and each of `providers` are frames. A provider has its frame as a data set that `fit` uses by itself; the
    business has its own as the data set "labels", and may fit other frames. `provider_preparation`: of the first
    provider, or one for each. `marks`: those that the providers' policies accept.

    Raises ValueError without a provider.
    """
    if not providers:
        raise ValueError("give the frame of at least one provider")
    if not structlog.is_configured():
        # What daemons log is not what a notebook wants to read; who does has configured it.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="warren-") as name:
        place = Path(name)
        files = [place / f"{number}.parquet" for number in range(1 + len(providers))]
        for path, frame in zip(files, (business, *providers), strict=True):
            polars_frame(frame, identifier).write_parquet(path)
        prepared = [
            _steps_file(place / f"{number}.toml", steps) for number, steps in enumerate(_each(provider_preparation))
        ]
        tables = LocalTables(
            business=files[0],
            provider=files[1],
            further=tuple(files[2:]),
            identifier=identifier,
            label=label,
            business_preparation=_steps_file(place / "business.toml", business_preparation),
            provider_preparation=next(iter(prepared), None),
            further_preparations=tuple(prepared[1:]),
        )
        parties = [
            make_party(place / role, role, party, tables, broker=NOWHERE, marks=marks, declare=False, noise_seed="")
            for role, party in tables.names.items()
        ]
        introduce(*parties)
        with embedded(parties):
            for path in parties:
                connect(load_party(path)).close()  # it is up when its console is
            partners = [f"{party}/features" for role, party in tables.names.items() if role != BUSINESS]
            yield BusinessClient(parties[0], provider=partners)


def _each(given: Preparations | Sequence[Preparations | None] | None) -> list[Preparations | None]:
    """The preparation of each provider, as far as there are some."""
    if given is None or isinstance(given, Mapping):
        return [given]
    return list(given)


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
