"""What a party lets its partners ask for: `policy.toml`, decided before any of its data is touched.

```toml
tasks = ["logistic", "linear", "poisson", "gamma", "tweedie"]
marks = ["small_sample"]          # marks that this party accepts in a contract
datasets = ["customers"]          # empty: all that party.toml names
max_iterations = 100
key_bits_min = 2048
release_noise_min = 0.03125
psi_quota = 10000000              # points evaluated for one partner in one contract period
intersection_min = 1
retention = ["digests"]           # add "full" to let a job be kept whole for an audit
score_quota = 0                   # rows that may be scored for one partner in one period, over all models; 0: none
score_period_days = 30
whole_model = false               # hand the own coefficients, column names and grid over to the business at the end
inference = false                 # standard errors after training: docs/inference.md says what they tell the partner

[partner.business-a]              # overrides for one partner; a partner that is not listed gets the above
marks = []
```
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from protocol.contract import JobContract, Mark, Retention, Task
from protocol.scoring_contract import ScoringContract


class PolicyError(ValueError):
    """A policy file that cannot be used: names the key and what is wrong with it."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one partner may ask for."""

    accept: bool = True
    tasks: tuple[Task, ...] = ("logistic", "linear", "poisson", "gamma", "tweedie")
    marks: tuple[Mark, ...] = ()
    datasets: tuple[str, ...] = ()
    max_iterations: int = 100
    key_bits_min: int = 2048
    release_noise_min: float = 1 / 32
    psi_quota: int = 10_000_000
    intersection_min: int = 1
    retention: tuple[Retention, ...] = ("digests",)
    score_quota: Annotated[int, Meta(ge=0)] = 0
    score_period_days: Annotated[float, Meta(gt=0, le=36_600)] = 30.0
    inference: bool = False
    whole_model: bool = False


class PolicyBook(msgspec.Struct, frozen=True, kw_only=True):
    """The default policy and the overrides for single partners."""

    default: Policy
    partner: dict[str, Policy]

    def of(self, partner: str) -> Policy:
        """The policy that holds for `partner`."""
        return self.partner.get(partner, self.default)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy says of a contract: `reason_code` is empty when it is acceptable."""

    reason_code: str = ""
    reason: str = ""

    @property
    def acceptable(self) -> bool:
        """Whether the contract may be signed."""
        return not self.reason_code


def read_policy(table: dict[str, Any]) -> PolicyBook:
    """A policy book from a parsed TOML table. Raises PolicyError naming the key."""
    general = {key: value for key, value in table.items() if key != "partner"}
    overrides = table.get("partner", {})
    if not isinstance(overrides, dict):
        raise PolicyError("policy: key partner: write a table for each, [partner.NAME]")
    try:
        default = msgspec.convert(general, Policy)
        partner = {name: msgspec.convert({**general, **override}, Policy) for name, override in overrides.items()}
    except (msgspec.ValidationError, TypeError) as error:
        raise PolicyError(f"policy: {error}") from None
    return PolicyBook(default=default, partner=partner)


def decide(contract: JobContract, policy: Policy, datasets: frozenset[str], *, provider: str = "") -> Decision:
    """What `policy` says of `contract`, at the provider (by default the first) that has `datasets`."""
    try:
        dataset = contract.entry_of(provider or contract.provider).dataset
    except KeyError:
        return Decision(reason_code="contract_parties", reason=f"the contract does not name {provider} as a provider")
    refusals = (
        (not policy.accept, "partner_refused", f"no jobs with {contract.business} are accepted"),
        (
            dataset not in datasets or (bool(policy.datasets) and dataset not in policy.datasets),
            "dataset_unknown",
            f"there is no data set {dataset} for {contract.business}",
        ),
        (contract.task not in policy.tasks, "task_refused", f"task {contract.task} is not accepted"),
        (
            not set(contract.marks) <= set(policy.marks),
            "mark_refused",
            f"the marks {sorted(set(contract.marks) - set(policy.marks))} are not accepted",
        ),
        (
            contract.max_iterations > policy.max_iterations,
            "iterations_refused",
            f"{contract.max_iterations} iterations are more than {policy.max_iterations}",
        ),
        (
            contract.key_bits < policy.key_bits_min and "insecure" not in contract.marks,
            "key_too_short",
            f"keys of {contract.key_bits} bits are shorter than {policy.key_bits_min}",
        ),
        (
            contract.release_noise < policy.release_noise_min and not contract.small_sample,
            "release_noise",
            f"release noise {contract.release_noise:g} is below {policy.release_noise_min:g}",
        ),
        (
            contract.retention not in policy.retention,
            "retention_refused",
            f"retention {contract.retention} is not accepted",
        ),
        (
            bool(contract.evaluate) and policy.score_quota == 0,
            "evaluation_refused",
            f"scores for {contract.business} are not allowed: the provider's policy has no score_quota for evaluate",
        ),
        (
            contract.whole_model and not policy.whole_model,
            "whole_model_refused",
            "the own part of the model is not handed over (whole_model)",
        ),
        (
            contract.inference and not policy.inference,
            "inference_refused",
            "standard errors after training (inference) are not accepted",
        ),
        (
            contract.business_rows > policy.psi_quota or contract.business_rows > contract.psi_quota,
            "psi_quota",
            f"{contract.business_rows} identifiers are more than the quota of "
            f"{min(policy.psi_quota, contract.psi_quota)}",
        ),
    )
    return _first(refusals)


def decide_scoring(
    contract: ScoringContract, policy: Policy, datasets: frozenset[str], *, provider: str = ""
) -> Decision:
    """What `policy` says of a scoring contract, at the provider (by default the first) that has `datasets`.

    The ledger has the last word.
    """
    try:
        dataset = contract.entry_of(provider or contract.provider).dataset
    except KeyError:
        return Decision(reason_code="contract_parties", reason=f"the contract does not name {provider} as a provider")
    refusals = (
        (not policy.accept, "partner_refused", f"no jobs with {contract.business} are accepted"),
        (
            dataset not in datasets or (bool(policy.datasets) and dataset not in policy.datasets),
            "dataset_unknown",
            f"there is no data set {dataset} for {contract.business}",
        ),
        (
            policy.score_quota == 0,
            "scoring_refused",
            f"scoring for {contract.business} is not allowed: the provider's policy has no score_quota",
        ),
        (
            contract.retention not in policy.retention,
            "retention_refused",
            f"retention {contract.retention} is not accepted",
        ),
        (
            contract.business_rows > policy.psi_quota or contract.business_rows > contract.psi_quota,
            "psi_quota",
            f"{contract.business_rows} identifiers are more than the quota of "
            f"{min(policy.psi_quota, contract.psi_quota)}",
        ),
    )
    return _first(refusals)


def _first(refusals: Iterable[tuple[bool, str, str]]) -> Decision:
    for refused, code, reason in refusals:
        if refused:
            return Decision(reason_code=code, reason=reason)
    return Decision()
