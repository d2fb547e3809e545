"""`warren local`, `warren demo`: everything on this machine."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import structlog
import typer
from rich.console import Console

from broker.private import PrivateBroker
from learning.links.family import MULTICLASS, TASKS
from learning.solvers.loop import DEFAULT_TOLERANCE
from paillier import choice
from protocol.contract import PROVIDERS_MAX, RELEASE_NOISE
from services.cli.failures import DONE, FAILED
from services.cli.progress import ProgressView
from services.daemon.job_file import STOP_EVALUATIONS, JobFile, family_fields, job_from, label_bound
from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalTables, embedded, introduce, make_party, processes
from services.daemon.local_job import LocalResult, run_job
from services.party.configuration import ConfigError
from services.results import class_report, report, summary
from services.tables.row_columns import RowColumns
from services.tables.table import Table

out = Console(highlight=False)

DEMO_SEED = "demonstration"
DEMO_JOB: dict[str, Any] = {"task": "logistic", "l2": 1e-4, "max_iterations": 30, "marks": ["reproducible"]}
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "default_credit"


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@contextmanager
def _parties(
    directory: Path, tables: LocalTables, broker: str, job: dict[str, Any], noise_seed: str
) -> Iterator[list[Path]]:
    """All parties with their daemons running: embedded, on a private RabbitMQ, or on a broker by URL."""
    with ExitStack() as stack:
        names = tables.names
        urls, declare = dict.fromkeys(names, "amqp://localhost/warren"), False
        if broker == "rabbitmq":
            private = stack.enter_context(PrivateBroker(directory / "rabbitmq", list(names.values())))
            urls = {role: private.amqp_url(name) for role, name in names.items()}
        elif broker != "embedded":
            urls, declare = dict.fromkeys(urls, broker), True
        parties = [
            make_party(
                directory / role,
                role,
                name,
                tables,
                broker=urls[role],
                marks=tuple(job.get("marks", ())),
                retention=(job.get("retention", "digests"),),
                declare=declare,
                noise_seed=f"{noise_seed}/{role}" if noise_seed else "",
                inference=bool(job.get("inference", False)),
            )
            for role, name in names.items()
        ]
        introduce(*parties)
        stack.enter_context(embedded(parties) if broker == "embedded" else processes(parties))
        yield parties


@contextmanager
def _place(keep: Path | None) -> Iterator[Path]:
    """Where the parties live: for the job only, or in a new directory of the caller's. Raises ConfigError."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="warren-") as name:
            yield Path(name)
        return
    if keep.exists() and any(keep.iterdir()):
        raise ConfigError(f"--keep {keep}: there is something already; name a new directory")
    keep.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield keep.resolve()


def check_broker(broker: str) -> None:
    """Raises ConfigError for what is none of the three."""
    if broker not in ("embedded", "rabbitmq") and "://" not in broker:
        raise ConfigError(f"--broker {broker}: embedded, rabbitmq, or a URL amqp://...")


def check_out(directory: Path | None) -> None:
    """Make the directory of results before a job takes its time. Raises ConfigError when it cannot be written to."""
    if directory is None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise ConfigError(f"--out {directory}: cannot be written to: {why}; name another directory") from None


def train(
    tables: LocalTables,
    job: dict[str, Any],
    *,
    broker: str,
    noise_seed: str = "",
    show_progress: bool = True,
    place: Path | None = None,
) -> LocalResult:
    """Run one job between fresh parties on this machine, in `place` if it is to be kept.

    Raises LocalError, TableError, ConfigError.
    """
    _quiet()
    tables.read_business(job["task"])  # before anything is started: a bad file is the commonest mistake
    for role in tables.sources:
        tables.read_provider(role)
    providers = [f"{name}/features" for role, name in tables.names.items() if role != BUSINESS]
    fields = {"dataset": "labels", "partners": providers, **job}
    with ExitStack() as stack:
        directory = place or stack.enter_context(_place(None))
        parties = stack.enter_context(_parties(directory, tables, broker, job, noise_seed))
        watch = stack.enter_context(ProgressView()) if show_progress else None
        return run_job(parties, fields, watch)


