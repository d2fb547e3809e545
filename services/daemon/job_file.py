"""job.toml: what an operator asks for, and the contract that it becomes.

```toml
task = "logistic"                   # logistic, linear, poisson, gamma or tweedie
dataset = "loans"                   # a [[dataset]] of the own party.toml
partner = "provider-a/customers"    # provider/data set; of several, in the order of the chain:
                                    # partners = ["provider-a/customers", "provider-b/phones"]
l2 = 1e-4
max_iterations = 30
```
"""

import math
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from learning import parts
from learning.links.family import LOG_LINKS, MULTICLASS, VALUE_BITS, LinkError
from learning.links.targets import Targets, declared_units, declared_units_of_counts
from learning.solvers.blocks import Draw
from learning.solvers.loop import DEFAULT_TOLERANCE
from learning.solvers.loops import SampleSet, Solver
from messages.identity import PublicIdentity
from protocol.contract import (
    LEAKAGE_VERSION,
    LOGIC_VERSION,
    PROTOCOL_VERSION,
    PROVIDERS_MAX,
    RELEASE_NOISE,
    ContractError,
    EvaluatedPart,
    FurtherProvider,
    JobContract,
    Mark,
    Retention,
    StopMetric,
    Task,
)
from protocol.contract_rules import check_contract
from services.party.configuration import ConfigError, Dataset, Party, entry_of, read_steps, read_toml
from services.tables.queries import source_of
from services.tables.row_columns import ClassWeight, RowColumns, class_weights
from services.tables.table import Table, TableError, data_digest, read_table, schema_digest

LOG_VALUE_BITS: Final = 24
"""Bits of a provider's values for Gamma and Tweedie: good for scores up to 6 / |a| (`learning.links.family`)."""

BATCHES: Final[dict[SampleSet, int]] = {"full": 1, "growing": 4, "fraction": 2}
"""Batches, or stages, where the job names none (docs/performance.md, solvers)."""

PATIENCE: Final = 3
"""Evaluations that may be no better than the best before training stops, where the job names no number."""

STOP_EVALUATIONS: Final = 8
"""Evaluations of the validation rows at most, where the job names no number: fewer than a provider has columns."""

EXPIRES_IN_HOURS_MAX: Final = 10 * 366 * 24
"""Ten years: what is longer was meant to be something else."""


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """job.toml as it stands in the file."""

    task: Task | Literal["multiclass"]
    dataset: str
    partner: str = ""
    partners: tuple[str, ...] = ()
    label: str = ""
    l2: float = 1e-4
    l1: float = 0.0
    warm_start: str = ""
    max_iterations: int = 30
    tolerance: float = DEFAULT_TOLERANCE
    key_bits: int = 2048
    release_noise: float = RELEASE_NOISE
    label_bound: float = 0.0
    identifier_schema: str = "exact.v1"
    psi_quota: int = 10_000_000
    marks: tuple[Mark, ...] = ()
    chunk_rows_max: int = 540
    retention: Retention = "digests"
    expires_in_hours: float = 0.0
    sample_set: SampleSet = "full"
    solver: Solver = "lbfgs"
    batches: int = 0
    draw: Draw = "cyclic"
    block_share: float = 0.25
    folds: int = 1
    penalties: tuple[float, ...] = ()
    validation: float = 0.0
    test: float = 0.0
    tweedie_power: float = 0.0
    value_bits: int = 0
    residual_unit: float = 0.0
    inference: bool = False
    whole_model: bool = False
    evaluate: tuple[EvaluatedPart, ...] = ()
    stop_metric: StopMetric = ""
    patience: int = 0
    stop_every: int = 0
    stop_evaluations_max: int = 0
    weight: str = ""
    exposure: str = ""
    offset: str = ""
    class_weight: ClassWeight = ""

    @property
    def providers(self) -> tuple[tuple[str, str], ...]:
        """(provider, data set) of each provider, in the order of the chain."""
        return tuple((name, dataset) for name, _, dataset in (entry.partition("/") for entry in self._entries))

    @property
    def _entries(self) -> tuple[str, ...]:
        return self.partners or (self.partner,)

    @property
    def beside(self) -> RowColumns:
        """Columns with weights, exposures and offsets of rows."""
        return RowColumns(weight=self.weight, exposure=self.exposure, offset=self.offset)


