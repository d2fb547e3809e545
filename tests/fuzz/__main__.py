"""`python -m tests.fuzz [--seconds N] [--target NAME]... [--at-once N] [--keep]`: coverage-guided fuzzing.

Each target runs under atheris in a process of its own, from the kept corpus, from what earlier runs here found and
from its seeds. Then everything found is replayed under coverage.py for the lines and branches that it reaches:
atheris counts edges of its own, which are no lines. With `--keep` the corpus in git is replaced by the smallest
inputs that reach as much. Exit 1: an input was not survived, or a target that is held to it reaches too little.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.oracle import HOUSE
from tests.fuzz.replay import CORPUS, REGRESSIONS, TARGETS, files_of, target_of

FOUND: Final = HOUSE / ".fuzz"
CRASHES: Final = Path(__file__).parent / "crashes"
RSS_MIB_MAX: Final = 1536
INPUT_SECONDS_MAX: Final = 20
SHARE_MIN: Final = 0.95
KEPT_FILES_MAX: Final = 30
KEPT_BYTES_MAX: Final = 50_000
"""Of one target; what lines and branches need is kept in any case where the target is held to them."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a target's process did."""

    target: str
    executions: int
    seconds: float
    survived: bool
    told: str


def fuzz(name: str, seconds: int) -> Run:
    """Run one target; what it finds stays in `FOUND`."""
    found, seeds = FOUND / name, FOUND / f"{name}-seeds"
    for folder in (found, CRASHES):
        folder.mkdir(parents=True, exist_ok=True)
    _write_seeds(name, seeds)
    started = time.monotonic()
    log = FOUND / f"{name}.log"
    with log.open("wb") as output:
        code = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.worker", name),
                f"-max_total_time={seconds}",
                f"-rss_limit_mb={RSS_MIB_MAX}",
                f"-timeout={INPUT_SECONDS_MAX}",
                f"-max_len={target_of(name).INPUT_BYTES_MAX}",
                f"-artifact_prefix={CRASHES}/{name}-",
                "-print_final_stats=1",
                *map(str, dict.fromkeys((found, *(folder for folder in folders_of(name) if folder.is_dir())))),
            ],
            cwd=HOUSE,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    text = log.read_text(errors="replace")
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)
    return Run(name, int(counted[-1]) if counted else 0, time.monotonic() - started, code == 0, _told(text))


def _write_seeds(name: str, folder: Path) -> None:
    """Seeds are made anew in a process of their own: targets keep state that must not outlive it."""
    script = (
        "import sys, pathlib, hashlib; from tests.fuzz.replay import target_of\n"
        "for data in target_of(sys.argv[1]).seeds():\n"
        "    pathlib.Path(sys.argv[2], hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)\n"
    )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", script, name, str(folder)], cwd=HOUSE, check=True)


def _told(text: str) -> str:
    """The exception and the input of a crash, out of the fuzzer's log."""
    wanted = ("Test unit written to", "=== Uncaught Python exception", "ERROR: libFuzzer")
    lines = text.splitlines()
    at = [place for place, line in enumerate(lines) if any(mark in line for mark in wanted)]
    return "\n".join(line[:400] for place in at for line in lines[place : place + 2])


def measure(name: str) -> dict[str, object]:
    """Lines and branches that everything found reaches, and the inputs needed for it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.measure", name, *map(str, folders_of(name))],
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        check=False,
    )
    report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return report


def folders_of(name: str) -> tuple[Path, ...]:
    """Where a target's inputs are."""
    return CORPUS / name, FOUND / name, FOUND / f"{name}-seeds", REGRESSIONS / name


def keep(name: str) -> None:
    """Replace a target's corpus in git by the inputs that its lines and branches need, and some of the merged ones."""
    report = measure(name)
    needed = list(map(Path, report["needed"]))  # type: ignore[call-overload]
    contents: dict[bytes, None] = {}
    size = 0
    for path in [*needed, *merged(name)]:
        data = path.read_bytes()
        fits = len(contents) < KEPT_FILES_MAX and size + len(data) <= KEPT_BYTES_MAX
        if data not in contents and (fits or (report["held"] and path in needed)):
            contents[data] = None
            size += len(data)
    shutil.rmtree(CORPUS / name, ignore_errors=True)
    (CORPUS / name).mkdir(parents=True)
    for data in contents:
        (CORPUS / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def merged(name: str) -> list[Path]:
    """What was found, shrunk to inputs that differ for the fuzzer (libFuzzer's -merge=1), the shortest first.

    Not enough by itself: it counts jumps, and what differs by an exception alone is one to it.
    """
    folder = FOUND / f"{name}-merged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    arguments = [sys.executable, "-m", "tests.fuzz.worker", name, "-merge=1", "-max_len=1000000", str(folder)]
    arguments += [str(path) for path in folders_of(name) if path.is_dir()]
    with (FOUND / f"{name}-merge.log").open("wb") as output:
        subprocess.run(arguments, cwd=HOUSE, stdout=output, stderr=subprocess.STDOUT, check=True)
    return files_of(folder)


def tell(run: Run, report: dict[str, object]) -> bool:
    """Print the closing lines of a target; whether it may be counted as survived."""
    enough = True
    held = bool(report["held"])
    for found in report["modules"]:  # type: ignore[attr-defined]
        lines = f"{found['lines_reached']}/{found['lines']} lines ({found['line_share']:.1%})"
        branches = f"{found['branches_reached']}/{found['branches']} branches ({found['branch_share']:.1%})"
        missing = f"; not reached: {found['missing']}" if found["missing"] else ""
        print(f"  {found['module']}: {lines}, {branches}{missing}")
        enough &= min(found["line_share"], found["branch_share"]) >= SHARE_MIN
    if not run.survived:
        print(run.told)
        print(f"  replay: python -m tests.fuzz.replay {run.target} {CRASHES.relative_to(HOUSE)}/{run.target}-*")
    for path in report["failed"]:  # type: ignore[attr-defined]
        print(f"  not survived: python -m tests.fuzz.replay {run.target} {path}")
    survived = run.survived and not report["failed"]
    passed = survived and (enough or not held)
    why = "" if passed else " NOT SURVIVED" if not survived else f" UNDER {SHARE_MIN:.0%}"
    rate = run.executions / max(run.seconds, 1e-9)
    print(
        f"{run.target}: {run.executions:,} executions in {run.seconds:.0f} s ({rate:,.0f}/s), "
        f"{report['inputs']} inputs{why}",
        flush=True,
    )
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 0 only measures")
    parser.add_argument("--target", action="append", choices=TARGETS, help="these only; without it, all")
    parser.add_argument("--at-once", type=int, default=1, help="processes at the same time")
    parser.add_argument("--keep", action="store_true", help="replace the corpus in git")
    given = parser.parse_args()
    names = given.target or TARGETS
    passed = True

    def one(name: str) -> tuple[Run, dict[str, object]]:
        run = fuzz(name, given.seconds) if given.seconds else Run(name, 0, 0.0, True, "")
        if given.keep and run.survived:
            if not given.seconds:
                _write_seeds(name, FOUND / f"{name}-seeds")
            keep(name)
        return run, measure(name)

    print(f"{len(names)} targets, {given.seconds} s each: {', '.join(names)}", flush=True)
    with ThreadPoolExecutor(given.at_once) as pool:
        for run, report in pool.map(one, names):
            passed &= tell(run, report)
    kept = files_of(*(CORPUS / name for name in TARGETS))
    size = sum(path.stat().st_size for path in kept)
    print(f"{'survived' if passed else 'FAILED'}; kept corpus: {len(kept)} inputs, {size:,} bytes")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
