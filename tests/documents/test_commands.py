"""Every command that a document names exists with its options, and is run: by a block of a document, or by a test."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.documents.blocks import DOCUMENTS, ROOT, Terminal, blocks
from tests.documents.commands import Named, named, resolved
from tests.documents.test_tutorial import TUTORIAL

NOT_RUN_BLOCKS = {
    "README.md": "make: what `make demo` and `make test` run is this suite; the list of commands is a survey",
    "CONTRIBUTING.md": "make: they are this suite, or hours of it",
    "docs/broker.md": "brokers of two organisations, in containers: tests/broker has both shapes on real nodes",
    "docs/console.md": "a link for a browser: tests/console opens it",
}
"""Documents with blocks of commands that are not run as they stand, and why."""

MEASUREMENTS = {
    ("bench", "long"): "twenty minutes; tests/bench/test_long_run.py has a short one",
    ("bench", "providers"): "minutes on an idle machine",
    ("bench", "train"): "minutes on an idle machine",
    ("bench", "transport"): "minutes on an idle machine",
}
"""Commands whose figures documents quote, and that nothing depends on."""


def run_by_tests() -> list[set[str]]:
    """The words of each test module that runs this program's command line."""
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text()
        if path != Path(__file__) and re.search(r"services\.cli|\bwarren\b.*subprocess|\"warren\"", text):
            found.append({word for quoted in re.findall(r"[\"']([a-z][a-z -]*)[\"']", text) for word in quoted.split()})
    return found


@pytest.fixture(scope="module")
def all_named() -> list[Named]:
    found = [each for path in DOCUMENTS for each in named(path)]
    assert len(found) > 100
    return found


def test_every_command_in_a_document_exists_with_its_options(all_named):
    wrong = []
    for each in all_named:
        try:
            resolved(each.text)
        except LookupError as error:
            wrong.append(f"{each.place}: {each.text}: {error}")
    assert wrong == []


def test_every_command_in_a_document_is_run(all_named):
    places: dict[tuple[str, ...], str] = {}
    run = set()
    for each in all_named:
        path, _ = resolved(each.text)
        places.setdefault(path, each.place)
        if each.runs:
            run.add(path)
    groups = {path[:length] for path in places for length in range(len(path))}
    words = run_by_tests()
    elsewhere = {path for path in places if any(set(path) <= module for module in words)}
    left = places.keys() - run - elsewhere - MEASUREMENTS.keys() - groups - {("audit",), ("bench",)}
    assert {path: places[path] for path in left} == {}


def test_blocks_that_are_not_run_are_known_with_their_reason():
    left = {
        str(block.path.relative_to(ROOT))
        for path in DOCUMENTS
        for block in blocks(path)
        if not block.terminals
        and block.language in ("", "sh")
        and any(line.startswith(("warren ", "make ", "python ", "docker")) for line in block.commands)
    }
    assert left == NOT_RUN_BLOCKS.keys()


def test_make_targets_and_modules_that_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        text = path.read_text()
        for match in re.finditer(r"[`\n]make ([a-z-]+(?: [a-z-]+)*)", text):
            assert set(match[1].split()) <= targets, f"{path}: make {match[1]}"
        for match in re.finditer(r"`python -m ([a-z_.]+)", text):
            place = ROOT.joinpath(*match[1].split("."))
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), f"{path}: {match[0]}"


def bank(path: Path, values: np.ndarray, label: np.ndarray) -> None:
    _table(values[:, :4]).with_columns(defaulted=pl.Series(label)).write_csv(path)


def bureau(path: Path, values: np.ndarray, label: np.ndarray) -> None:
    del label
    _table(values[:, 4:]).write_csv(path)


def _table(values: np.ndarray) -> pl.DataFrame:
    columns = {f"amount{column}": values[:, column] for column in range(values.shape[1])}
    return pl.DataFrame(columns).with_columns(id=pl.format("person-{}", pl.int_range(len(values))))


GIVEN: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {"bank.csv": bank, "bureau.csv": bureau}
"""Files that a reader is taken to have."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if path != TUTORIAL and any(block.terminals for block in blocks(path))],
    ids=lambda path: path.name,
)
def test_the_blocks_of_a_document_do_what_it_says(path, tmp_path):
    random = np.random.default_rng(3)
    values = random.normal(size=(1000, 8))
    label = (random.logistic(size=1000) < values.sum(axis=1)).astype(np.int64)
    with ExitStack() as stack:
        terminals: dict[str, Terminal] = {}
        for block in blocks(path):
            for name in block.words.get("given", "").split(","):
                if name:
                    GIVEN[name](tmp_path / name, values, label)
            for name in block.terminals:
                if name not in terminals:
                    terminals[name] = stack.enter_context(Terminal(name, tmp_path, where=tmp_path))
                terminals[name].run(block)
