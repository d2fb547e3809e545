"""The reason codes that this software can give, found in its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.documents.blocks import ROOT

ROOMS = ("protocol", "messages", "alignment", "learning", "paillier", "services")
CODE = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
PARKING = ("receiving.py", "unsequenced.py")
"""Modules whose functions return the code that a delivery is parked with."""
SAYING = re.compile(
    r"^(RemoteProtocolError|expect|expect_chunk|TaskRefused|ContractError|EnvelopeError|Unreadable|CodecError|TableError"
    r"|\w+Refused|ListError|ColumnRefused|SnapshotDamaged|LookupRefused|PreparationError|IdentifierError|ProofError"
    r"|HistoryError|LoopError|MaskedError|CodesError|LinkError|fail|freeze|freeze_all|park|_?refusal|_decline)$"
)
"""Names of what is raised or called with a reason code among its first arguments."""

CELLS = ("_refuse", "_refuse_rows")
"""Functions that are given a code within a tuple."""

NO_CODES = {"frozen", "sent", "received"}
"""Words of other meaning in such a place."""

KEYWORDS = {"code", "reason_code"}
NAMED = re.compile(r"^[A-Z_]*(REVOKED|DECLINED|FROZEN|MISSING|DISK_FULL|LOST)$")
"""Constants that are reason codes."""


def codes() -> dict[str, str]:
    """Each code and a place that gives it."""
    found: dict[str, str] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.is_relative_to(ROOT / "services" / "console"):
                continue  # what a browser is told says what to do by itself
            for code, line in _of(ast.parse(path.read_text()), path):
                found.setdefault(code, f"{path.relative_to(ROOT)}:{line}")
    return found


def _of(tree: ast.Module, path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [word.value for word in node.keywords if word.arg in KEYWORDS]
            given += node.args[:3] if SAYING.match(name) else []
            # Of cells: (code, what is there, what to do).
            given += [each.elts[0] for each in node.args if name in CELLS and isinstance(each, ast.Tuple)]
            yield from _constants(given)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and NAMED.match(target.id):
                yield from _constants([node.value])
        elif isinstance(node, ast.Tuple):
            # A code and its sentence, for whoever raises the first of several.
            pairs = zip(node.elts, node.elts[1:], strict=False)
            found = list(_constants([code for code, reason in pairs if _is_sentence(reason)]))
            yield from (each for each in found if "_" in each[0] or ROOT / "protocol" in path.parents)
        elif (
            isinstance(node, ast.Return) and path.name in ("receiving.py", "unsequenced.py") and node.value is not None
        ):
            # What is parked: the checks of a delivery answer with its code.
            yield from _constants(node.value.elts if isinstance(node.value, ast.Tuple) else [node.value])


def _is_code(text: str) -> bool:
    return bool(CODE.match(text)) and text not in NO_CODES


def _is_sentence(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value


def _constants(nodes: list[ast.expr]) -> Iterator[tuple[str, int]]:
    for node in nodes:
        for each in (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,):
            if isinstance(each, ast.Constant) and isinstance(each.value, str) and _is_code(each.value):
                yield each.value, each.lineno
