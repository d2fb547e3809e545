"""What a contract grants whom to receive, with one provider and with several."""

import itertools
from typing import Any

import pytest

from protocol.contract import FurtherProvider, JobContract, encode_contract
from protocol.grants import GRANTED, granted
from protocol.machines import ROLES
from protocol.senders import may_send
from protocol.state import BUSINESS, PROVIDER, JobState
from protocol.steps import change
from tests.protocol.test_contract import contract

NAMES = ("provider-a", "provider-b", "provider-c")
AT_WILL = {"parts.seed", "curvature.block", "model.part", "score.partial", "stop.decision"}
"""Kinds of what a contract may ask for: where it does not, their handlers refuse them."""


def of_providers(count: int, **fields: Any) -> JobContract:
    """A contract with so many providers."""
    further = tuple(FurtherProvider(name=name, key=bytes(32), dataset="rows") for name in NAMES[1:count])
    return contract(further=further, **fields)


def state_of(agreed: JobContract, me: str) -> JobState:
    """A party's state when it has the contract."""
    role = BUSINESS if me == agreed.business else PROVIDER
    others = tuple(name for name in agreed.parties if name != me)
    return change(ROLES[role].initial("job-1", me, others), contract=encode_contract(agreed))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_machine_takes_from_a_party_what_the_contract_grants_and_nothing_else(count: int) -> None:
    agreed = of_providers(count)
    for receiver, sender in itertools.permutations(agreed.parties, 2):
        role = BUSINESS if receiver == agreed.business else PROVIDER
        state = state_of(agreed, receiver)
        taken = {kind for kind in GRANTED[role] if may_send(state, sender, kind)}
        expected = granted(agreed, receiver, sender)
        assert expected <= taken
        assert taken - expected <= AT_WILL, (receiver, sender)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_decisions_to_stop_come_from_the_business_in_jobs_that_ask_for_them(count: int) -> None:
    asked = {"stop_metric": "auc", "patience": 1, "stop_every": 1, "stop_evaluations_max": 2}
    for agreed, wanted in ((of_providers(count), False), (of_providers(count, **asked), True)):
        for receiver, sender in itertools.permutations(agreed.parties, 2):
            kinds = granted(agreed, receiver, sender)
            assert ("stop.decision" in kinds) == (wanted and sender == agreed.business)
            assert ("score.partial" in kinds) == (wanted and receiver == agreed.business)


def test_nobody_but_the_one_before_hands_link_terms_on() -> None:
    agreed = of_providers(3)
    chain = agreed.parties
    pairs = {
        (one, other) for one, other in itertools.permutations(chain, 2) if "link.terms" in granted(agreed, other, one)
    }
    assert pairs == set(itertools.pairwise(chain))


def test_residuals_and_scores_go_to_the_business_alone() -> None:
    agreed = of_providers(3)
    for receiver, sender in itertools.permutations(agreed.parties, 2):
        kinds = granted(agreed, receiver, sender)
        assert ("score.range" in kinds) == (receiver == agreed.business)
        assert ("residual.share" in kinds) == ((sender, receiver) == ("provider-c", agreed.business))
        assert "step.products" not in kinds
        assert "align.echo" not in kinds or receiver == agreed.business
