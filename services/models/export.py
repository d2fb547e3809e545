"""A party's own part of a model for other programs: JSON by a published schema (docs/schemas/model-part.json)."""

from typing import Any, Final

import msgspec

from services.models.version import ModelVersion

PART_FORMAT: Final = "warren-model-part-1"


def part_of(version: ModelVersion) -> bytes:
    """The part as JSON bytes.

    A score is `constant + sum_j coefficient_j (round((x_j - centre_j) / step_j) step_j + centre_j)`; the scores of all
    parties are added, and the inverse of `link` makes the prediction of the sum. Where there is a `preparation`, x are
    the columns that it makes of the sources (docs/preparation.md). A model of several classes has constant and
    coefficients, in the order of the columns, for each of them: at a provider their names are numbers.
    """
    terms, several = version.terms, len(version.targets) > 1
    part: dict[str, Any] = {
        "format": PART_FORMAT,
        "model": version.model,
        "party": version.party,
        "role": version.role,
        "business": terms.business,
        "providers": list(terms.providers),
        "task": version.task,
        "link": LINKS.get(version.task, "log"),
        "rows": version.rows,
        "l2": version.document["l2"],
        "contract_digest": version.contract_digest.hex(),
        "schema_digest": version.schema_digest.hex(),
        "software_version": version.software_version,
        **_constants(version),
        **{name: column for name, column in msgspec.structs.asdict(version.beside).items() if column},
        **({} if version.preparation is None else {"preparation": msgspec.to_builtins(version.preparation)}),
        "columns": [
            {**column, **({} if several else {"coefficient": coefficient})}
            for column, coefficient in zip(_grid(version), version.targets[0].coefficients, strict=True)
        ],
    }
    return msgspec.json.format(msgspec.json.encode(part), indent=2) + b"\n"


def _constants(version: ModelVersion) -> dict[str, Any]:
    """The constant of a score; of several classes each one's, with its coefficients."""
    if len(version.targets) == 1:
        return {"constant": version.target.constant}
    return {
        "classes": [
            {"name": name, "constant": target.constant, "coefficients": list(target.coefficients)}
            for name, target in zip(version.classes, version.targets, strict=True)
        ]
    }


def _grid(version: ModelVersion) -> list[dict[str, Any]]:
    target = version.targets[0]
    return [
        {"name": name, "centre": centre, "step": step}
        for name, centre, step in zip(version.columns, target.centres, target.scales, strict=True)
    ]


LINKS: Final = {"logistic": "logit", "linear": "identity"}
"""Task -> link function, in the words of generalised linear models; of all others it is the logarithm."""
