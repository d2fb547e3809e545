"""What a party lets its partners ask for: `policy.toml`, decided before any of its data is touched.

```toml
tasks = ["logistic", "linear", "poisson", "gamma", "tweedie"]
marks = ["small_sample"]          # marks that this party accepts in a contract
datasets = ["customers"]          # empty: all that party.toml names
max_iterations = 100
key_bits_min = 2048
release_noise_min = 0.03125
psi_quota = 10000000              # identifiers of a partner's lists that are answered within period_days, over all
                                  #   jobs, as often as they come: who retrains 1 M rows daily needs 30 M and more
intersection_min = 1
retention = ["digests"]           # add "full" to let a job be kept whole for an audit
score_quota = 0                   # rows that may be scored for one partner in one period, over all models; 0: none
score_period_days = 30
stop_evaluations_max = 0          # evaluations of validation rows that a job may stop early by, of several classes
                                  #   each one's scores count; 0: none
whole_model = false               # hand the own coefficients, column names and grid over to the business at the end
inference = false                 # standard errors after training: docs/inference.md says what they tell the partner
approval = "automatic"            # or "ask": every contract within the policy waits for the steward
automatic_rows_max = 50000        # beyond these limits the steward is asked with "automatic", too; left out: no limit.
automatic_iterations_max = 20     #   rows: identifiers of the business's list, iterations: of training
automatic_scores_max = 10000      #   rows to score in one job
ask_for = ["inference"]           # always ask for: marks, inference, whole_model, evaluate, stop_metric,
                                  #   retention (full), scoring, fellows (other providers)
fellows = ["bureau-b"]            # providers beside which this party takes part; [] none, left out: all that it knows
later_fellows = []                # those among them that may come after it in the chain; left out: all. Such a one, if
                                  #   it hands the business what it gets, shows it this party's score of every row
jobs_max = 4                      # jobs of one partner that may run at a time; left out, as what follows: no limit
jobs_per_period = 20              # jobs that it may begin within the last period_days
rows_per_period = 1000000         # common rows of its training jobs within them; those that are scored: score_quota
period_days = 30
max_rate = 1000000                # bytes a second of bulk that are sent to the partner, over all jobs; 0: no limit
quiet_hours = "22:00-06:00 Europe/Berlin"   # nothing is computed for it or sent to it then

[partner.business-a]              # overrides for one partner; a partner that is not listed gets the above
marks = []
```
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from protocol import stop_rules
from protocol.contract import JobContract, Mark, Retention, Task
from protocol.scoring_contract import AnyContract, ScoringContract


class PolicyError(ValueError):
    """A policy file that cannot be used: names the key and what is wrong with it."""


Asked = Literal["marks", "inference", "whole_model", "evaluate", "stop_metric", "retention", "scoring", "fellows"]
Limit = Annotated[int, Meta(ge=0, le=2**40)]
Refusal = tuple[bool, str, str]
"""(whether it holds, reason code, reason)."""


QUIET_HOURS: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9] [A-Za-z0-9_+/-]{1,60})?\Z"
"""From when to when, and in which time zone."""


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
    stop_evaluations_max: Annotated[int, Meta(ge=0)] = 0
    approval: Literal["automatic", "ask"] = "automatic"
    automatic_rows_max: Limit | None = None
    automatic_iterations_max: Limit | None = None
    automatic_scores_max: Limit | None = None
    ask_for: tuple[Asked, ...] = ()
    fellows: tuple[str, ...] | None = None
    later_fellows: tuple[str, ...] | None = None
    jobs_max: Limit | None = None
    jobs_per_period: Limit | None = None
    rows_per_period: Limit | None = None
    period_days: Annotated[float, Meta(gt=0, le=36_600)] = 30.0
    max_rate: Limit = 0
    quiet_hours: Annotated[str, Meta(pattern=QUIET_HOURS)] = ""


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


def _beside(contract: AnyContract, policy: Policy, me: str) -> tuple[Refusal, ...]:
    """Refusals of the company that the provider `me` would be in.

    A provider that comes later in the chain of a training job gets link terms under the business's key that this one's
    scores went into: the two together read them. The last one answers nobody but by masked shares. In a scoring job
    the order says nothing.
    """
    names = contract.providers
    strangers = [name for name in names if name != me and policy.fellows is not None and name not in policy.fellows]
    later = names[names.index(me) + 1 :] if isinstance(contract, JobContract) else ()
    told = not isinstance(contract, JobContract) or bool(contract.evaluate or contract.stop_metric)
    distrusted = [name for name in later if policy.later_fellows is not None and name not in policy.later_fellows]
    return (
        (
            bool(strangers),
            "fellow_refused",
            f"jobs beside {_words(strangers)} are not accepted: the policy has fellows = "
            f"{_words(policy.fellows or ())}",
        ),
        (
            bool(distrusted),
            "later_fellow_refused",
            f"{_words(distrusted)} may not come after {me} in the chain: the policy has later_fellows = "
            f"{_words(policy.later_fellows or ())}; let {me} be the last of the providers",
        ),
        (
            told and bool(contract.further) and not contract.masks_bound,
            "masks_unbound",
            "masks of several providers' scores have to be bound to the people of the rows (masks_bound), or the "
            f"business could take their sums apart: {contract.business} has to upgrade its software",
        ),
    )


def _admission(contract: AnyContract, policy: Policy, datasets: frozenset[str], provider: str) -> tuple[Refusal, ...]:
    """Refusals of whoever asks, of the data set, and of the company; first of all of a contract of others."""
    me = provider or contract.provider
    try:
        dataset = contract.entry_of(me).dataset
    except KeyError:
        return ((True, "contract_parties", f"the contract does not name {provider} as a provider"),)
    return (
        (
            not policy.accept,
            "partner_refused",
            f"no jobs with {contract.business} are accepted: the policy has accept = false",
        ),
        (
            dataset not in datasets or (bool(policy.datasets) and dataset not in policy.datasets),
            "dataset_unknown",
            f"there is no data set {dataset} for {contract.business}",
        ),
        *_beside(contract, policy, me),
    )


def _retention(contract: AnyContract, policy: Policy) -> Refusal:
    return (
        contract.retention not in policy.retention,
        "retention_refused",
        f"retention {contract.retention} is not accepted: the policy has retention = {_words(policy.retention)}",
    )


def _psi_quota(contract: AnyContract, policy: Policy) -> Refusal:
    return (
        contract.business_rows > policy.psi_quota or contract.business_rows > contract.psi_quota,
        "psi_quota",
        f"{contract.business_rows} identifiers are more than the smaller psi_quota of policy and contract, "
        f"{min(policy.psi_quota, contract.psi_quota)}",
    )


def decide(contract: JobContract, policy: Policy, datasets: frozenset[str], *, provider: str = "") -> Decision:
    """What `policy` says of `contract`, at the provider (by default the first) that has `datasets`."""
    refusals = (
        *_admission(contract, policy, datasets, provider),
        (
            contract.task not in policy.tasks,
            "task_refused",
            f"task {contract.task} is not accepted: the policy has tasks = {_words(policy.tasks)}",
        ),
        (
            not set(contract.marks) <= set(policy.marks),
            "mark_refused",
            f"the marks {_words(sorted(set(contract.marks) - set(policy.marks)))} are not accepted: "
            f"the policy has marks = {_words(policy.marks)}",
        ),
        (
            contract.max_iterations > policy.max_iterations,
            "iterations_refused",
            f"{contract.max_iterations} iterations are more than the policy's max_iterations = {policy.max_iterations}",
        ),
        (
            contract.key_bits < policy.key_bits_min and "insecure" not in contract.marks,
            "key_too_short",
            f"keys of {contract.key_bits} bits are shorter than the policy's key_bits_min = {policy.key_bits_min}",
        ),
        (
            contract.release_noise < policy.release_noise_min and not contract.small_sample,
            "release_noise",
            f"release noise {contract.release_noise:g} is below the policy's release_noise_min = "
            f"{policy.release_noise_min:g}",
        ),
        _retention(contract, policy),
        (
            bool(contract.evaluate) and policy.score_quota == 0,
            "evaluation_refused",
            f"scores for {contract.business} are not allowed: the provider's policy has no score_quota for evaluate",
        ),
        (
            bool(contract.stop_metric) and policy.score_quota == 0,
            "stopping_refused",
            f"scores for {contract.business} are not allowed: the provider's policy has no score_quota for stop_metric",
        ),
        (
            stop_rules.projections(contract) > policy.stop_evaluations_max,
            "stopping_refused",
            f"{stop_rules.counted(contract)}, to stop early by, are more than the policy's "
            f"stop_evaluations_max = {policy.stop_evaluations_max}",
        ),
        (
            contract.whole_model and not policy.whole_model,
            "whole_model_refused",
            "the own part of the model is not handed over: the policy has whole_model = false",
        ),
        (
            contract.inference and not policy.inference,
            "inference_refused",
            "standard errors after training are not accepted: the policy has inference = false",
        ),
        _psi_quota(contract, policy),
    )
    return _first(refusals)


def decide_scoring(
    contract: ScoringContract, policy: Policy, datasets: frozenset[str], *, provider: str = ""
) -> Decision:
    """What `policy` says of a scoring contract, at the provider (by default the first) that has `datasets`.

    The ledger has the last word.
    """
    refusals = (
        *_admission(contract, policy, datasets, provider),
        (
            policy.score_quota == 0,
            "scoring_refused",
            f"scoring for {contract.business} is not allowed: the provider's policy has no score_quota",
        ),
        _retention(contract, policy),
        _psi_quota(contract, policy),
    )
    return _first(refusals)


def asks(contract: AnyContract, policy: Policy) -> tuple[str, ...]:
    """Why the steward is asked about a contract that `policy` allows, a sentence each; none: it is automatic."""
    iterations = contract.max_iterations if isinstance(contract, JobContract) else 0
    scores = contract.business_rows * max(1, contract.classes) if isinstance(contract, ScoringContract) else 0
    reasons = (
        (policy.approval == "ask", 'the policy asks about every contract (approval = "ask")'),
        (
            _beyond(contract.business_rows, policy.automatic_rows_max),
            f"{contract.business_rows} identifiers are more than automatic_rows_max = {policy.automatic_rows_max}",
        ),
        (
            _beyond(iterations, policy.automatic_iterations_max),
            f"{iterations} iterations are more than automatic_iterations_max = {policy.automatic_iterations_max}",
        ),
        (
            _beyond(scores, policy.automatic_scores_max),
            f"{scores} rows to score are more than automatic_scores_max = {policy.automatic_scores_max}",
        ),
        *((name in policy.ask_for, f"ask_for names {name}") for name in _special(contract)),
    )
    return tuple(reason for holds, reason in reasons if holds)


def _beyond(value: int, most: int | None) -> bool:
    return most is not None and value > most


def _special(contract: AnyContract) -> tuple[Asked, ...]:
    """What of a contract a policy may want to be asked about."""
    kept: tuple[Asked, ...] = ("retention",) if contract.retention == "full" else ()
    if contract.further:
        kept = ("fellows", *kept)
    if isinstance(contract, ScoringContract):
        return ("scoring", *kept)
    wanted: tuple[tuple[Asked, bool], ...] = (
        ("marks", bool(contract.marks)),
        ("inference", contract.inference),
        ("whole_model", contract.whole_model),
        ("evaluate", bool(contract.evaluate)),
        ("stop_metric", bool(contract.stop_metric)),
    )
    return (*(name for name, is_wanted in wanted if is_wanted), *kept)


def _words(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def _first(refusals: Iterable[Refusal]) -> Decision:
    for refused, code, reason in refusals:
        if refused:
            return Decision(reason_code=code, reason=reason)
    return Decision()
