"""A contract in plain words: what a steward reads before saying yes, and anybody who wants to know of a job.

Pure: a contract makes sentences, the same at every party. They name parties and data sets of the contract only.
"""

from datetime import UTC, datetime
from typing import Final

from protocol.contract import MARKS, ContractError, JobContract
from protocol.scoring_contract import AnyContract, ScoringContract, read_any

_LAST_SECOND: Final = 253_402_300_799
"""The last second that a calendar of four-digit years has."""

_MODELS: Final = {
    "logistic": "a logistic model (the chance of a yes)",
    "linear": "a linear model (a number)",
    "poisson": "a Poisson model (a count)",
    "gamma": "a Gamma model (a positive amount)",
    "tweedie": "a Tweedie model (an amount that is often nothing)",
}


def plain_contract(data: bytes) -> tuple[str, ...]:
    """The sentences of a contract's bytes, of either kind and any version; one that says so where they are none."""
    try:
        return sentences(read_any(data))
    except ContractError as error:
        return (f"The contract cannot be read: {error.reason}.",)


def sentences(contract: AnyContract) -> tuple[str, ...]:
    """Who, which data sets, which rows, what is computed, what each learns, caps and expiry."""
    if isinstance(contract, ScoringContract):
        return _of_scoring(contract)
    return _of_training(contract)


def _of_training(contract: JobContract) -> tuple[str, ...]:
    who = contract.business
    return (
        f"{who} asks {_listed(contract.providers)} to train {_model(contract)} together.",
        f"{who} brings {contract.business_rows:,} rows and {contract.business_columns} columns of its data set "
        f"{contract.business_dataset}, with the labels; {_datasets(contract)}.",
        _rows(contract),
        f"At most {contract.max_iterations:,} iterations are computed, {_way(contract)}, with keys of "
        f"{contract.key_bits:,} bits and release noise of {contract.release_noise:g} of a record.",
        "Everybody learns how many rows all have in common, which of its own rows these are, how many columns the "
        "others bring, and sums over all rows: its own gradient in every iteration. Nobody sees rows, names of "
        "columns or coefficients of another party.",
        f"In the end each party has the coefficients of its own columns; {who} has the mean of the others' scores.",
        *_extras(contract),
        *(f"The mark {mark}: {MARKS[mark]}." for mark in contract.marks),
        _caps(contract),
        _expiry(contract),
    )


def _of_scoring(contract: ScoringContract) -> tuple[str, ...]:
    who = contract.business
    scores = "the provider's score" if len(contract.providers) == 1 else "the sum of the providers' scores"
    if contract.mode == "batch":
        told = f"For every row that all have, {who} is told {scores}, rounded, once."
    else:
        told = f"{who} may ask for single rows until the job ends, and is told {scores} of each, rounded."
    if contract.classes:
        told = f"{told[:-1]} for each of {contract.classes} classes."
    return (
        f"{who} asks {_listed(contract.providers)} to score {contract.business_rows:,} rows with the model that job "
        f"{contract.model} trained.",
        f"{_datasets(contract).capitalize() if len(contract.providers) > 1 else _datasets(contract)}.",
        *((f"What for, in the words of {who}: {contract.purpose}",) if contract.purpose else ()),
        told,
        "Everybody learns how many rows all have in common and which of its own rows these are. A score is one number "
        "made of all columns of a row: many models together show more of a row than one.",
        f"At most {contract.score_quota:,} rows are scored in this job, and the policy's score_quota counts them.",
        *_kept(contract),
        _expiry(contract),
    )


def _model(contract: JobContract) -> str:
    name = _MODELS[contract.task]
    return f"{name} of each of {contract.classes} classes" if contract.classes else name


def _datasets(contract: AnyContract) -> str:
    return _listed([f"{entry.name} uses its data set {entry.dataset}" for entry in contract.chain])


def _rows(contract: JobContract) -> str:
    least = (
        "fewer rows than the privacy rules ask for are enough"
        if contract.small_sample
        else ("they must be at least 1,000, and 20 for each column")
    )
    held = [
        f"{share:.0%} for {name}"
        for name, share in (("validation", contract.validation), ("test", contract.test))
        if share
    ]
    kept = f"; of these {_listed(held)} are kept out of training" if held else ""
    return f"Only rows whose identifiers all parties have are used; {least}{kept}."


def _way(contract: JobContract) -> str:
    if contract.penalties:
        return f"choosing among {len(contract.penalties)} penalties by cross-validation in {contract.folds} folds"
    if contract.solver == "block":
        return "each over some of the columns"
    if contract.sample_set == "full":
        return "each over all rows"
    return f"each over some of the rows ({contract.sample_set}, {contract.batches} batches)"


def _extras(contract: JobContract) -> tuple[str, ...]:
    who = contract.business
    found = []
    if contract.inference:
        found.append(
            "Afterwards standard errors are computed: each learns how far the others' columns explain its own."
        )
    if contract.evaluate:
        found.append(
            f"{who} is told the provider's rounded score of every row of these parts, to evaluate the model: "
            f"{_listed(contract.evaluate)}."
        )
    if contract.stop_metric:
        classes = f" for each of {contract.classes} classes" if contract.classes else ""
        found.append(
            f"Training stops when {contract.stop_metric} of the validation rows gets no better: for up to "
            f"{contract.stop_evaluations_max} models on the way {who} is told the provider's rounded score of each of "
            f"these rows{classes}. So many numbers say more of a row than one; they stay fewer than its columns."
        )
    if contract.whole_model:
        found.append(
            f"In the end {who} gets the others' part of the model whole: names of columns, coefficients and grid."
        )
    if contract.warm_start:
        found.append(f"It starts from the model of job {contract.warm_start}.")
    if contract.weighted or contract.shifted:
        found.append("Some rows count more than others, or begin with a score: the provider is not told which.")
    return (*found, *_kept(contract))


def _kept(contract: AnyContract) -> tuple[str, ...]:
    if contract.retention != "full":
        return ()
    return (
        "Everything of the job is kept, secrets included, until it is purged, so that an auditor can run it again.",
    )


def _caps(contract: JobContract) -> str:
    return (
        f"Identifiers evaluated for {contract.business}: at most {contract.psi_quota:,}. Columns of a provider: at "
        f"most {contract.columns_max:,}. Numbers released about the rows: at most one for 16 rows, over all jobs on "
        f"them{', which the mark small_sample lifts' if contract.small_sample else ''}."
    )


def _expiry(contract: AnyContract) -> str:
    if not contract.expires_at:
        return "It does not expire."
    if contract.expires_at > _LAST_SECOND:
        return "It expires after the year 9999."
    return f"It expires on {datetime.fromtimestamp(contract.expires_at, UTC):%Y-%m-%d at %H:%M} UTC."


def _listed(words: "list[str] | tuple[str, ...]") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
