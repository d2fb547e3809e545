"""A target's inputs once more, without a fuzzer: which lines and branches they reach, and which inputs are needed.

`python -m tests.fuzz.replay TARGET FILE...` runs inputs one by one; what is wrong with one is raised.
"""

import importlib
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import coverage
import msgspec

from tests.fuzz.oracle import HOUSE

CORPUS: Final = Path(__file__).parent / "corpus"
REGRESSIONS: Final = Path(__file__).parent / "regressions"
"""Inputs that were not survived once, named by what they are."""

ROOMS: Final = ("messages", "protocol", "services")
TARGETS: Final = tuple(sorted(path.stem for path in (Path(__file__).parent / "targets").glob("[a-z]*.py")))


@dataclass(frozen=True, slots=True)
class Reached:
    """Lines and branches of one module."""

    module: str
    lines: int
    lines_reached: int
    branches: int
    branches_reached: int
    missing: tuple[int, ...]

    @property
    def line_share(self) -> float:
        return self.lines_reached / self.lines

    @property
    def branch_share(self) -> float:
        return self.branches_reached / self.branches if self.branches else 1.0


def target_of(name: str) -> Any:
    """The module of a target."""
    return importlib.import_module(f"tests.fuzz.targets.{name}")


def files_of(*folders: Path) -> list[Path]:
    """Every input in these folders, the shortest first."""
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]
    return sorted(found, key=lambda path: (path.stat().st_size, path.name))


def measure(name: str, files: Sequence[Path]) -> tuple[list[Reached], list[Path], list[Path]]:
    """Replay inputs under coverage.py in a process that has imported nothing of the target yet.

    Returns what they reach together; the inputs without which it would be less (each in turn is kept if it takes a
    way between two lines that no one before it took); and those that were not survived, told on standard error.
    """
    measured = coverage.Coverage(
        data_file=None, branch=True, config_file=False, source=[str(HOUSE / room) for room in ROOMS]
    )
    needed: list[Path] = []
    failed: list[Path] = []
    seen: set[tuple[str, tuple[int, int]]] = set()
    measured.start()
    measured.switch_context("import")
    target = target_of(name)
    for path in files:
        measured.switch_context(path.name)
        try:
            target.fuzz_one(path.read_bytes())
        except BaseException:  # a panic of a library is no Exception
            traceback.print_exc()
            failed.append(path)
    measured.stop()
    data = measured.get_data()
    modules = [str(HOUSE / module) for module in target.MODULES]
    for path in files:
        data.set_query_contexts([f"^{path.name}$"])
        ways = {(module, way) for module in modules for way in data.arcs(module) or ()}
        if path not in failed and not ways <= seen:
            seen |= ways
            needed.append(path)
    data.set_query_contexts(None)
    return [_reached(measured, module) for module in target.MODULES], needed, failed


def _reached(measured: coverage.Coverage, module: str) -> Reached:
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        measured.json_report(morfs=[str(HOUSE / module)], outfile=report.name)
        found = next(iter(msgspec.json.decode(Path(report.name).read_bytes())["files"].values()))
    summary = found["summary"]
    return Reached(
        module=module,
        lines=summary["num_statements"],
        lines_reached=summary["covered_lines"],
        branches=summary["num_branches"],
        branches_reached=summary["covered_branches"],
        missing=tuple(found["missing_lines"]),
    )


def main() -> None:
    target = target_of(sys.argv[1])
    for name in sys.argv[2:]:
        target.fuzz_one(Path(name).read_bytes())
        print(f"{name}: nothing is wrong with it")


if __name__ == "__main__":
    main()
