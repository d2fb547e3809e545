"""The rules that every job contract keeps, whatever the policies say: no party signs one that breaks them."""

from functools import lru_cache
from typing import Final

from learning.links.family import LinkError, check_family
from learning.parts import SEED_BYTES
from protocol import stop_rules
from protocol.contract import (
    INFERENCE_COLUMNS_MAX,
    ITERATIONS_MAX,
    KEY_BITS_MIN,
    LEAKAGE_VERSION,
    LOGIC_VERSIONS,
    PROTOCOL_VERSION,
    RELEASE_NOISE,
    ContractError,
    JobContract,
    read_contract,
)

CONTRACTS_KEPT: Final = 64
"""Contracts of each kind that are read and checked once: a job's machine asks for its own at every step."""


@lru_cache(CONTRACTS_KEPT)
def decode_contract(data: bytes) -> JobContract:
    """Read a contract; raises ContractError when it is malformed, not canonical or breaks a rule."""
    contract = read_contract(data)
    check_contract(contract)
    return contract


def check_versions(protocol: int, logic: int, leakage: int) -> None:
    """Raises ContractError for versions, of a contract of either kind, that this software does not speak."""
    if protocol != PROTOCOL_VERSION or logic not in LOGIC_VERSIONS:
        raise ContractError(
            "version",
            f"the contract asks for protocol {protocol}, logic {logic}; this software speaks protocol "
            f"{PROTOCOL_VERSION}, logic {' or '.join(map(str, sorted(LOGIC_VERSIONS)))}: upgrade the older party",
        )
    if leakage != LEAKAGE_VERSION:
        raise ContractError(
            "leakage_version",
            f"the contract names leakage table {leakage}, this software has {LEAKAGE_VERSION}",
        )


def check_contract(contract: JobContract) -> None:
    """Raises ContractError naming the rule that is broken, and the remedy."""
    check_versions(contract.protocol_version, contract.logic_version, contract.leakage_version)
    _check_parties(contract)
    _check_model(contract)
    if contract.key_bits < KEY_BITS_MIN and "insecure" not in contract.marks:
        raise ContractError(
            "key_too_short",
            f"Paillier keys of {contract.key_bits} bits are refused: use {KEY_BITS_MIN} or more "
            "(tests may mark the job insecure)",
        )
    if contract.release_noise < RELEASE_NOISE and not contract.small_sample:
        raise ContractError(
            "release_noise",
            f"release noise {contract.release_noise:g} is below {RELEASE_NOISE:g} of a record: exact gradients "
            "give labels away; raise it, or let both parties accept the mark small_sample",
        )
    _check_samples(contract)
    if contract.business_columns + 1 < 3 and "few_columns" not in contract.marks:
        raise ContractError(
            "few_columns",
            f"{contract.business} brings {contract.business_columns} columns: with fewer than 2 and the intercept, "
            "its gradient shows almost in the clear; add columns or let both parties accept the mark few_columns",
        )
    _check_inference(contract)
    _check_evaluation(contract)
    if reason := stop_rules.wrong(contract):
        raise ContractError("stopping", reason)


def _check_model(contract: JobContract) -> None:
    try:
        check_family(contract.family)
    except LinkError as error:
        raise ContractError(error.code, str(error)) from None
    if contract.classes and not _classes_fit(contract):
        raise ContractError(
            "classes",
            "several classes are 3 or more, of a logistic model on all rows, with the solver lbfgs, "
            "without offsets, inference, cross-validation and whole model",
        )
    if bool(contract.warm_start) != (contract.first_gradient > 0.0):
        raise ContractError("warm_start", "a warm start names a former job and the length of its first gradient")


def _classes_fit(contract: JobContract) -> bool:
    plain = contract.solver == "lbfgs" and contract.sample_set == "full"
    more = (contract.inference, contract.shifted, contract.whole_model, contract.penalties)
    return contract.classes >= 3 and contract.task == "logistic" and plain and not any(more)


def _check_parties(contract: JobContract) -> None:
    if contract.business in contract.providers:
        raise ContractError("parties", f"{contract.business} cannot be both business and provider")
    if len(set(contract.providers)) < len(contract.providers):
        raise ContractError("parties", "the contract names one provider twice: one data set for each provider")


