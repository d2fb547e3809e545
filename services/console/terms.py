"""What a contract says, for people."""

from typing import Any

import msgspec

from protocol.contract import MARKS
from protocol.scoring_contract import AnyContract, ScoringContract


def terms_of(contract: AnyContract) -> dict[str, Any]:
    """A contract for people: the marks that its parties accepted with what they mean, and all fields as they stand."""
    marks = () if isinstance(contract, ScoringContract) else contract.marks
    fields = {
        field.name: value.hex() if isinstance(value := getattr(contract, field.name), bytes) else _plain(value)
        for field in msgspec.structs.fields(contract)
    }
    return {
        "kind": "scoring" if isinstance(contract, ScoringContract) else "training",
        "business": contract.business,
        "providers": list(contract.providers),
        "marks": [{"mark": mark, "means": MARKS[mark]} for mark in marks],
        "fields": fields,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return {name: _plain(one) for name, one in msgspec.structs.asdict(value).items()}
    return value.hex() if isinstance(value, bytes) else value
