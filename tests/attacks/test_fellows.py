"""A business that brings its own provider into a job with an honest one: what the two read of it, and who may refuse.

Masks and shares hold for parties that do not collude. A provider hands on link terms under the business's key that its
own scores went into, so whoever comes after it can have the business decrypt them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from messages import schemas
from paillier.vector import CipherVector
from protocol.contract import FurtherProvider
from protocol.policy import Policy, PolicyError, asks, decide, decide_scoring, read_policy
from services.tables.snapshot import unpack_snapshot
from tests.privacy.test_several_providers import handed
from tests.protocol.test_contract import contract
from tests.protocol.test_scoring_contract import scoring
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
    wanted = scoring(further=OTHERS)
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
