"""Finding the kernel: what the environment may ask for, what it gets, and what it is told when it gets nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hatch_build
from kernel import build_native, library

pytestmark = pytest.mark.kernel

FUNCTIONS = sorted(set(re.findall(r"\b(wk_\w+)\(", re.sub(r"//.*", "", build_native.declarations()))))
SAY = "from kernel import library; print(library.load()); print(library.paths()); print(library.reason())"


def said(where: Path | None = None, **environment: str) -> tuple[list[str], str]:
    """What a fresh interpreter finds, in the room at `where` or in this one: (lines, error)."""
    inherited = {name: value for name, value in os.environ.items() if name not in {library.CHOICE, library.BUILD}}
    if where is None and library.BUILD in os.environ:
        inherited[library.BUILD] = os.environ[library.BUILD]
    root = where or Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=root,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.splitlines(), ran.stderr


@pytest.fixture
def room(tmp_path):
    """A kernel room of its own in which nothing was built."""
    (tmp_path / "kernel").mkdir()
    for file in ("__init__.py", "library.py"):
        shutil.copy(Path(library.__file__).with_name(file), tmp_path / "kernel")
    return tmp_path


def record(room: Path, *, built: bool, reason: str) -> None:
    (room / "kernel" / library.RECORD.name).write_text(json.dumps({"built": built, "reason": reason, "compiler": ""}))


def test_there_is_a_kernel_exactly_where_a_compiler_is_found():
    complaint = hatch_build.find_compiler()[2]
    assert (library.paths() == ()) == bool(complaint), library.reason()
    assert (library.load() is None) == bool(complaint)


def test_the_same_object_comes_at_every_call():
    assert library.load() is library.load()


def test_the_fastest_path_runs_unless_another_was_asked_for():
    lines, _ = said()
    path = repr(library.paths()[-1]) if library.paths() else None
    assert lines[0] == (f"Library(path={path})" if path else "None")


def test_every_path_of_this_machine_can_be_asked_for_by_name():
    for path in library.paths():
        lines, _ = said(WARREN_KERNEL=path)
        assert lines == [f"Library(path={path!r})", repr(library.paths()), lines[2]]
        assert f"WARREN_KERNEL={path}" in lines[2]


def test_a_path_that_this_machine_cannot_run_is_refused_with_what_it_can():
    for path in set(library.PATHS) - set(library.paths()):
        lines, error = said(WARREN_KERNEL=path)
        assert lines == []
        assert re.search(rf"KernelError: WARREN_KERNEL={path}: .*can be auto.* off", error)


def test_an_unknown_choice_is_refused_with_all_that_are_allowed():
    lines, error = said(WARREN_KERNEL="fast")
    assert lines == []
    assert error.splitlines()[-1].endswith("WARREN_KERNEL=fast: it can be auto, off, portable or avx512ifma")


def test_off_is_as_if_there_were_no_kernel():
    lines, _ = said(WARREN_KERNEL="off")
    assert lines[:2] == ["None", "()"]
    assert "WARREN_KERNEL=off" in lines[2]


def test_a_block_can_take_any_path_or_none_and_leaves_what_was_before():
    before = library.load()
    for path in library.paths():
        with library.using(path):
            inside = library.load()
            assert inside is not None
            assert (inside.path, inside.lib.wk_path_get()) == (path, library.PATHS.index(path))
            with library.using(None):
                assert library.load() is None
                assert library.paths()
            assert library.load() is inside
            assert inside.lib.wk_path_get() == library.PATHS.index(path)
    with pytest.raises(ZeroDivisionError), library.using(None):
        assert library.load() is None
        1 / 0  # noqa: B018
    assert library.load() is before


def test_a_block_is_refused_a_path_that_there_is_not():
    with pytest.raises(library.KernelError, match="no path 'abacus'"), library.using("abacus"):
        pass


def test_a_path_that_the_processor_lacks_is_not_taken():
    for loaded in filter(None, [library.load()]):
        before = loaded.lib.wk_path_get()
        assert loaded.lib.wk_path_set(len(library.PATHS)) == -1
        assert loaded.lib.wk_path_get() == before


def test_the_library_has_every_function_of_the_public_headers():
    assert {"wk_path_get", "wk_ring_new"} <= set(FUNCTIONS)
    for loaded in filter(None, [library.load()]):
        assert set(FUNCTIONS) - set(dir(loaded.lib)) == set(), "built of other sources than these: run `make setup`"


def test_a_kernel_is_loaded_from_the_directory_that_was_named(room, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    if library.paths():
        shutil.copy(library._native().__file__, tmp_path / "elsewhere")
        lines, error = said(room, WARREN_KERNEL_BUILD=str(tmp_path / "elsewhere"))
        assert lines[1:2] == [repr(library.paths())], error
    (tmp_path / "empty").mkdir()
    lines, error = said(room, WARREN_KERNEL_BUILD=str(tmp_path / "empty"))
    assert lines == []
    assert re.search(r"KernelError: WARREN_KERNEL_BUILD=.*/empty: no _native", error)


def test_without_a_kernel_the_reason_is_that_of_the_installation(room):
    record(room, built=False, reason="No C compiler (cc) was found.")
    assert said(room)[0] == ["None", "()", "No C compiler (cc) was found."]


def test_without_a_record_the_reason_says_what_to_run(room):
    assert said(room)[0] == ["None", "()", "Nothing was built in this tree: run `make setup`."]


def test_a_kernel_that_was_built_and_is_gone_is_missed(room):
    record(room, built=True, reason="Compiled.")
    assert "its file is gone: run `make setup` again" in said(room)[0][2]


def test_a_kernel_that_cannot_be_loaded_is_done_without(room):
    record(room, built=True, reason="Compiled.")
    (room / "kernel" / "_native.abi3.so").write_bytes(b"no library")
    lines, _ = said(room)
    assert lines[:2] == ["None", "()"]
    assert "cannot be loaded" in lines[2]
    assert "run `make setup` again" in lines[2]


def test_a_path_cannot_be_asked_for_where_there_is_no_kernel(room):
    lines, error = said(room, WARREN_KERNEL="portable")
    assert lines == []
    assert "KernelError: WARREN_KERNEL=portable: there is no compiled kernel" in error
