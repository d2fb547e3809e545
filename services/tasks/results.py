"""The last compute task: this party's own target parameters, on the original column scale."""

from typing import Any

import msgspec

from learning import history as histories
from learning import masked, release
from services.compute import TaskContext, TaskResult
from services.ledger import Ledger
from services.snapshot import unpack_snapshot
from services.tasks import curving, pairwise
from services.tasks.preparing import decode_fitted, prepared_names


def results(context: TaskContext, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
    """Blobs: `parameters.json`, `history.json` and, where the contract asks for it, `inference.json`.

    No timestamps, no names of the job: equal models, equal bytes.
    """
    facts = arguments["job"]
    snapshot = unpack_snapshot(inputs[0])
    inputs, curvature = (inputs[:-1], inputs[-1:]) if "inference" in arguments else (inputs, ())
    trained = histories.take_step(histories.decode(inputs[1]), tuple(arguments["combination"]))
    target = histories.target(trained)
    columns = prepared_names(snapshot)
    business = facts["role"] == "business"
    parameters: dict[str, Any] = {"task": facts["task"], "role": facts["role"], "rows": facts["rows"]}
    if "tweedie_power" in facts:
        parameters["tweedie_power"] = facts["tweedie_power"]
    validation = msgspec.msgpack.decode(arguments["validation"]) if "validation" in arguments else {}
    parameters["l2"] = validation.get("chosen", facts["l2"])
    if "l1" in facts:
        parameters["l1"] = facts["l1"]
    parameters["iterations"] = arguments["iterations"]
    parameters["converged"] = arguments["converged"]
    if business:
        # The provider's columns are centred, too: its constant makes this the intercept of the joint model.
        parameters["intercept"] = target.constant + arguments["constant"]
    parameters["coefficients"] = dict(zip(columns, target.coefficients, strict=True))
    parameters["grid"] = {
        column: {"centre": centre, "step": scale}
        for column, centre, scale in zip(columns, target.centres, target.scales, strict=True)
    }
    if len(inputs) > 2:
        # What scoring has to do with raw columns before the coefficients are theirs.
        parameters["preparation"] = msgspec.to_builtins(decode_fitted(inputs[2]))
    history = {
        "iterations": arguments["facts"],
        "converged": arguments["converged"],
        "stop_reason": arguments["stop_reason"],
        **({"validation": validation} if validation else {}),
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
    output: dict[str, Any] = {"constant": target.constant}
    if "masks" in arguments:
        # Only the sum of the providers' parts is for the business.
        mask = pairwise.masks(context, arguments["masks"], 1, "intercept")
        output = {"masked": masked.masked([target.constant], mask)[0]}
    return TaskResult(output, tuple((blob, facts["rows"]) for blob in blobs))


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