def load_job(path: Path) -> JobFile:
    """Read job.toml. Raises ConfigError naming file and key."""
    return job_from(read_toml(path), str(path))


def job_from(table: Any, where: str) -> JobFile:
    """A job from a parsed table. Raises ConfigError naming the key."""
    try:
        job = msgspec.convert(table, JobFile, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None
    except UnicodeEncodeError:
        # JSON can write what is no text: half of a surrogate pair.
        raise ConfigError(f"{where}: a text in it is no Unicode") from None
    if not 0 <= job.expires_in_hours <= EXPIRES_IN_HOURS_MAX:
        raise ConfigError(f"{where}: key expires_in_hours: give 0 to {EXPIRES_IN_HOURS_MAX} hours")
    key = "partners" if job.partners else "partner"
    if job.partner and job.partners:
        raise ConfigError(f"{where}: key partners: give either partner or partners")
    for entry in job.partners or (job.partner,):
        if entry.count("/") != 1:
            raise ConfigError(f'{where}: key {key}: {entry!r} is not "provider/data set"')
    names = [name for name, _ in job.providers]
    if len(names) > PROVIDERS_MAX or len(set(names)) < len(names):
        raise ConfigError(f"{where}: key partners: name 1 to {PROVIDERS_MAX} providers, each once")
    return job


def given_table(party: Party, job: JobFile, given: Any) -> dict[str, Any]:
    """A data set that came with the job and is not in party.toml, as party.toml would have it. Raises ConfigError."""
    where = "the data set that came with the job"
    try:
        dataset = msgspec.convert(given, Dataset)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ConfigError(f"{where}: {error}") from None
    if dataset.name != job.dataset or dataset.name in party.datasets:
        raise ConfigError(f"{where}: give it, and the job, a name that no data set of party.toml has")
    return entry_of(dataset, party.directory, read_steps(dataset, party.directory, where))


def business_table(party: Party, job: JobFile, given: Any = None) -> Table:
    """The business's table of a job, of party.toml or `given` with the job. Raises ConfigError or TableError."""
    datasets = party.datasets
    if given is not None:
        datasets[job.dataset] = given_table(party, job, given)
    if job.dataset not in datasets:
        raise ConfigError(
            f"key dataset: {party.file.name} has no data set {job.dataset!r}; party.toml names "
            f"{', '.join(sorted(datasets)) or 'none'}"
        )
    entry = datasets[job.dataset]
    label = job.label or entry["label"]
    if not label:
        raise ConfigError(f"data set {job.dataset} has no label column: name it as `label` in the job or data set")
    table = read_table(
        source_of(job.dataset, entry),
        identifier=entry["id"],
        label=label,
        columns=entry["columns"] or None,
        task=job.task,
        steps=entry["steps"],
        beside=job.beside,
    )
    return with_class_weights(table, job.task, job.class_weight)


def with_class_weights(table: Table, task: str, wanted: ClassWeight) -> Table:
    """The table with its rows weighted by class. Raises ConfigError for a task without classes, TableError."""
    if wanted and task not in ("logistic", MULTICLASS):
        raise ConfigError(f"key class_weight: task {task} has no classes")
    if wanted and wanted != "balanced" and task == MULTICLASS:
        raise ConfigError('key class_weight: for several classes there is "balanced" only')
    assert table.label is not None
    of_class = class_weights(table.label, wanted)
    if of_class is None:
        return table
    return replace(table, weight=of_class if table.weight is None else table.weight * of_class)


def label_bound(job: JobFile, table: Table) -> float:
    """The bound on labels that the contract declares: a power of two, so that it tells little of them."""
    if job.task not in ("linear", "poisson"):
        return 1.0
    assert table.label is not None
    largest = float(np.max(np.abs(table.label)))
    if job.label_bound:
        if job.label_bound < largest:
            raise TableError("label_bound", f"a label is larger than the declared label_bound {job.label_bound:g}")
        return job.label_bound
    return 2.0 ** max(0, math.ceil(math.log2(max(largest, 1.0))))


def family_fields(job: JobFile, table: Table) -> dict[str, Any]:
    """What the contract declares of labels and link beyond task and label bound."""
    assert table.label is not None
    told = {"weighted": table.weight is not None, "shifted": table.offset is not None}
    at_mean = job.task in LOG_LINKS
    bits = job.value_bits or (LOG_VALUE_BITS if at_mean else VALUE_BITS)
    if not at_mean and table.weight is None:
        return {"value_bits": bits, "residual_unit": job.residual_unit or 1.0, **told}
    targets = Targets(table.label, table.weight, table.offset)
    try:
        if job.task == "poisson" and not any(told.values()):
            unit, curvature = declared_units_of_counts(targets, label_bound(job, table))
        else:
            unit, curvature = declared_units(job.task, job.tweedie_power, targets)
    except LinkError as error:
        raise TableError(error.code, str(error)) from None
    return {"value_bits": bits, "residual_unit": job.residual_unit or unit, "curvature": curvature, **told}


def stop_fields(job: JobFile) -> dict[str, Any]:
    """What the contract says of early stopping: where there is a metric, what the job leaves open is filled in."""
    said = (job.patience, job.stop_every, job.stop_evaluations_max)
    if job.stop_metric:
        said = (job.patience or PATIENCE, job.stop_every or 1, job.stop_evaluations_max or STOP_EVALUATIONS)
    patience, every, most = said
    return {"stop_metric": job.stop_metric, "patience": patience, "stop_every": every, "stop_evaluations_max": most}


def make_contract(
    job: JobFile,
    table: Table,
    business: PublicIdentity,
    *providers: PublicIdentity,
    salt: bytes,
    first_gradient: float = 0.0,
) -> JobContract:
    """The contract of a job over a snapshot of `table`. Raises ConfigError when no policy could accept it.

    `providers`: in the order of the job's. `salt` keeps the digests from being guessed; the business keeps it.
    `first_gradient`: of the model to start from.
    """
    chain = []
    for (name, dataset), identity in zip(job.providers, providers, strict=True):
        if identity.name != name:
            raise ConfigError(f"key partner: the identity given for {name} is {identity.name}'s")
        chain.append(FurtherProvider(name=name, key=identity.digest(), dataset=dataset))
    first, further = chain[0], tuple(chain[1:])
    try:
        contract = JobContract(
            protocol_version=PROTOCOL_VERSION,
            logic_version=LOGIC_VERSION,
            leakage_version=LEAKAGE_VERSION,
            nonce=secrets.token_bytes(8),
            business=business.name,
            provider=first.name,
            business_key=business.digest(),
            provider_key=first.key,
            business_dataset=job.dataset,
            provider_dataset=first.dataset,
            further=further,
            masks_bound=bool(further),
            data_digest=data_digest(table, salt=salt),
            schema_digest=schema_digest(table, salt=salt),
            business_rows=len(table.identifiers),
            business_columns=len(table.prepared_columns),
            identifier_schema=job.identifier_schema,
            task="logistic" if job.task == MULTICLASS else job.task,
            classes=len(table.classes),
            # The preconditioner of a cross-validation is that of the middle of its grid.
            l2=sorted(set(job.penalties))[len(set(job.penalties)) // 2] if job.penalties else job.l2,
            max_iterations=job.max_iterations,
            tolerance=job.tolerance,
            key_bits=job.key_bits,
            release_noise=job.release_noise,
            label_bound=label_bound(job, table),
            psi_quota=job.psi_quota,
            marks=tuple(sorted(job.marks)),
            chunk_rows_max=job.chunk_rows_max,
            retention=job.retention,
            sample_set=job.sample_set,
            solver=job.solver,
            batches=job.batches or BATCHES[job.sample_set],
            draw=job.draw,
            block_share=job.block_share,
            folds=job.folds,
            penalties=tuple(sorted(set(job.penalties), reverse=True)),
            validation=job.validation,
            test=job.test,
            inference=job.inference,
            whole_model=job.whole_model,
            evaluate=job.evaluate,
            **stop_fields(job),
            expires_at=int(time.time() + job.expires_in_hours * 3600) if job.expires_in_hours else 0,
            tweedie_power=job.tweedie_power,
            l1=job.l1,
            warm_start=job.warm_start,
            first_gradient=first_gradient,
            **family_fields(job, table),
        )
        if contract.layout.divides:
            seed = parts.own_seed(salt)
            contract = msgspec.structs.replace(contract, parts_commitment=parts.commitment(seed))
        contract = msgspec.convert(msgspec.to_builtins(contract, builtin_types=(bytes,)), JobContract)
        check_contract(contract)
    except ContractError as error:
        raise ConfigError(f"job: {error.reason}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"job: {error}") from None
    return contract
