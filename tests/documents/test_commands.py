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
    "docs/console.md": "a link for a browser: tests/console opens it",
}
"""Documents with blocks of commands that are not run as they stand, and why."""

RUN_BY_TESTS = {
    ("approve",): "tests/services/test_consent.py",
    ("decline",): "tests/services/test_consent.py",
    ("audit", "replay"): "tests/audit/test_command_line.py",
    ("bench", "paillier"): "tests/bench/test_align_bench.py",
    ("broker", "apply"): "tests/services/test_command_line.py",
    ("broker", "definitions"): "tests/broker/test_deploy.py",
    ("cancel",): "tests/services/test_configuration.py",
    ("coefficients",): "tests/services/test_command_line.py",
    ("console",): "tests/console/test_entering.py",
    ("demo",): "tests/services/test_local.py",
    ("evaluate",): "tests/services/test_evaluation_stage.py",
    ("predict",): "tests/models/test_scoring.py",
    ("watch",): "tests/endurance/test_mqtt_provider.py",
}
"""Commands that need more than a page has room for: the test that runs them."""

MEASUREMENTS = {
    ("bench", "long"): "twenty minutes; tests/bench/test_long_run.py has a short one",
    ("bench", "providers"): "minutes on an idle machine",
    ("bench", "train"): "minutes on an idle machine",
    ("bench", "transport"): "minutes on an idle machine",
}
"""Commands whose figures documents quote, and that nothing depends on."""


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
    left = places.keys() - run - RUN_BY_TESTS.keys() - MEASUREMENTS.keys() - groups - {("audit",), ("bench",)}
    assert {path: places[path] for path in left} == {}
    assert run.isdisjoint({*RUN_BY_TESTS, *MEASUREMENTS} - {("audit", "replay")})
    for path, test in RUN_BY_TESTS.items():
        assert re.search(rf"\b{path[-1]}\b", (ROOT / test).read_text()), f"{test} does not run {path}"


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


@pytest.mark.timeout(400)
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
