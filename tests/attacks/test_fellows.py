"""A business that brings its own provider into a job with an honest one: what the two read of it, and who may refuse.

Masks and shares hold for parties that do not collude. A provider hands on link terms under the business's key that its
own scores went into, so whoever comes after it can have the business decrypt them.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from messages import schemas
from paillier.vector import CipherVector
from protocol.contract import FurtherProvider
from protocol.policy import Decision, Policy, PolicyError, asks, decide, decide_scoring, read_policy
from services.tables.snapshot import unpack_snapshot
from services.tasks import FUNCTIONS, score
from services.tasks.compute import TaskResult
from tests.models.test_several_providers import Bureaux, partials, table_of
from tests.privacy.test_several_providers import handed
from tests.protocol.test_contract import contract
from tests.protocol.test_scoring_contract import scoring
from tests.services import pair as pairs
from tests.services.pair import Pair, Side
from tests.services.test_several_providers import Town, stage

ITERATION = 3
"""The scores of the first are zero."""


TOWN = Town(2, "linear", rows=70)


def chain(directory: Path, **policy: Any) -> Pair:
    """A linear job: the business, an honest provider, and after it one that tells the business all."""
    pair = stage(directory, TOWN, max_iterations=ITERATION)
    pair.sides[1].settings["policy"].update(policy)
    pair.run()
    return pair


def constants(pair: Pair, sender: Side, reader: Side) -> np.ndarray:
    """What the constants of one iteration's link terms decrypt to under the business's key, row by row."""
    key, found = pair.sides[0].cache["paillier key"], list[int]()
    for message in handed(pair, sender, reader):
        if message.iteration == ITERATION:
            plain = key.to_phe().raw_decrypt
            numbers = CipherVector.from_bytes(key.public, message.ciphertexts).to_ints()
            modulus = key.public.modulus
            signed = [(int(plain(int(number))) + modulus // 2) % modulus - modulus // 2 for number in numbers]
            found += signed[message.terms :: message.terms + 1]
    return np.array(found, dtype=float)


def of_columns(side: Side, numbers: np.ndarray) -> float:
    """How much of the numbers of all rows is a linear function of the first provider's columns."""
    snapshot = unpack_snapshot(side.blobs[side.state.snapshot.sha256])
    rows = np.frombuffer(side.blobs[side.state.align.rows.sha256], dtype="<i8")
    honest = TOWN.providers[0]
    places = [honest.identifiers.index(snapshot.identifiers[row]) for row in rows]
    given = np.column_stack([honest.values[places], np.ones(len(rows))])
    fitted = given @ np.linalg.lstsq(given, numbers, rcond=None)[0]
    return float(1.0 - np.var(numbers - fitted) / np.var(numbers))


def test_a_business_and_a_provider_after_it_read_an_honest_one_s_score_of_every_row(tmp_path: Path) -> None:
    """No bug and no rule broken in the messages: it is why a provider may say who comes after it."""
    pair = chain(tmp_path)
    business, honest, sybil = pair.sides
    assert honest.finish is not None
    assert honest.finish.outcome == "done"
    before, after = constants(pair, business, honest), constants(pair, honest, sybil)
    assert of_columns(honest, before) < 0.9, "the control: what the business sent says little of these columns"
    assert of_columns(honest, after - before) > 1.0 - 1e-6


def test_a_provider_that_trusts_nobody_after_it_hands_nothing_on(tmp_path: Path) -> None:
    pair = chain(tmp_path, later_fellows=[])
    business, honest, _ = pair.sides
    assert business.finish is not None
    assert (business.finish.outcome, business.finish.reason_code) == ("declined", "later_fellow_refused")
    assert f"let {honest.name} be the last of the providers" in business.finish.reason
    assert not honest.bodies
    assert not [message for message in honest.sent if isinstance(message, schemas.JobAccept)]


def test_the_last_provider_hands_nothing_on_but_masked_shares(tmp_path: Path) -> None:
    pair = chain(tmp_path)
    last = pair.sides[2]
    kinds = {(to, kind) for to, kind, *_ in last.handed}
    assert "link.terms" not in {kind for _, kind in kinds}
    assert ("business-a", "residual.share") in kinds


OTHERS = tuple(FurtherProvider(name=name, key=bytes(32), dataset="of-it") for name in ("bureau-b", "bureau-c"))
HERE = frozenset({"customers", "of-it", "people"})


@pytest.mark.parametrize(
    ("me", "policy", "code"),
    [
        ("provider-a", Policy(), ""),
        ("provider-a", Policy(fellows=("bureau-b", "bureau-c")), ""),
        ("provider-a", Policy(fellows=("bureau-b",)), "fellow_refused"),
        ("provider-a", Policy(fellows=()), "fellow_refused"),
        ("provider-a", Policy(later_fellows=("bureau-b",)), "later_fellow_refused"),
        ("provider-a", Policy(later_fellows=("bureau-b", "bureau-c")), ""),
        ("bureau-b", Policy(later_fellows=("provider-a",)), "later_fellow_refused"),
        ("bureau-c", Policy(later_fellows=()), ""),
        ("bureau-c", Policy(fellows=("provider-a",), later_fellows=()), "fellow_refused"),
    ],
)
def test_a_provider_says_beside_whom_it_takes_part_and_who_may_come_after_it(
    me: str, policy: Policy, code: str
) -> None:
    assert decide(contract(further=OTHERS), policy, HERE, provider=me).reason_code == code


