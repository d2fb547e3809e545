"""Compute tasks of evaluations: the provider's rounded scores, the business's figures, the metric that it stops by."""

import io
import math
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning.evaluation import multiclass, part_figures
from learning.links import projections
from learning.links.family import family_of
from learning.links.targets import Targets, targets_of
from learning.solvers import classes as several
from learning.solvers import history as histories
from messages import schemas
from protocol.evaluating import VALIDATION
from services.tables.snapshot import unpack_snapshot
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.features import matrix_of
from services.tasks.score import hidden
from services.tasks.sealing import seal_chunk

Inputs = tuple[bytes, ...]
Vector = NDArray[np.float64]
Rows = NDArray[np.int64]


def _rows(pieces: list[tuple[str, int, int]]) -> Rows:
    """Rows of the matrix that are evaluated, part by part."""
    return np.concatenate([np.arange(first, first + count) for _, first, count in pieces]).astype(np.int64)


def _own_scores(arguments: dict[str, Any], matrix: bytes, history: bytes, rows: Rows) -> Vector:
    """Own scores (n,) at the target parameters, in units of the labels for a linear model; (n, classes) of several."""
    if "classes" in arguments["job"]:
        all_classes = several.take_step(several.decode(history), tuple(arguments["combination"]))
        return several.scores(all_classes, matrix_of(matrix, arguments["job"]["own_columns"])[rows])
    trained = histories.take_step(histories.decode(history), tuple(arguments["combination"]))
    scores: Vector = histories.scores(trained, matrix_of(matrix, arguments["job"]["own_columns"])[rows])
    return scores * trained.label_unit


def _unit(facts: dict[str, Any]) -> float:
    return projections.unit_of(facts["task"], facts["label_bound"])


def send_partial(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Round and seal a chunk of the provider's scores."""
    chunk, first, count = arguments["chunk"], arguments["first_row"], arguments["rows"]
    rows = _rows(arguments["pieces"])[first : first + count]
    try:
        own = _own_scores(arguments, inputs[0], inputs[1], rows).ravel()  # a row's classes lie beside each other
        units = projections.to_units(own, _unit(arguments["job"]))
    except projections.ProjectionError as error:
        raise TaskRefused("score_large", str(error)) from None
    if "masks" in arguments:
        units = hidden(context, arguments, units)
    message = schemas.ScorePartial(
        part=arguments["part"],
        iteration=arguments["iteration"],
        first_row=first,
        rows=count,
        values=projections.to_bytes(units),
    )
    sealed = seal_chunk(context, message, chunk, arguments["chunks"])
    return TaskResult(sealed.proof, ((sealed.body, count),))


def _joint(arguments: dict[str, Any], rows: Rows, inputs: Inputs) -> tuple[Targets, Vector]:
    """Labels and joint scores (n,) of some rows: inputs are own matrix, history, labels, and the providers' scores.

    Scores of several classes are (n, classes).
    """
    facts = arguments["job"]
    targets = targets_of(inputs[2], family_of(facts)).rows(rows)
    # Chunk after chunk of one provider, then of the next; in their sum the masks between them cancel.
    own = _own_scores(arguments, inputs[0], inputs[1], rows)
    told = projections.from_bytes(b"".join(inputs[3:])).reshape(arguments["providers"], own.size)
    partial = projections.from_units(told.sum(axis=0, dtype=np.uint64), _unit(facts)).reshape(own.shape)
    return targets, own + partial if "classes" in facts else own + targets.offsets + partial


def judge(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """The metric, on the validation rows, of the model that a job would end with now. Raises TaskRefused.

    The figure stays in the business's journal: no log and no message has it.
    """
    del context
    facts, rows = arguments["job"], _rows(arguments["pieces"])
    targets, scores = _joint(arguments, rows, inputs)
    if "classes" in facts:
        metrics = multiclass.metrics(multiclass.evaluate(targets.label.astype(np.int64), scores, targets.weight))
    else:
        metrics = part_figures.evaluate(
            facts["task"], targets.label, scores, targets.weight, part=VALIDATION, power=family_of(facts).power
        ).metrics
    figure = metrics.get(arguments["metric"], math.nan)
    if not math.isfinite(figure):
        raise TaskRefused(
            "stop_metric",
            f"the metric {arguments['metric']} is not defined on the {len(rows)} validation rows: use more of them, or "
            "another stop_metric",
        )
    return TaskResult({"figure": figure}, ())


def results(context: TaskContext, arguments: dict[str, Any], inputs: Inputs) -> TaskResult:
    """Add the own scores; figures of every part.

    Blobs: `metrics.json`, and `scores.csv` with id, part, label, score and prediction (and weight) of every row;
    of several classes the likeliest, and each one's probability and score.
    """
    del context
    facts, pieces = arguments["job"], arguments["pieces"]
    snapshot, aligned = unpack_snapshot(inputs[0]), np.frombuffer(inputs[1], dtype="<i8")
    family, rows = family_of(facts), _rows(pieces)
    targets, scores = _joint(arguments, rows, inputs[2:])
    parts, at = {}, 0
    for name, _, count in pieces:
        parts[name], at = np.arange(at, at + count), at + count
    columns: dict[str, Any]
    if "classes" in facts:
        names = tuple(snapshot.classes)
        told = multiclass.as_builtins(targets.label, scores, parts, names, targets.weight)
        columns = {"label": [names[int(place)] for place in targets.label], **multiclass.columns(names, scores)}
    else:
        found = part_figures.by_part(facts["task"], targets.label, scores, parts, targets.weight, power=family.power)
        told = part_figures.as_builtins(found)
        mean = part_figures.mean_response(facts["task"], scores)
        columns = {"label": targets.label, "score": scores, "prediction": mean}
    frame = pl.DataFrame(
        {
            "id": pl.Series([snapshot.identifiers[row] for row in aligned[rows]], dtype=pl.String),
            "part": pl.Series([name for name, _, count in pieces for _ in range(count)], dtype=pl.String),
            **columns,
            **({} if targets.weight is None else {"weight": targets.weight}),
        }
    )
    text = io.BytesIO()
    frame.sort("part", "id").write_csv(text)
    figures = msgspec.json.format(msgspec.json.encode({"parts": told}), indent=2) + b"\n"
    return TaskResult({}, ((figures, len(rows)), (text.getvalue(), len(rows))))
