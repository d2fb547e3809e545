"""Finds the compiled kernel and says which of its paths runs, and why.

The environment variable WARREN_KERNEL chooses: `auto` (the fastest path of this processor; the default), `off`, or
one path by name. For development, WARREN_KERNEL_BUILD names a directory to load the kernel from, with `_native.*` of
`python -m kernel.build_native --out` in it; without it the one beside this file is taken.
"""

import importlib
import importlib.util
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any, Final

CHOICE: Final = "WARREN_KERNEL"
BUILD: Final = "WARREN_KERNEL_BUILD"
MODULE: Final = "kernel._native"
RECORD: Final = Path(__file__).with_name("_build.json")
"""What came of building the kernel: see hatch_build.py."""

# By the numbers of dispatch.h, from the slowest.
PATHS: Final = ("portable", "avx512ifma")


class KernelError(ValueError):
    """WARREN_KERNEL or WARREN_KERNEL_BUILD asks for what is not there; the text says what can be asked for."""


@dataclass(frozen=True)
class Library:
    """The kernel on one of its paths. `ffi` and `lib` are cffi's: pointers and functions of the public headers."""

    ffi: Any = field(repr=False)
    lib: Any = field(repr=False)
    path: str


@dataclass(frozen=True)
class _State:
    library: Library | None
    reason: str


def load() -> Library | None:
    """The kernel on the path that was chosen, the same object at every call; None where there is none.

    Raises KernelError for a choice in the environment that cannot be had.
    """
    return _state().library


def reason() -> str:
    """One sentence: why there is no kernel and what to do, or why it takes this path. Raises KernelError."""
    return _state().reason


def paths() -> tuple[str, ...]:
    """The paths that this machine can run, the slowest first; none without the kernel. Raises KernelError.

    A path chosen in the environment or by `using` does not shorten the list, `off` in the environment empties it.
    """
    return () if _chosen_by_environment().library is None else _supported(_native().lib)


@contextmanager
def using(path: str | None) -> Iterator[None]:
    """This path (None: as if there were no kernel) for the enclosed block. For tests: it holds for the whole process.

    Raises KernelError for a path that is not in `paths()`.
    """
    before = _state()
    if path is None:
        state = _State(None, "the kernel is switched off for this block")
    elif path in paths():
        state = _State(_on_path(path), f"the path {path} was asked for")
    else:
        raise KernelError(f"no path {path!r}: this machine can run {', '.join(paths()) or 'none'}")
    _take(state)
    try:
        yield
    finally:
        _take(before)


_forced: list[_State] = []
"""What `using` asks for, if anything; a list so that no function needs to rebind a global."""


def _state() -> _State:
    return _forced[-1] if _forced else _chosen_by_environment()


def _take(state: _State) -> None:
    _forced[:] = [state]
    if state.library is not None:
        state.library.lib.wk_path_set(PATHS.index(state.library.path))


@cache
def _chosen_by_environment() -> _State:
    choice = os.environ.get(CHOICE, "") or "auto"
    if choice not in {"auto", "off", *PATHS}:
        raise KernelError(f"{CHOICE}={choice}: it can be auto, off, {' or '.join(PATHS)}")
    if choice == "off":
        return _State(None, f"{CHOICE}=off in the environment switches the compiled kernel off; unset it to have it")
    try:
        native = _native()
    except _AbsentError as absent:
        if choice != "auto":
            raise KernelError(
                f"{CHOICE}={choice}: there is no compiled kernel, so it can be auto or off. {absent}"
            ) from None
        return _State(None, str(absent))
    can = _supported(native.lib)
    if choice != "auto" and choice not in can:
        allowed = ", ".join(("auto", "off", *can))
        raise KernelError(f"{CHOICE}={choice}: this processor cannot run it; it can be {allowed}")
    path = can[-1] if choice == "auto" else choice
    native.lib.wk_path_set(PATHS.index(path))
    return _State(_on_path(path), _why(path, choice, can))


def _why(path: str, choice: str, can: tuple[str, ...]) -> str:
    if choice != "auto":
        return f"{CHOICE}={choice} in the environment asks for it"
    if path == PATHS[-1]:
        return "this processor has AVX-512 IFMA"
    return f"this processor ({platform.machine()}) has no AVX-512 IFMA, or the system keeps it from programs"


@cache
def _on_path(path: str) -> Library:
    native = _native()
    return Library(native.ffi, native.lib, path)


def _supported(lib: Any) -> tuple[str, ...]:
    return tuple(name for number, name in enumerate(PATHS) if lib.wk_path_supported(number))


class _AbsentError(Exception):
    """There is no kernel; the text says why and what to do."""


@cache
def _native() -> ModuleType:
    """The cffi module. Raises _AbsentError, or KernelError when an explicitly named one cannot be loaded."""
    directory = os.environ.get(BUILD, "")
    if directory:
        return _from_directory(Path(directory))
    try:
        return importlib.import_module(MODULE)
    except ModuleNotFoundError as missing:
        if missing.name == MODULE:
            raise _AbsentError(_recorded_reason()) from None
        raise _AbsentError(f"The compiled kernel needs {missing.name}: run `make setup` again.") from None
    except ImportError as error:
        raise _AbsentError(f"The compiled kernel cannot be loaded ({error}): run `make setup` again.") from None


def _from_directory(directory: Path) -> ModuleType:
    for suffix in EXTENSION_SUFFIXES:
        file = directory / f"_native{suffix}"
        spec = importlib.util.spec_from_file_location(MODULE, file) if file.exists() else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise KernelError(f"{BUILD}={directory}: no _native{EXTENSION_SUFFIXES[0]} or the like is there")


def _recorded_reason() -> str:
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "Nothing was built in this tree: run `make setup`."
    if record["built"]:
        return "The compiled kernel was built when Warren was installed, but its file is gone: run `make setup` again."
    return str(record["reason"])