def test_a_job_of_one_provider_has_no_fellows() -> None:
    alone = Policy(fellows=(), later_fellows=(), score_quota=10, ask_for=("fellows",))
    assert decide(contract(), alone, HERE).acceptable
    assert decide_scoring(scoring(), alone, HERE).acceptable
    assert asks(contract(), alone) == asks(scoring(), alone) == ()


def test_a_scoring_job_has_fellows_too_and_no_order() -> None:
    wanted = scoring(further=OTHERS, masks_bound=True)
    names = Policy(fellows=("bureau-b",), score_quota=10)
    assert decide_scoring(wanted, names, HERE).reason_code == "fellow_refused"
    assert decide_scoring(wanted, Policy(later_fellows=(), score_quota=10), HERE).acceptable


def test_the_steward_can_be_asked_about_every_job_with_others() -> None:
    policy = Policy(ask_for=("fellows",), score_quota=10)
    for wanted in (contract(further=OTHERS), scoring(further=OTHERS)):
        assert asks(wanted, policy) == ("ask_for names fellows",)


def test_names_of_fellows_are_texts() -> None:
    assert read_policy({"fellows": ["bureau-b"], "later_fellows": []}).default.later_fellows == ()
    with pytest.raises(PolicyError, match="fellows"):
        read_policy({"fellows": "bureau-b"})


# -- a business that pairs one provider's rows with another's ----------------------------------------------------------


def sums(bureaux: Bureaux, nonce: bytes, monkeypatch: pytest.MonkeyPatch, shift: int, *, masks_bound: bool) -> Any:
    """The sums of both providers' scores, of a job whose business tells the second one other places for the rows."""

    def join(context: Any, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
        result = FUNCTIONS["align.join"](context, arguments, inputs)
        places = np.frombuffer(result.blobs[2][0], dtype="<u4")
        body = np.roll(places, shift).astype("<u4").tobytes()
        digests = [result.output["digests"][0], hashlib.sha256(body).digest()]
        return TaskResult({**result.output, "digests": digests}, (*result.blobs[:2], (body, len(places))))

    for side in (bureaux.business, *bureaux.providers):
        side.finish, side.bodies, side.cache = None, [], {}
    with monkeypatch.context() as patched:
        patched.setattr(pairs, "FUNCTIONS", {**FUNCTIONS, "align.join": join})
        if not masks_bound:  # what a provider did before it asked for the binding
            patched.setattr(score, "decide_scoring", lambda *_, **__: Decision())
        pair = bureaux.start(nonce=nonce, masks_bound=masks_bound)
    assert all(side.finish is not None and side.finish.outcome == "done" for side in pair.sides)
    business = pair.sides[0]
    rows = np.frombuffer(business.blobs[business.state.align.rows.sha256], dtype="<i8")
    total = np.sum(list(partials(pair).values()), axis=0, dtype=np.uint64)
    # The common order is another in each job: by the business's own rows the two can be compared.
    return total[np.argsort(rows)], rows, pair


def test_a_provider_gives_no_sum_of_scores_under_masks_that_are_not_bound() -> None:
    policy = Policy(score_quota=10, stop_evaluations_max=2)
    told = {"validation": 0.25, "parts_commitment": bytes(32), "evaluate": ("validation",), "further": OTHERS}
    for decision in (
        decide_scoring(scoring(further=OTHERS), policy, HERE),
        decide(contract(**told), policy, HERE),
    ):
        assert decision.reason_code == "masks_unbound"
    assert decide_scoring(scoring(further=OTHERS, masks_bound=True), policy, HERE).acceptable
    assert decide(contract(**told, masks_bound=True), policy, HERE).acceptable
    assert decide(contract(further=OTHERS), policy, HERE).acceptable
    assert decide_scoring(scoring(), policy, HERE).acceptable


@pytest.mark.parametrize("masks_bound", [False, True])
def test_sums_of_rows_that_are_paired_otherwise_do_not_cancel_their_masks(
    masks_bound: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the binding, the difference of an honest sum and a shifted one is the second provider's alone."""
    bureaux = Bureaux(tmp_path, 2)
    honest, _, _ = sums(bureaux, b"nonce-01", monkeypatch, 0, masks_bound=masks_bound)
    shifted, rows, _ = sums(bureaux, b"nonce-02", monkeypatch, 1, masks_bound=masks_bound)
    second = bureaux.providers[1]
    names, values = table_of(1)
    own = np.rint(bureaux.versions[second.name].targets[0].scores(values) * 1000)
    of_row = {name: score for name, score in zip(names, own, strict=True)}
    scores = np.array([of_row[f"person-{row}"] for row in rows])
    alone = (np.roll(scores, 1) - scores)[np.argsort(rows)].astype(np.int64)
    read = (shifted - honest).astype(np.int64)
    assert np.abs(honest.astype(np.int64)).max() < 20_000, "an honest sum is one"
    if masks_bound:
        assert (np.abs(read) < 2**40).mean() < 0.1
    else:
        assert (read == alone).all(), "the control: differences of one provider's scores, row by row"