def _check_inference(contract: JobContract) -> None:
    """What standard errors are there for. Raises ContractError."""
    if not contract.inference:
        return
    if contract.further:
        raise ContractError("inference", "standard errors are for jobs of one provider: leave inference out")
    if (contract.sample_set, contract.solver) != ("full", "lbfgs"):
        raise ContractError(
            "inference", "standard errors go with the solver lbfgs on the sample set full: leave inference out"
        )
    if contract.l1 > 0.0:
        raise ContractError(
            "inference",
            "coefficients under an l1 penalty are not distributed normally and have no such errors: leave inference or "
            "l1 out",
        )
    if contract.task == "linear" and contract.warm_start:
        raise ContractError(
            "inference",
            "the dispersion of a linear model needs the gradient at zero, which a warm start leaves out: leave one out",
        )
    if contract.task == "tweedie" and contract.tweedie_power == 1.0:
        raise ContractError(
            "inference", "no dispersion can be had of a Tweedie model of power 1 without more exchange: use poisson"
        )
    if contract.weighted and contract.task not in ("logistic", "poisson"):
        raise ContractError(
            "inference",
            f"the dispersion of a {contract.task} model of weighted rows is not estimated: leave inference out",
        )
    if contract.business_columns + 1 > INFERENCE_COLUMNS_MAX:
        raise ContractError(
            "inference",
            f"standard errors take at most {INFERENCE_COLUMNS_MAX} columns of a party, {contract.business} brings "
            f"{contract.business_columns} and the intercept: use fewer columns, or leave inference out",
        )


def _check_samples(contract: JobContract) -> None:
    """Parts, sample sets and solver fit each other."""
    if contract.layout.divides != (len(contract.parts_commitment) == SEED_BYTES):
        raise ContractError(
            "parts_commitment",
            "a contract that divides its rows holds a digest of the business's seed for it, and no other does",
        )
    if contract.validation + contract.test >= 1.0:
        raise ContractError("parts", "validation and test leave no rows to train on: lower their shares")
    solver, sample_set = contract.solver, contract.sample_set
    if contract.l1 and (sample_set != "full" or solver != "lbfgs"):
        raise ContractError(
            "sample_set", "l1 goes with the solver lbfgs on the sample set full: the proximal loop is of all rows"
        )
    if contract.warm_start and (sample_set != "full" or solver != "lbfgs"):
        raise ContractError("sample_set", "warm_start goes with the solver lbfgs on the sample set full")
    if (sample_set == "full") != (contract.batches == 1) or (solver == "block" and sample_set != "full"):
        raise ContractError(
            "sample_set",
            f"the sample set {sample_set} in {contract.batches} batches with the solver {solver}: fraction and growing "
            "take 2 or more batches and the solver lbfgs, full takes 1",
        )
    most = min(ITERATIONS_MAX.get(name, 1000) for name in (sample_set, solver))
    if contract.max_iterations > most:
        raise ContractError(
            "iterations",
            f"{contract.max_iterations} iterations; the solver {solver} on the sample set {sample_set} has room for "
            f"{most}",
        )
    _check_folds(contract)


def _check_evaluation(contract: JobContract) -> None:
    """What parts can be evaluated. Raises ContractError."""
    order = ("training", "validation", "test")
    if list(contract.evaluate) != [part for part in order if part in contract.evaluate]:
        raise ContractError("evaluate", "evaluate names parts once, in the order training, validation, test")
    for part, share in (("validation", contract.validation), ("test", contract.test)):
        if part in contract.evaluate and share == 0.0:
            raise ContractError("evaluate", f"there are no {part} rows to evaluate: give {part} a share")


def _check_folds(contract: JobContract) -> None:
    """Cross-validation fits what else the job is to do."""
    penalties = contract.penalties
    if (contract.folds > 1) != bool(penalties):
        raise ContractError("folds", "cross-validation takes 2 or more folds and 2 or more penalties")
    if not penalties:
        return
    ordered = tuple(sorted(set(penalties), reverse=True))
    if len(penalties) < 2 or penalties != ordered or contract.l2 not in penalties:
        raise ContractError("folds", "penalties are 2 or more, decrease, and l2 is one of them")
    other = (
        contract.batches > 1,
        contract.solver != "lbfgs",
        contract.l1 > 0,
        contract.inference,
        contract.warm_start,
    )
    if any(other):
        raise ContractError(
            "folds",
            "cross-validation is for solver lbfgs on sample set full, no l1, inference or warm_start",
        )
