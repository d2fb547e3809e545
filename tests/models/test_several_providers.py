"""Scoring with several providers: the business learns the sum of their scores, and of nobody's alone."""

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from learning.links import projections
from messages import codec
from messages.schemas import ScorePartial
from protocol.contract import FurtherProvider, contract_digest, encode_contract, job_id
from protocol.grants import GRANTED
from protocol.scoring_contract import Mode, ScoringContract, encode_scoring
from protocol.state import Phase
from services.models.store import ModelStore
from services.models.version import ModelVersion, make_version
from services.tables.snapshot import pack_identifiers
from services.tasks.score import Index
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, Side, a_side

PEOPLE, SCORED = 80, 60
COLUMNS = ("one", "two")


def table_of(place: int) -> tuple[list[str], np.ndarray]:
    """A provider's people, some of whom are its own, in an order of its own."""
    generator = np.random.default_rng(place)
    names = [f"person-{number}" for number in range(PEOPLE)] + [f"stranger-{place}-{number}" for number in range(9)]
    order = generator.permutation(len(names))
    return [names[row] for row in order], generator.normal(size=(len(names), 2))


def part(side: Side, trained: bytes, role: str) -> ModelVersion:
    """A model version as training would have made it."""
    weights = np.random.default_rng(len(side.name) + ord(side.name[-1])).normal(size=2).round(3).tolist()
    parameters = {
        "task": "logistic",
        "role": role,
        "rows": PEOPLE,
        "coefficients": dict(zip(COLUMNS, weights, strict=True)),
        "grid": {column: {"centre": 0.0, "step": 1e-4} for column in COLUMNS},
    }
    version = make_version(
        model=job_id(trained),
        party=side.name,
        role=role,
        contract=trained,
        parameters=msgspec.json.encode(parameters),
        history=b"{}",
        data_digest=b"",
        software_version="1",
        logic_version=1,
        length=1,
        head=bytes(32),
        created_at=1.0,
    )
    ModelStore(side.directory).add(version)
    return version


class Bureaux:
    """A business and several providers that have trained a model."""

    def __init__(self, directory: Path, count: int) -> None:
        self.providers = []
        for place in range(count):
            name = f"provider-{'cab'[place]}"
            names, values = table_of(place)
            source = directory / f"{name}.csv"
            pl.DataFrame({"id": names, "one": values[:, 0], "two": values[:, 1]}).write_csv(source)
            settings = {
                "policy": {"score_quota": 1000},
                "datasets": {"people": {"source": str(source), "id": "id"}},
            }
            self.providers.append(a_side(directory / name, name, "scoring-provider", settings, f"secret of {name}"))
        self.business = a_side(
            directory / "business", "business-a", "scoring-business", {"policy": {}, "datasets": {}}, "secret"
        )
        chain = [FurtherProvider(name=s.name, key=s.identity.public.digest(), dataset="people") for s in self.providers]
        self.parties: dict[str, Any] = {
            "business": "business-a",
            "business_key": self.business.identity.public.digest(),
            "provider": chain[0].name,
            "provider_key": chain[0].key,
            "provider_dataset": "people",
            "further": tuple(chain[1:]),
        }
        self.trained = encode_contract(contract(**self.parties))
        self.versions = {side.name: part(side, self.trained, "provider") for side in self.providers}
        part(self.business, self.trained, "business")

    def own_scores(self) -> np.ndarray:
        return np.linspace(-1.0, 1.0, SCORED)

    def start(
        self, mode: Mode = "batch", nonce: bytes = b"nonce-00", seed: int = 0, *, masks_bound: bool = True
    ) -> Pair:
        """All parties of a scoring job, submitted."""
        agreed = encode_scoring(
            ScoringContract(
                protocol_version=1,
                logic_version=1,
                leakage_version=1,
                nonce=nonce,
                model=job_id(self.trained),
                model_digest=contract_digest(self.trained),
                mode=mode,
                data_digest=bytes(32),
                business_rows=SCORED,
                score_quota=SCORED,
                psi_quota=1000,
                align_chunk_items=25,
                chunk_rows_max=20,
                expires_at=2**40,
                masks_bound=masks_bound,
                **self.parties,
            )
        )
        names = [f"person-{number}" for number in range(SCORED - 3)] + ["nobody-1", "nobody-2", "nobody-3"]
        pair = Pair(self.business, *self.providers, seed=seed)
        own = self.own_scores().astype("<f8").tobytes()
        pair.start(job_id(agreed), agreed, pack_identifiers(names), SCORED, more=(own,))
        pair.run()
        return pair

    def expected(self) -> dict[str, float]:
        """The sum of all scores by name, rounded where they are in the protocol."""
        total = {f"person-{number}": score for number, score in enumerate(self.own_scores()[: SCORED - 3])}
        for place, side in enumerate(self.providers):
            names, values = table_of(place)
            scores = np.rint(self.versions[side.name].targets[0].scores(values) * 1000) / 1000
            for name, score in zip(names, scores, strict=True):
                if name in total:
                    total[name] += score
        return total