def _evaluated(validation: float, test: float) -> list[str]:
    """What a job of both parties on this machine evaluates at its end: all its parts, if it has several."""
    shares = {"training": 1.0, "validation": validation, "test": test}
    return [part for part, share in shares.items() if share] if validation or test else []


def local(
    task: Annotated[str, typer.Option(help="logistic, linear, poisson, gamma, tweedie or multiclass.")],
    business: Annotated[Path, typer.Option(help="CSV or Parquet with labels and some features.")],
    provider: Annotated[
        list[Path],
        typer.Option(help="CSV or Parquet with other features of the same people; again for each further provider."),
    ],
    identifier: Annotated[str, typer.Option("--id", help="Identifier column, in both files.")],
    label: Annotated[str, typer.Option(help="Label column, in the business's file.")],
    l2: Annotated[float, typer.Option(help="Penalty lambda of mean loss + lambda/2 |w|^2.")] = 1e-4,
    l1: Annotated[float, typer.Option(help="Penalty l1 |w| of an elastic net.")] = 0.0,
    max_iterations: Annotated[int, typer.Option(help="M at most.")] = 30,
    tolerance: Annotated[float, typer.Option(help="Largest preconditioned gradient entry to stop at.")] = (
        DEFAULT_TOLERANCE
    ),
    key_bits: Annotated[int, typer.Option(help="Paillier modulus: 2048, 3072 or 4096.")] = 2048,
    release_noise: Annotated[float, typer.Option(help="Of a record with the column's largest value.")] = RELEASE_NOISE,
    weight: Annotated[str, typer.Option(help="Column with weights of rows, in the business's file.")] = "",
    exposure: Annotated[str, typer.Option(help="Column with exposures of rows (log links).")] = "",
    offset: Annotated[str, typer.Option(help="Column with scores that rows begin with.")] = "",
    balanced: Annotated[bool, typer.Option("--balanced", help="Weigh both classes alike.")] = False,
    tweedie_power: Annotated[float, typer.Option(help="p of the variance mean^p, for tweedie: 1 to below 2.")] = 0.0,
    validation: Annotated[float, typer.Option(help="Share of the common rows kept for validation.")] = 0.0,
    test: Annotated[float, typer.Option(help="Share of the common rows kept for a test.")] = 0.0,
    solver: Annotated[str, typer.Option(help="lbfgs, or block: some columns in each iteration.")] = "lbfgs",
    draw: Annotated[str, typer.Option(help="Of the solver block: cyclic, random or greedy.")] = "cyclic",
    sample_set: Annotated[str, typer.Option(help="full, growing or fraction.")] = "full",
    batches: Annotated[int, typer.Option(help="Stages of growing, batches of fraction; 0: what suits most.")] = 0,
    folds: Annotated[int, typer.Option(help="Folds of a cross-validation that chooses the penalty.")] = 1,
    penalty: Annotated[list[float] | None, typer.Option(help="A penalty to choose from; again for each.")] = None,
    stop_metric: Annotated[
        str, typer.Option(help="Stop early by this metric of the validation rows: log_loss, auc, deviance, rmse, ...")
    ] = "",
    patience: Annotated[int, typer.Option(help="Evaluations no better than the best before it stops; 0: 3.")] = 0,
    stop_every: Annotated[int, typer.Option(help="Iterations from one evaluation to the next; 0: 1.")] = 0,
    stop_evaluations: Annotated[
        int, typer.Option(help="Evaluations at most; 0: as many as fit below a provider's columns, 8 at most.")
    ] = 0,
    inference: Annotated[
        bool, typer.Option("--inference", help="Standard errors and p-values after training (docs/inference.md).")
    ] = False,
    small_sample: Annotated[bool, typer.Option("--small-sample", help="Lift the rules for small samples.")] = False,
    few_columns: Annotated[bool, typer.Option("--few-columns", help="Allow a party with under 3 columns.")] = False,
    noise_seed: Annotated[str, typer.Option(help="Reproducible release noise, for comparing runs.")] = "",
    broker: Annotated[
        str, typer.Option(help="embedded, rabbitmq (private) or amqp://...: a process each.")
    ] = "embedded",
    business_preparation: Annotated[
        Path | None, typer.Option(help="TOML: what is to be done with the business's columns (docs/preparation.md).")
    ] = None,
    provider_preparation: Annotated[
        list[Path] | None, typer.Option(help="TOML: the same for the provider's; again for each further provider.")
    ] = None,
    out_directory: Annotated[Path | None, typer.Option("--out", help="Where results and plots go.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Train with all parties on this machine, by the same code as daemons of their own."""
    if len(provider) > PROVIDERS_MAX:
        raise ConfigError(f"--provider: {PROVIDERS_MAX} at most")
    check_broker(broker)
    check_out(out_directory)
    prepared = tuple(provider_preparation or ())
    if len(prepared) > len(provider):
        raise ConfigError(f"--provider-preparation: {len(prepared)} files for {len(provider)} providers")
    if task not in (*TASKS, MULTICLASS):
        raise ConfigError(f"--task {task}: {', '.join((*TASKS, MULTICLASS))}")
    beside = {"weight": weight, "exposure": exposure, "offset": offset}
    given = {"small_sample": small_sample, "few_columns": few_columns, "reproducible": bool(noise_seed)}
    job = {
        "task": task,
        "l2": l2,
        "l1": l1,
        "max_iterations": max_iterations,
        "tolerance": tolerance,
        "key_bits": key_bits,
        "release_noise": release_noise,
        "tweedie_power": tweedie_power,
        **{name: column for name, column in beside.items() if column},
        "class_weight": "balanced" if balanced else "",
        "inference": inference,
        "validation": validation,
        "test": test,
        "evaluate": _evaluated(validation, test),
        "solver": solver,
        "draw": draw,
        "sample_set": sample_set,
        "batches": batches,
        "folds": folds,
        "penalties": penalty or [],
        "stop_metric": stop_metric,
        "patience": patience,
        "stop_every": stop_every,
        "stop_evaluations_max": stop_evaluations,
        "marks": [mark for mark, wanted in given.items() if wanted],
    }
    tables = LocalTables(
        business=business,
        provider=provider[0],
        further=tuple(provider[1:]),
        identifier=identifier,
        label=label,
        business_preparation=business_preparation,
        provider_preparation=prepared[0] if prepared else None,
        further_preparations=prepared[1:],
        beside=RowColumns(**beside),
        class_weight="balanced" if balanced else "",
    )
    if stop_metric and not stop_evaluations:
        columns = min(len(tables.read_provider(role).prepared_columns) for role in tables.sources)
        each = max(1, len(tables.read_business(MULTICLASS).classes)) if task == MULTICLASS else 1
        job["stop_evaluations_max"] = max(1, min(STOP_EVALUATIONS, (columns - 1) // each))
    result = train(tables, job, broker=broker, noise_seed=noise_seed, show_progress=not as_json)
    if task == MULTICLASS:
        return _show_classes(tables, result, out_directory, as_json=as_json)
    finished = finished_of(tables, job, result, broker)
    if out_directory is not None:
        report.write_outputs(out_directory, finished)
    if as_json:
        print(json.dumps(report.json_object(finished)))  # noqa: T201
    else:
        summary.show(finished, out)
    return DONE


def _show_classes(tables: LocalTables, result: LocalResult, directory: Path | None, *, as_json: bool) -> int:
    provided = {role: tables.read_provider(role) for role in tables.sources}
    finished = class_report.finish(result, {BUSINESS: tables.read_business(MULTICLASS), **provided})
    if directory is not None:
        class_report.write(directory, result)
    if as_json:
        print(json.dumps(finished.to_object()))  # noqa: T201
    else:
        class_report.show(finished, out)
    return DONE


def _unit(job: JobFile, business: Table) -> float:
    """What a residual of 1 stands for, in units of the labels."""
    unit = float(family_fields(job, business)["residual_unit"])
    return unit * label_bound(job, business) if job.task == "linear" else unit


def finished_of(tables: LocalTables, job: dict[str, Any], result: LocalResult, broker: str) -> report.Finished:
    """Everything a report speaks of, with the tables read again for the metrics."""
    business = tables.read_business(job["task"])
    asked = job_from({"dataset": "labels", "partner": f"{NAMES[PROVIDER]}/features", **job}, "job")
    return report.Finished(
        business=business,
        provider=tables.read_provider(),
        parameters_business=result.parameters[BUSINESS],
        parameters_provider=result.parameters[PROVIDER],
        further={
            role: (tables.read_provider(role), result.parameters[role]) for role in tables.sources if role != PROVIDER
        },
        history=result.history,
        seconds=result.seconds,
        core_seconds=result.cpu_seconds,
        bytes_business_to_provider=result.bytes_sent[BUSINESS],
        bytes_provider_to_business=sum(sent for role, sent in result.bytes_sent.items() if role != BUSINESS),
        key_bits=job.get("key_bits", 2048),
        tolerance=job.get("tolerance", DEFAULT_TOLERANCE),
        backend=choice.select().name,
        transport="embedded" if broker == "embedded" else "amqp",
        inference=result.inference,
        scored=result.scored,
        histories=result.histories,
        release_noise=asked.release_noise,
        unit=_unit(asked, business),
    )


def example_tables(directory: Path, rows: str) -> LocalTables:
    """The first `rows` rows (or "all") of the credit-default example, as files in `directory`."""
    paths = []
    for who in ("business", "provider"):
        table = pl.read_parquet(EXAMPLE / f"{who}.parquet")
        path = directory / f"{who}.parquet"
        (table if rows == "all" else table.head(int(rows))).write_parquet(path)
        paths.append(path)
    return LocalTables(business=paths[0], provider=paths[1], identifier="id", label="y")


def demo(
    rows: Annotated[str, typer.Option(help="How many rows, or all.")] = "4000",
    broker: Annotated[str, typer.Option(help="embedded or rabbitmq.")] = "embedded",
    out_directory: Annotated[Path, typer.Option("--out", help="Where results and plots go.")] = Path("out/demo"),
    keep: Annotated[
        Path | None, typer.Option(help="Keep both parties with all that an audit needs, in this new directory.")
    ] = None,
) -> int:
    """Train on the credit-default example and compare with the model of the joined table.

    The release noise comes from a fixed seed (the contract says so: mark `reproducible`), so that the runs over
    both transports can be compared byte by byte although their identities differ.
    """
    if rows != "all" and not rows.isdigit():
        raise ConfigError(f"--rows {rows}: a number of rows, or all")
    check_broker(broker)
    check_out(out_directory)
    job = {**DEMO_JOB, "retention": "full" if keep else "digests"}
    with _place(keep) as place:
        tables = example_tables(place, rows)
        out.print(f"Two parties, {rows} rows of default_credit (UCI, CC BY 4.0), transport: {broker}\n")
        result = train(tables, job, broker=broker, noise_seed=DEMO_SEED, place=place)
        finished = finished_of(tables, job, result, broker)
    report.write_outputs(out_directory, finished)
    summary.show(finished, out)
    out.print(f"\nEach party's own target parameters, history and plots are in {out_directory}/")
    if keep:
        out.print(f"\nWhat each party keeps of job {result.job} is in {keep}/. To run its tasks again (docs/audit.md):")
        for role in NAMES:
            party, file = keep / role / "party.toml", keep / f"{role}.audit"
            out.print(f"  warren audit export {result.job} --for auditor --party {party} --out {file}", soft_wrap=True)
            out.print(f"  warren audit replay --execute {file} --party {party}", soft_wrap=True)
    return DONE if report.json_object(finished)["converged"] else FAILED
