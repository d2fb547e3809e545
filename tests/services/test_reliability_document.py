"""docs/reliability.md promises nothing that no test backs."""

import ast
import re
from functools import cache
from pathlib import Path

HOUSE = Path(__file__).parents[2]
DOCUMENT = (HOUSE / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions(path: str) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse((HOUSE / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_test_that_the_document_names_exists():
    named = NAMED.findall(DOCUMENT)
    assert len(named) > 40
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


def test_every_row_of_a_table_of_promises_names_its_test():
    rows: list[str] = []
    for table in re.findall(r"(?:^\|.*\n)+", DOCUMENT, re.MULTILINE):
        head, _, *body = table.splitlines()
        if head.rstrip(" |").endswith("| test") or head.rstrip(" |").endswith("test"):
            rows += body
    assert len(rows) > 30
    assert [row for row in rows if not NAMED.search(row)] == []


def test_every_reason_to_wait_is_explained():
    from services.engine.waiting import Why

    assert [why.value for why in Why if f"| `{why.value}` |" not in DOCUMENT] == []
