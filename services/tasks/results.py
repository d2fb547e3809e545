"""The last compute task: this party's own target parameters, on the original column scale."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from learning import release
from learning.arithmetic import masked
from learning.solvers import classes as several
from learning.solvers import history as histories
from learning.solvers.history import LocalHistory
from services.store.ledger import Ledger
from services.tables.snapshot import Snapshot, unpack_snapshot
from services.tasks import curving, pairwise
from services.tasks.compute import TaskContext, TaskRefused, TaskResult
from services.tasks.preparing import decode_fitted, prepared_names

PARTS_BYTES_MAX: Final = 32_768
NAME_LETTERS_MAX: Final = 200


def results(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    """Blobs: `parameters.json`, `history.json` and, where the contract asks for it, `inference.json`.

    No timestamps, no names of the job: equal models, equal bytes.
    """
    facts = arguments["job"]
    snapshot = unpack_snapshot(inputs[0])
    inputs, curvature = (inputs[:-1], inputs[-1:]) if "inference" in arguments else (inputs, ())
    combination = tuple(arguments["combination"])
    local = [] if "classes" not in facts else several.take_step(several.decode(inputs[1]), combination)
    trained = local[0] if local else histories.take_step(histories.decode(inputs[1]), combination)
    target = histories.target(trained)
    columns = prepared_names(snapshot)
    parameters: dict[str, Any] = {"task": facts["task"], "role": facts["role"], "rows": facts["rows"]}
    if "tweedie_power" in facts:
        parameters["tweedie_power"] = facts["tweedie_power"]
    validation = msgspec.msgpack.decode(arguments["validation"]) if "validation" in arguments else {}
    parameters["l2"] = validation.get("chosen", facts["l2"])
    if "l1" in facts:
        parameters["l1"] = facts["l1"]
    parameters["iterations"] = arguments["iterations"]
    parameters["converged"] = arguments["converged"]
    parameters.update(_coefficients(arguments, snapshot, columns, local or [trained]))
    parameters["grid"] = {
        column: {"centre": centre, "step": scale}
        for column, centre, scale in zip(columns, target.centres, target.scales, strict=True)
    }
    # Scores of rows begin with what these columns say; no features, so they are named apart.
    parameters.update({name: column for name, column in msgspec.structs.asdict(snapshot.beside).items() if column})
    if len(inputs) > 2:
        # What scoring has to do with raw columns before the coefficients are theirs.
        parameters["preparation"] = msgspec.to_builtins(decode_fitted(inputs[2]))
    if "partners" in arguments:
        parameters["partners"] = {name: _readable(part) for name, part in arguments["partners"].items()}
    history = {
        "iterations": arguments["facts"],
        "converged": arguments["converged"],
        "stop_reason": arguments["stop_reason"],
        **({"validation": validation} if validation else {}),
        **({"stopping": _stopping(arguments["stopping"])} if "stopping" in arguments else {}),
    }
    blobs = [_json(parameters), _json(history)]
    reserved = 0
    if curvature:
        blobs.append(_json(curving.table(arguments, tuple(columns), trained, curvature[0])))
        reserved = release.inference_entries(facts["partner_columns"], facts["own_columns"])
    released = arguments.get("released") or {context.partner.name: facts["partner_columns"]}
    gradients = validation.get("turns", arguments["iterations"])
    for name, count in released.items():
        tariff = release.Tariff(**arguments.get("tariff", {}))
        Ledger(context.data_directory, name).settle(context.job, gradients, count, reserved, tariff)
    constants = [histories.target(one).constant for one in local or [trained]]
    output: dict[str, Any] = {"constants": constants} if local else {"constant": target.constant}
    if "masks" in arguments:
        # Only the sum of the providers' parts is for the business.
        mask = pairwise.masks(context, arguments["masks"], len(constants), "intercept")
        output = {"masked": b"".join(masked.masked(constants, mask))}
    if "whole_model" in arguments:
        output["part"] = _part(context, arguments, parameters, inputs[2] if len(inputs) > 2 else b"")
    return TaskResult(output, tuple((blob, facts["rows"]) for blob in blobs))


def _stopping(told: dict[str, Any]) -> dict[str, Any]:
    """The evaluations of a job that stops early, as history.json has them: with figures at the business alone."""
    figures = told.pop("figures", ())
    evaluated = [{"iteration": iteration} for iteration in told.pop("evaluated")]
    for one, figure in zip(evaluated, figures, strict=False):
        one["figure"] = figure
    return {**told, "evaluations": evaluated}


def _part(
    context: TaskContext, arguments: dict[str, Any], parameters: dict[str, Any], preparation: bytes
) -> dict[str, Any]:
    """What a provider hands over of its model, because the contract says so. Raises TaskRefused when it is too large.

    All parts lie in the business's state until the last is there.
    """
    part = {
        "names": list(parameters["coefficients"]),
        "coefficients": list(parameters["coefficients"].values()),
        "centres": [step["centre"] for step in parameters["grid"].values()],
        "steps": [step["step"] for step in parameters["grid"].values()],
        "preparation": preparation,
    }
    size = len(msgspec.msgpack.encode(part))
    long = any(len(name) > NAME_LETTERS_MAX for name in part["names"])
    if long or size > PARTS_BYTES_MAX // arguments["whole_model"]:
        context.log.warning("part of the model too large to be handed over", bytes=size)
        raise TaskRefused(
            "model_part_large",
            f"the part of {context.party} has {size} bytes or a name of over {NAME_LETTERS_MAX} letters: leave "
            "whole_model out, or use fewer columns with shorter names",
        )
    return part


def _readable(part: dict[str, Any]) -> dict[str, Any]:
    """A provider's part in the words of parameters.json."""
    names, preparation = part["names"], part["preparation"]
    found: dict[str, Any] = {
        "coefficients": dict(zip(names, part["coefficients"], strict=True)),
        "grid": {
            name: {"centre": centre, "step": step}
            for name, centre, step in zip(names, part["centres"], part["steps"], strict=True)
        },
    }
    if preparation:
        try:
            found["preparation"] = msgspec.to_builtins(decode_fitted(preparation))
        except msgspec.MsgspecError:
            raise TaskRefused("model_part_wrong", "the preparation in a provider's part cannot be read") from None
    return found


def _coefficients(
    arguments: dict[str, Any], snapshot: Snapshot, columns: Sequence[str], local: Sequence[LocalHistory]
) -> dict[str, Any]:
    """Intercept (the business's) and coefficients; of several classes by their names, at a provider by number."""
    business = arguments["job"]["role"] == "business"
    several_classes = "classes" in arguments["job"]
    names = snapshot.classes or [str(place) for place in range(len(local))]
    constants = (arguments.get("constants") if several_classes else [arguments["constant"]]) or [0.0] * len(local)
    found: dict[str, Any] = {}
    for name, one, constant in zip(names, local, constants, strict=True):
        target = histories.target(one)
        # The provider's columns are centred, too: its constant makes this the intercept of the joint model.
        intercept = {"intercept": target.constant + constant} if business else {}
        found[name] = {**intercept, "coefficients": dict(zip(columns, target.coefficients, strict=True))}
    return {"classes": found} if several_classes else next(iter(found.values()))


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
