"""New keys are taken from whoever held the former ones, and from nobody else."""

import json

import pytest

from messages.handover import HandoverError, follow, hand_over, party_of
from messages.identity import Identity

FIRST, SECOND, THIRD = (Identity.generate("bank") for _ in range(3))
THIEF, OTHER = Identity.generate("bank"), Identity.generate("shop")


def test_who_knows_the_former_keys_is_led_to_the_new_ones_over_any_number_of_steps() -> None:
    once = hand_over(FIRST, SECOND)
    twice = hand_over(SECOND, THIRD, once)
    assert follow(once, FIRST.public) == SECOND.public
    assert follow(twice, FIRST.public) == follow(twice, SECOND.public) == follow(twice, THIRD.public) == THIRD.public
    assert party_of(twice) == "bank"


def test_a_chain_that_begins_elsewhere_leads_nowhere() -> None:
    with pytest.raises(HandoverError, match="no step of this file begins at the keys that are known of bank"):
        follow(hand_over(SECOND, THIRD), FIRST.public)


@pytest.mark.parametrize("field", ["signature", "proof"])
def test_a_step_that_one_of_both_did_not_sign_is_refused(field: str) -> None:
    signed = json.loads(hand_over(FIRST, SECOND))
    signed["steps"][0][field] = json.loads(hand_over(THIEF, THIRD))["steps"][0][field]
    with pytest.raises(HandoverError, match="did not sign this"):
        follow(json.dumps(signed).encode(), FIRST.public)


def test_a_signature_for_other_keys_does_not_serve_a_thief() -> None:
    forged = json.loads(hand_over(FIRST, SECOND))
    forged["steps"][0]["fresh"] = json.loads(THIEF.public.to_json())
    with pytest.raises(HandoverError, match="former keys of bank did not sign"):
        follow(json.dumps(forged).encode(), FIRST.public)


def test_a_name_is_not_handed_over() -> None:
    with pytest.raises(HandoverError, match="cannot hand over to shop"):
        follow(hand_over(FIRST, OTHER), FIRST.public)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"format": "warren handover 1", "steps": []}', FIRST.to_bytes()]
)
def test_what_is_no_hand_over_is_refused_without_showing_it(data: bytes) -> None:
    with pytest.raises(HandoverError) as refused:
        follow(data, FIRST.public)
    assert json.loads(FIRST.to_bytes())["sign"] not in str(refused.value)


def test_a_hand_over_holds_no_private_key() -> None:
    text = hand_over(FIRST, SECOND).decode()
    for identity in (FIRST, SECOND):
        private = json.loads(identity.to_bytes())
        assert not any(private[field] in text for field in ("sign", "receive_x25519", "receive_mlkem768"))
