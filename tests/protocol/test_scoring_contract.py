"""The scoring contract: one byte form, its own kind, bounded, and refused by name."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.contract import ContractError, FurtherProvider, JobContract, contract_digest, encode_contract, job_id
from protocol.machines import answering_role
from protocol.policy import Policy, decide_scoring
from protocol.scoring_contract import (
    ScoringContract,
    decode_any,
    decode_scoring,
    encode_scoring,
    kind_of_contract,
    read_any,
)
from services.daemon.serve import expiry_of, parties_of
from tests.protocol.test_contract import contract


def scoring(**changes: object) -> ScoringContract:
    fields = {
        "protocol_version": 1,
        "logic_version": 1,
        "leakage_version": 1,
        "nonce": b"12345678",
        "business": "bank",
        "provider": "bureau",
        "business_key": bytes(32),
        "provider_key": bytes(32),
        "provider_dataset": "people",
        "model": "model-1",
        "model_digest": bytes(32),
        "data_digest": bytes(32),
        "business_rows": 50,
        "score_quota": 50,
        "psi_quota": 1000,
        "expires_at": 2**40,
    }
    return ScoringContract(**{**fields, **changes})  # type: ignore[arg-type]


def test_each_kind_is_read_as_what_it_is_and_answered_by_its_own_machine() -> None:
    trained, scored = encode_contract(contract()), encode_scoring(scoring())
    assert isinstance(read_any(trained), JobContract)
    assert isinstance(read_any(scored), ScoringContract)
    assert (answering_role(trained), answering_role(scored)) == ("provider", "scoring-provider")
    assert job_id(scored).endswith(contract_digest(scored).hex()[:16])
    assert expiry_of(scored) == 2**40
    assert parties_of(scored) == ("bank", "bureau")


def test_the_bytes_are_canonical_and_survive() -> None:
    agreed = scoring(further=(FurtherProvider(name="shop", key=bytes(32), dataset="people"),), mode="lookup")
    data = encode_scoring(agreed)
    assert decode_scoring(data) == agreed
    assert agreed.providers == ("bureau", "shop")
    fields = msgspec.msgpack.decode(data)
    other = msgspec.msgpack.encode(dict(reversed(fields.items())))
    with pytest.raises(ContractError, match="canonical"):
        decode_scoring(other)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"protocol_version": 2}, "version"),
        ({"logic_version": 9}, "version"),
        ({"leakage_version": 9}, "leakage_version"),
        ({"provider": "bank"}, "parties"),
        ({"further": (FurtherProvider(name="bureau", key=bytes(32), dataset="people"),)}, "parties"),
        ({"mode": "lookup", "expires_at": 0}, "expiry_missing"),
    ],
)
def test_a_contract_that_nobody_may_sign_is_refused_by_code(changes: dict[str, object], code: str) -> None:
    with pytest.raises(ContractError) as refused:
        decode_any(encode_scoring(scoring(**changes)))
    assert refused.value.code == code


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_only_a_contract_error_comes_out(data: bytes) -> None:
    for body in (data, encode_scoring(scoring())[: len(data)] + data):
        assert isinstance(kind_of_contract(body), str)
        assert answering_role(body) in ("provider", "scoring-provider")
        try:
            decode_any(body)
        except ContractError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize(
    ("policy", "changes", "code"),
    [
        (Policy(score_quota=1), {}, ""),
        (Policy(), {}, "scoring_refused"),
        (Policy(score_quota=1, accept=False), {}, "partner_refused"),
        (Policy(score_quota=1, datasets=("other",)), {}, "dataset_unknown"),
        (Policy(score_quota=1), {"provider_dataset": "nothing"}, "dataset_unknown"),
        (Policy(score_quota=1), {"retention": "full"}, "retention_refused"),
        (Policy(score_quota=1, psi_quota=10), {}, "psi_quota"),
    ],
)
def test_a_policy_decides_by_code(policy: Policy, changes: dict[str, object], code: str) -> None:
    decision = decide_scoring(scoring(**changes), policy, frozenset({"people"}))
    assert decision.reason_code == code
    assert decide_scoring(scoring(**changes), policy, frozenset({"people"}), provider="nobody").reason_code
