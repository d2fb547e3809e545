"""What a policy asks its steward about, and a contract in plain words."""

import pytest

from protocol.contract import MARKS, encode_contract
from protocol.plain import plain_contract, sentences
from protocol.policy import Policy, PolicyError, asks, decide, read_policy
from tests.protocol.test_contract import contract
from tests.protocol.test_scoring_contract import scoring

ASKED = {
    "marks": {"marks": ("few_columns",)},
    "inference": {"inference": True},
    "whole_model": {"whole_model": True},
    "evaluate": {"evaluate": ("training",)},
    "stop_metric": {"stop_metric": "auc", "patience": 2, "stop_every": 1, "stop_evaluations_max": 3},
    "retention": {"retention": "full"},
}


def test_a_policy_that_says_nothing_of_it_asks_nobody() -> None:
    assert asks(contract(), Policy()) == ()
    assert asks(scoring(), Policy()) == ()


def test_a_policy_may_ask_about_every_contract() -> None:
    for wanted in (contract(), scoring()):
        assert asks(wanted, Policy(approval="ask")) == ('the policy asks about every contract (approval = "ask")',)


def test_a_limit_is_exceeded_by_more_than_itself_and_named_with_the_number() -> None:
    assert asks(contract(), Policy(automatic_rows_max=4000, automatic_iterations_max=30)) == ()
    assert asks(contract(), Policy(automatic_rows_max=3999, automatic_iterations_max=29)) == (
        "4000 identifiers are more than automatic_rows_max = 3999",
        "30 iterations are more than automatic_iterations_max = 29",
    )
    rows = scoring().business_rows
    assert asks(scoring(), Policy(automatic_scores_max=rows)) == ()
    assert asks(scoring(), Policy(automatic_scores_max=rows - 1)) == (
        f"{rows} rows to score are more than automatic_scores_max = {rows - 1}",
    )


@pytest.mark.parametrize("name", ASKED)
def test_what_is_named_is_asked_about_where_the_contract_has_it_and_only_there(name: str) -> None:
    policy = Policy(ask_for=(name,))  # type: ignore[arg-type]
    assert asks(contract(**ASKED[name]), policy) == (f"ask_for names {name}",)
    assert asks(contract(), policy) == ()


def test_scoring_can_be_asked_about_by_name() -> None:
    assert asks(scoring(), Policy(ask_for=("scoring",))) == ("ask_for names scoring",)


@pytest.mark.parametrize("table", [{"approval": "maybe"}, {"ask_for": ["everything"]}, {"automatic_rows_max": -1}])
def test_a_policy_that_asks_in_other_words_is_refused_by_key(table: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match=next(iter(table))):
        read_policy(table)


@pytest.mark.parametrize(
    ("fields", "policy", "key"),
    [
        ({"task": "poisson"}, Policy(tasks=("linear",)), "tasks = linear"),
        ({"marks": ("few_columns",)}, Policy(), "marks = nothing"),
        ({"max_iterations": 200}, Policy(), "max_iterations = 100"),
        ({"retention": "full"}, Policy(), "retention = digests"),
        ({"inference": True}, Policy(), "inference = false"),
        ({"whole_model": True}, Policy(), "whole_model = false"),
        ({}, Policy(key_bits_min=3072), "key_bits_min = 3072"),
        ({}, Policy(release_noise_min=0.5), "release_noise_min = 0.5"),
        ({}, Policy(accept=False), "accept = false"),
        ({}, Policy(psi_quota=3), "psi_quota of policy and contract, 3"),
    ],
)
def test_what_the_policy_refuses_it_refuses_naming_its_key_and_limit(
    fields: dict[str, object], policy: Policy, key: str
) -> None:
    wanted = contract(**fields)
    assert key in decide(wanted, policy, frozenset({wanted.provider_dataset})).reason


def test_a_contract_in_plain_words_names_parties_data_sets_rows_caps_and_expiry() -> None:
    text = " ".join(sentences(contract(validation=0.25, parts_commitment=bytes(32))))
    for words in (
        "business-a asks provider-a",
        "4,000 rows and 13 columns of its data set loans",
        "provider-a uses its data set customers",
        "at least 1,000",
        "25% for validation",
        "At most 30 iterations",
        "2,048 bits",
        "at most 10,000",
        "expires on 2033-05-18 at 03:33 UTC",
    ):
        assert words in text


def test_plain_words_say_what_is_out_of_the_ordinary_and_nothing_of_it_otherwise() -> None:
    plain = sentences(contract())
    for name, fields in ASKED.items():
        more = sentences(contract(**fields))
        assert len(more) > len(plain), name
    text = " ".join(sentences(contract(marks=("small_sample",))))
    assert MARKS["small_sample"] in text
    assert "fewer rows than the privacy rules ask for" in text
    assert "does not expire" in " ".join(sentences(contract(expires_at=0)))


def test_a_scoring_contract_has_plain_words_of_its_own() -> None:
    text = " ".join(sentences(scoring()))
    assert f"{scoring().business_rows:,} rows with the model that job {scoring().model} trained" in text
    assert "once" in text
    assert "single rows until the job ends" in " ".join(sentences(scoring(mode="lookup")))


def test_bytes_that_are_no_contract_are_told_so() -> None:
    assert plain_contract(b"\x93")[0].startswith("The contract cannot be read")
    assert plain_contract(encode_contract(contract())) == sentences(contract())
