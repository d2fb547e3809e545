"""Whole jobs with the real machines and tasks, and what one party sees and holds of one.

A `Transcript` has what that party has: every message it received, opened, its own tasks with their inputs, its own
keys and secret. Attacks read nothing else. `Recorded.labels` is for the judge alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import polars as pl
from numpy.typing import NDArray

from messages import codec, schemas, seal
from messages.envelope import PROTOCOL_VERSION
from paillier import packing
from paillier.budget import BitBudget
from paillier.keys import PrivateKey, PublicKey
from protocol.contract import encode_contract, job_id
from protocol.effects import Finish
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table
from services.tasks import FUNCTIONS, keyring
from services.tasks.compute import TaskContext, TaskResult
from services.tasks.features import matrix_of
from tests.parties import EXAMPLES
from tests.protocol.test_contract import contract
from tests.services import pair as pairs
from tests.services.pair import Pair, Side, two_sides

M = TypeVar("M", bound=schemas.Message)
Cheats = Mapping[str, Callable[[TaskContext, dict[str, Any], tuple[bytes, ...]], TaskResult]]


@dataclass(frozen=True)
class Task:
    """A task of a party: what went in, what came out."""

    name: str
    arguments: dict[str, Any]
    inputs: tuple[bytes, ...]
    context: TaskContext
    result: TaskResult


@dataclass
class Transcript:
    """One party's view of a job."""

    received: list[schemas.Message]
    sent: list[schemas.Message]
    tasks: list[Task]

    def messages(self, kind: type[M]) -> list[M]:
        """What it received of one kind, in the order of iterations and rows."""
        found = [message for message in self.received if isinstance(message, kind)]
        return sorted(found, key=lambda m: (getattr(m, "iteration", 0), getattr(m, "first_row", 0)))

    def of(self, name: str) -> list[Task]:
        """Its own tasks of one name, in the order in which they ran."""
        return [task for task in self.tasks if task.name == name]

    @property
    def facts(self) -> dict[str, Any]:
        """The job as its tasks know it."""
        facts: dict[str, Any] = self.of("score")[0].arguments["job"]
        return facts

    @property
    def budget(self) -> BitBudget:
        return keyring.budget_of(self.facts)

    @property
    def key(self) -> PrivateKey:
        """The own Paillier key."""
        return keyring.private_key(self.tasks[-1].context, self.facts["key_bits"], insecure=self.facts["insecure"])

    @property
    def partner_key(self) -> PublicKey:
        return PublicKey(int.from_bytes(self.facts["partner_modulus"], "little"))

    @property
    def own_rows(self) -> NDArray[np.int64]:
        """The rows of the own table, in the job's order."""
        return np.frombuffer(self.of("align.match")[0].result.blobs[0][0], dtype="<i8")

    @property
    def matrix(self) -> NDArray[np.int64]:
        """The own quantised columns (n, d), in the job's order."""
        data = self.of("features.quantise")[0].result.blobs[0][0]
        return matrix_of(data, self.facts["own_columns"]).astype(np.int64)

    def gradient(self, iteration: int = 1) -> list[int]:
        """The own gradient of an iteration as the integers that the protocol releases: column sums of residuals."""
        (task,) = [task for task in self.of("gradient") if task.arguments["iteration"] == iteration]
        vector = keyring.owner(task.context, self.facts).decrypt(self.ciphertexts(task.arguments["ciphertexts"]))
        local = [int.from_bytes(part, "little", signed=True) for part in task.arguments["local"]]
        noise = self.facts["release_noise"]
        return packing.read_gradient(
            vector, self.facts["own_columns"], self.budget, self.key.public.modulus, local, release_noise=noise
        )

    def label_sums(self) -> NDArray[np.float64]:
        """`sum_i x_ij y_i` per column with the release noise, from the first gradient: then r = 1/2 - y."""
        sums = np.array([entry / self.budget.unit for entry in self.gradient(1)])
        return self.matrix.sum(axis=0) / 2 - sums

    def ciphertexts(self, data: bytes) -> Any:
        """Bytes of ciphertexts under the own key."""
        from paillier.vector import CipherVector

        return CipherVector.from_bytes(self.key.public, data)


@dataclass
class Recorded:
    """A job that has ended: both parties' views, how it ended, and what only the judge of an attack may know."""

    business: Transcript
    provider: Transcript
    ends: dict[str, Finish]
    labels: NDArray[np.int64] = field(repr=False)


