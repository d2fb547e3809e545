"""Building the kernel with the package: never in the way of an installation, and never without a reason."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import hatch_build
from kernel import build_native

HOUSE = Path(__file__).resolve().parents[2]
ROOM = HOUSE / "kernel"


@pytest.fixture
def with_headers(tmp_path, monkeypatch):
    """As if Python's headers were there, whether they are or not."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "include"))
    monkeypatch.delenv("WARREN_NO_COMPILER", raising=False)


def compiler(directory: Path, script: str) -> str:
    """A program that says what it is, and does `script` when it is to compile."""
    program = directory / "odd-cc"
    program.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo odd compiler 1.0; exit 0; fi\n{script}\n')
    program.chmod(0o755)
    return str(program)


def archives(directory: Path, **environment: str) -> tuple[list[str], list[str]]:
    """Names of the files in the source archive and in the wheel, the wheel's own name being the last."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
    subprocess.run(command, cwd=HOUSE, env=os.environ | environment, check=True, capture_output=True)
    (source,), (wheel,) = directory.glob("*.tar.gz"), directory.glob("*.whl")
    with tarfile.open(source) as tar, zipfile.ZipFile(wheel) as packed:
        return tar.getnames(), [*packed.namelist(), wheel.name]


def in_kernel(names: list[str]) -> set[str]:
    return {name.rsplit("kernel/", 1)[1] for name in names if re.match(r"(warren-[^/]*/)?kernel/", name)}


def test_a_switch_hides_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("WARREN_NO_COMPILER", "1")
    assert hatch_build.attempt(ROOM, tmp_path) == {
        "built": False,
        "reason": "WARREN_NO_COMPILER was set when Warren was installed; unset it and run `make setup` again.",
        "compiler": "",
    }


def test_a_path_without_cc_is_a_machine_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.delenv("WARREN_NO_COMPILER", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hatch_build.attempt(ROOM, tmp_path) == {
        "built": False,
        "reason": "No C compiler (cc) was found when Warren was installed; "
        "install gcc or clang and run `make setup` again.",
        "compiler": "",
    }


def test_python_without_its_headers_is_told_apart(tmp_path, monkeypatch, with_headers):
    (tmp_path / "include" / "Python.h").unlink()
    monkeypatch.setenv("CC", compiler(tmp_path, "exit 0"))
    found = hatch_build.attempt(ROOM, tmp_path)
    assert not found["built"]
    assert "(Python.h) were not found" in found["reason"]


def test_an_error_of_the_compiler_is_recorded_in_its_own_words(tmp_path, monkeypatch, with_headers):
    monkeypatch.setenv("CC", compiler(tmp_path, "echo 'dispatch.c:3:1: error: no such machine' >&2; exit 1"))
    found = hatch_build.attempt(ROOM, tmp_path)
    assert not found["built"]
    assert found["compiler"] == "odd compiler 1.0"
    assert "(dispatch.c:3:1: error: no such machine)" in found["reason"]
    assert not list(tmp_path.glob("_native*"))


def test_a_compiler_that_cannot_be_run_does_not_stop_the_installation(tmp_path, monkeypatch, with_headers):
    program = Path(compiler(tmp_path, ""))
    program.write_text("#!/there/is/no/such/shell\n")
    monkeypatch.setenv("CC", str(program))
    found = hatch_build.attempt(ROOM, tmp_path)
    assert not found["built"]
    assert "could not be run" in found["reason"]


@pytest.mark.parametrize("hidden", [True, False])
def test_a_wheel_is_a_platforms_with_the_kernel_and_pure_without(tmp_path, hidden, monkeypatch):
    if hidden:
        monkeypatch.setenv("WARREN_NO_COMPILER", "1")
    built = not hatch_build.find_compiler()[2]
    before = {path.name: path.stat().st_mtime_ns for path in ROOM.glob("_*")}
    source, wheel = archives(tmp_path)
    assert wheel[-1].endswith("-py3-none-any.whl") == (not built)
    assert ("-cp311-abi3-" in wheel[-1]) == built
    python = {"__init__.py", "build_native.py", "library.py", "_build.json"}
    assert in_kernel(wheel) == (python | {"_native.abi3.so"} if built else python)
    written = {path.name for path in build_native.SOURCES.iterdir()}
    assert {f"src/{name}" for name in written} <= in_kernel(source)
    assert not [name for name in in_kernel(source) if name.startswith(("_native", "_build"))]
    assert {path.name: path.stat().st_mtime_ns for path in ROOM.glob("_*")} == before, "a wheel changed the tree"


def test_the_timing_check_calls_every_public_function():
    program = (HOUSE / "tests" / "kernel" / "constant_time.c").read_text()
    declared = set(re.findall(r"\b(wk_\w+)\(", re.sub(r"//.*", "", build_native.declarations())))
    assert declared - set(re.findall(r"\b(wk_\w+)\(", program)) == set()
