"""The contract: canonical bytes, the rules that no policy can lift, and the policy itself."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.contract import ContractError, JobContract, contract_digest, encode_contract, job_id
from protocol.contract_rules import check_contract, decode_contract
from protocol.policy import Policy, PolicyError, decide, read_policy


def contract(**changes: object) -> JobContract:
    """A contract that everybody would sign, with changes."""
    fields: dict[str, object] = {
        "protocol_version": 1,
        "logic_version": 1,
        "leakage_version": 1,
        "nonce": b"12345678",
        "business": "business-a",
        "provider": "provider-a",
        "business_key": bytes(32),
        "provider_key": bytes(32),
        "business_dataset": "loans",
        "provider_dataset": "customers",
        "data_digest": bytes(32),
        "schema_digest": bytes(32),
        "business_rows": 4000,
        "business_columns": 13,
        "task": "logistic",
        "l2": 1e-4,
        "max_iterations": 30,
        "tolerance": 1e-3,
        "label_bound": 1.0,
        "psi_quota": 10_000,
        "expires_at": 2_000_000_000,
    }
    return JobContract(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_contract_survives_its_bytes() -> None:
    assert decode_contract(encode_contract(contract())) == contract()


def test_the_job_id_names_the_contract() -> None:
    first, second = encode_contract(contract()), encode_contract(contract(l2=2e-4))
    assert job_id(first).endswith(contract_digest(first).hex()[:16])
    assert job_id(first) != job_id(second)
    assert len(job_id(first)) <= 40


@given(st.binary(max_size=200))
def test_bytes_that_are_no_contract_are_refused_with_a_code(data: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        decode_contract(data)
    assert caught.value.code


def test_a_contract_with_an_unknown_field_is_refused() -> None:
    fields = msgspec.to_builtins(contract(), builtin_types=(bytes,))
    with pytest.raises(ContractError, match="surprise"):
        decode_contract(msgspec.msgpack.encode({**fields, "surprise": 1}))


def test_another_byte_form_of_the_same_contract_is_refused() -> None:
    fields = msgspec.to_builtins(contract(), builtin_types=(bytes,))
    shuffled = dict(reversed(fields.items()))
    with pytest.raises(ContractError, match="canonical"):
        decode_contract(msgspec.msgpack.encode(shuffled))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key_bits": 1024}, "key_too_short"),
        ({"validation": 0.2}, "parts_commitment"),
        ({"sample_set": "growing"}, "sample_set"),
        ({"folds": 5, "parts_commitment": bytes(32)}, "folds"),
        ({"penalties": (1e-3, 1e-4)}, "folds"),
        ({"folds": 5, "penalties": (1e-4, 1e-3), "parts_commitment": bytes(32)}, "folds"),
        ({"folds": 5, "penalties": (1e-2, 1e-3), "parts_commitment": bytes(32)}, "folds"),
        ({"folds": 5, "penalties": (1e-3, 1e-4), "parts_commitment": bytes(32), "l1": 0.1}, "folds"),
        ({"solver": "block", "l1": 0.1}, "sample_set"),
        ({"batches": 2, "parts_commitment": bytes(32)}, "sample_set"),
        (
            {"solver": "block", "sample_set": "fraction", "batches": 2, "parts_commitment": bytes(32)},
            "sample_set",
        ),
        ({"solver": "block", "max_iterations": 401}, "iterations"),
        (
            {"sample_set": "fraction", "batches": 2, "parts_commitment": bytes(32), "max_iterations": 65},
            "iterations",
        ),
        ({"parts_commitment": bytes(32)}, "parts_commitment"),
        ({"validation": 0.5, "test": 0.5, "parts_commitment": bytes(32)}, "parts"),
        ({"release_noise": 0.0}, "release_noise"),
        ({"release_noise": 0.01}, "release_noise"),
        ({"protocol_version": 2}, "version"),
        ({"logic_version": 7}, "version"),
        ({"leakage_version": 9}, "leakage_version"),
        ({"provider": "business-a"}, "parties"),
        ({"business_columns": 1}, "few_columns"),
    ],
)
def test_what_no_policy_can_allow_needs_its_mark(changes: dict[str, object], code: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_contract(contract(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "changes",
    [
        {"key_bits": 1024, "marks": ("insecure",)},
        {"release_noise": 0.0, "marks": ("small_sample",)},
        {"business_columns": 0, "marks": ("few_columns",)},
    ],
)
def test_the_mark_lifts_the_rule(changes: dict[str, object]) -> None:
    check_contract(contract(**changes))


HERE = frozenset({"customers"})


@pytest.mark.parametrize(
    ("policy", "changes", "code"),
    [
        (Policy(accept=False), {}, "partner_refused"),
        (Policy(), {"provider_dataset": "elsewhere"}, "dataset_unknown"),
        (Policy(datasets=("others",)), {}, "dataset_unknown"),
        (Policy(tasks=("linear",)), {}, "task_refused"),
        (Policy(), {"marks": ("small_sample",)}, "mark_refused"),
        (Policy(max_iterations=5), {}, "iterations_refused"),
        (Policy(key_bits_min=3072), {}, "key_too_short"),
        (Policy(psi_quota=100), {}, "psi_quota"),
        (Policy(release_noise_min=0.25), {}, "release_noise"),
    ],
)
def test_a_policy_declines_with_a_code_of_its_own(policy: Policy, changes: dict[str, object], code: str) -> None:
    decision = decide(contract(**changes), policy, HERE)
    assert not decision.acceptable
    assert decision.reason_code == code
    assert decision.reason


def test_the_default_policy_accepts_a_plain_contract() -> None:
    assert decide(contract(), Policy(), HERE).acceptable


def test_a_partner_can_be_treated_differently() -> None:
    book = read_policy({"marks": ["small_sample"], "partner": {"business-b": {"marks": []}}})
    marked = contract(marks=("small_sample",))
    assert decide(marked, book.of("business-a"), HERE).acceptable
    assert not decide(marked, book.of("business-b"), HERE).acceptable


def test_a_misspelt_key_in_a_policy_is_named() -> None:
    with pytest.raises(PolicyError, match="iteration_max"):
        read_policy({"iteration_max": 3})
    with pytest.raises(PolicyError, match="key partner"):
        read_policy({"partner": "business-b"})


def test_a_contract_with_text_that_is_no_utf_8_is_malformed():
    data = encode_contract(contract()).replace(b"logistic", b"logisti\xf0")
    with pytest.raises(ContractError) as caught:
        decode_contract(data)
    assert caught.value.code == "contract_malformed"