def partials(pair: Pair) -> dict[str, np.ndarray]:
    """What the business could read of each provider: its opened values."""
    found: dict[str, np.ndarray] = {}
    for name, bodies in opened(pair).items():
        found[name] = np.concatenate([projections.from_bytes(body.values) for body in bodies])
    return found


def opened(pair: Pair) -> dict[str, list[ScorePartial]]:
    from messages import seal
    from messages.seal import seal_info

    found = {}
    business = pair.sides[0]
    for side in pair.sides[1:]:
        bodies = []
        for kind, chunk, chunks, data in side.bodies:
            if kind == "score.partial":
                info = seal_info(1, side.state.job, side.name, business.name, kind, chunk, chunks)
                message = codec.decode(seal.unseal(data, business.identity, info))
                assert isinstance(message, ScorePartial)
                bodies.append(message)
        found[side.name] = bodies
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_business_has_the_sum_of_all_scores(tmp_path: Path, count: int, seed: int) -> None:
    bureaux = Bureaux(tmp_path, count)
    pair = bureaux.start(seed=seed)
    assert [side.finish and side.finish.outcome for side in pair.sides] == ["done"] * (count + 1)
    finish = pair.sides[0].finish
    assert finish is not None
    scores = pl.read_csv(io.BytesIO(pair.sides[0].blobs[finish.results[0].sha256]))
    assert dict(zip(scores["id"], scores["score"], strict=True)) == pytest.approx(bureaux.expected(), abs=1e-9)
    unmatched = pl.read_csv(io.BytesIO(pair.sides[0].blobs[finish.results[1].sha256]))
    assert unmatched["id"].to_list() == ["nobody-1", "nobody-2", "nobody-3"]


def test_what_a_single_provider_sends_is_uniform_and_another_in_each_job(tmp_path: Path) -> None:
    bureaux = Bureaux(tmp_path, 3)
    first = partials(bureaux.start(nonce=b"nonce-01"))
    for side in (bureaux.business, *bureaux.providers):
        side.finish, side.bodies, side.cache = None, [], {}
    second = partials(bureaux.start(nonce=b"nonce-02"))
    for name in first:
        # A score is a small number of either sign; under its mask the high bits are those of chance.
        assert len(first[name]) == SCORED - 3
        assert (first[name] >> np.uint64(56)).std() > 40
        assert not (first[name] == second[name]).any()
        assert len(np.unique(first[name])) == SCORED - 3
    for job in (first, second):
        names = list(job)
        for left_out in names:
            alone = sum(job[name] for name in names if name != left_out)
            assert (alone >> np.uint64(56)).std() > 40  # two of three tell no more than one
        total = projections.from_units(sum(job[name] for name in names), 1e-3)
        assert np.abs(total).max() < 20


def test_providers_say_nothing_to_each_other_but_the_keys_of_their_masks(tmp_path: Path) -> None:
    pair = Bureaux(tmp_path, 3).start()
    for side in pair.sides:
        kinds = {codec.kind_of(message) for other in pair.sides if other is not side for message in other.sent}
        assert kinds <= GRANTED["scoring-business"] | GRANTED["scoring-provider"]
    heard = {"score.partial", "align.echo", "align.list"}
    for side in pair.sides[1:]:
        assert {kind for kind, *_ in side.bodies} == heard


def test_single_rows_of_several_providers_add_up_to_the_same_sum(tmp_path: Path) -> None:
    bureaux = Bureaux(tmp_path, 3)
    pair = bureaux.start(mode="lookup")
    assert {side.state.phase for side in pair.sides} == {Phase.SERVING}
    business = pair.sides[0]
    index = msgspec.msgpack.decode(business.blobs[business.state.scoring.held.sha256], type=Index)
    held = [projections.from_bytes(side.blobs[side.state.scoring.held.sha256]) for side in pair.sides[1:]]
    places = np.frombuffer(index.places, dtype="<i8")
    sums = projections.from_units(np.sum(held, axis=0, dtype=np.uint64), index.unit)[places]
    total = np.frombuffer(index.scores, dtype="<f8") + sums
    assert sorted(total.tolist()) == pytest.approx(sorted(bureaux.expected().values()), abs=1e-9)
    assert all((values >> np.uint64(56)).std() > 40 for values in held)