def example(name: str, first: int, rows: int, business: slice, provider: slice) -> tuple[Table, Table]:
    """Rows of an example, its columns (the business's, then the provider's) dealt out anew."""
    tables = [pl.read_parquet(EXAMPLES / name / f"{who}.parquet") for who in ("business", "provider")]
    joined = tables[0].join(tables[1], on="id", suffix="_p", maintain_order="left").slice(first, rows)
    values = joined.drop("id", "y").to_numpy().astype(float)
    label = joined["y"].to_numpy().astype(float)
    identifiers = [str(one) for one in joined["id"].to_list()]
    return table(identifiers, values[:, business], label), table(identifiers, values[:, provider])


def table(identifiers: list[str], values: NDArray[np.float64], label: NDArray[np.float64] | None = None) -> Table:
    """A table; columns that do not vary in these rows are left out."""
    varies = [j for j in range(values.shape[1]) if len(set(values[:, j].tolist())) > 1]
    kept = np.ascontiguousarray(values[:, varies])
    return Table(identifiers=identifiers, columns=tuple(f"c{j}" for j in varies), values=kept, label=label)


def run_job(
    directory: Path, business: Table, provider: Table, *, seed: int = 0, cheats: Cheats | None = None, **changes: Any
) -> Recorded:
    """Run a job to its end and record it. `cheats` replace tasks of the provider; `changes` are of the contract.

    Another job in the same directory is another job of the same two parties: their ledgers stay.
    """
    directory.mkdir(exist_ok=True)
    pair = _submit(directory, business, provider, seed, changes)
    tasks: dict[str, list[Task]] = {side.name: [] for side in pair.sides}
    with _recording(tasks, cheats or {}):
        pair.run()
    views = [_view(side, other, tasks[side.name]) for side, other in (pair.sides, pair.sides[::-1])]
    assert business.label is not None
    matched = views[0].of("align.match")
    rows = views[0].own_rows if matched else np.arange(len(business.label))
    ends = {side.role: side.finish for side in pair.sides if side.finish is not None}
    return Recorded(views[0], views[1], ends, business.label[rows].astype(np.int64))


def _submit(directory: Path, business: Table, provider: Table, seed: int, changes: dict[str, Any]) -> Pair:
    source = directory / f"provider-{seed}.csv"
    pl.DataFrame(
        {"id": provider.identifiers, **dict(zip(provider.columns, provider.values.T.tolist(), strict=True))}
    ).write_csv(source)
    marks = tuple(changes.get("marks", ("insecure", "small_sample")))
    settings = {
        "policy": {"marks": ["insecure", "small_sample", "few_columns"]},
        "datasets": {"customers": {"source": str(source), "id": "id"}},
        "noise_seed": "",
    }
    sides = two_sides(directory, settings, f"{directory.name}/{seed}")
    fields = {
        "business_key": sides[0].identity.public.digest(),
        "provider_key": sides[1].identity.public.digest(),
        "business_rows": len(business.identifiers),
        "business_columns": len(business.columns),
        "nonce": seed.to_bytes(8, "big"),
        "l2": 1e-2,
        "max_iterations": 1,
        "tolerance": 1e-6,
        "key_bits": 512,
        "chunk_rows_max": 200,
        "align_chunk_items": 4000,
    }
    data = encode_contract(contract(**{**fields, **changes, "marks": marks}))
    pair = Pair(sides[0], sides[1], seed=seed)
    pair.start(job_id(data), data, pack_snapshot(business), len(business.identifiers))
    return pair


@contextmanager
def _recording(tasks: dict[str, list[Task]], cheats: Cheats) -> Iterator[None]:
    def recorded(name: str) -> Any:
        def run(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
            function = cheats.get(name) if context.party == "provider-a" else None
            result = (function or FUNCTIONS[name])(context, arguments, inputs)
            tasks[context.party].append(Task(name, arguments, inputs, context, result))
            return result

        return run

    with patch.object(pairs, "FUNCTIONS", {name: recorded(name) for name in FUNCTIONS}):
        yield


def _view(side: Side, other: Side, tasks: list[Task]) -> Transcript:
    return Transcript([*other.sent, *_opened(other, side)], [*side.sent, *_opened(side, other)], tasks)


def _opened(sender: Side, reader: Side) -> Iterator[schemas.Message]:
    for kind, chunk, chunks, sealed in sender.bodies:
        info = seal.seal_info(PROTOCOL_VERSION, sender.state.job, sender.name, reader.name, kind, chunk, chunks)
        yield codec.decode(seal.unseal(sealed, reader.identity, info))
