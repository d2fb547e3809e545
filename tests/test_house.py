"""The rules of the house that no linter knows: what CONTRIBUTING.md promises about files, held to the files."""

import ast
import importlib
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOUSE = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
MODULE_LINES_MAX = 400
TEST_LINES_MAX = 500
README_LINES_MAX = 150

# The words are put together here so that this file does not find itself.
STUBS = re.compile(
    "|".join(
        (
            "NotImplemented" + "Error",
            r"\bTO" + r"DO\b",
            r"\bFIX" + r"ME\b",
            r"\bpytest\." + "skip",
            r"\bmark\." + "skip",
            r"\bx" + "fail",
            "importor" + "skip",
        )
    )
)
# A path or an index that exists on one machine only is wrong on every other one.
MACHINE = re.compile(r"(?<![\w.:/}])/(?:home|root|Users|work|tmp|opt|mnt)/\w")
REGISTRY = re.compile("|".join((r"\bpy" + r"pi\.", "python" + r"hosted\.", "index-" + r"url\b", "find-" + r"links\b")))
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def house_files() -> tuple[Path, ...]:
    """Files that are or would be committed; in an unpacked archive, all but what the tools leave behind."""
    git = (
        subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=HOUSE,
            capture_output=True,
            check=False,
        )
        if (HOUSE / ".git").exists()
        else None
    )
    if git is not None and git.returncode == 0:
        found = [HOUSE / name for name in git.stdout.decode().split("\0") if name]
    else:
        found = list(walk())
    files = tuple(sorted(path for path in found if path.is_file() and not path.is_symlink()))
    assert HOUSE / "pyproject.toml" in files
    return files


def walk():
    """Everything below the house but caches, environments and build results, which a checkout does not have."""
    left_behind = {"__pycache__", "build", "dist", "out", "secrets"}
    for folder, below, names in os.walk(HOUSE):
        below[:] = [
            name
            for name in below
            if name not in left_behind and not name.endswith(".egg-info") and (name == ".ci" or name[0] != ".")
        ]
        yield from (Path(folder, name) for name in names)


def modules() -> list[Path]:
    return [path for path in house_files() if path.suffix == ".py"]


def texts() -> dict[Path, str]:
    """Every file that is UTF-8 text; tables and pictures are not."""
    found = {}
    for path in house_files():
        try:
            found[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def matches(pattern: re.Pattern[str], contents: dict[Path, str]) -> list[str]:
    """`file:line: text` of every match, as a reader of the failure wants to have it."""
    return [
        f"{path.relative_to(HOUSE)}:{number}: {line.strip()[:100]}"
        for path, text in contents.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def pins(name: str) -> dict[str, str]:
    lines = (HOUSE / name).read_text().splitlines()
    return {canonicalize_name(project): version for project, _, version in (line.partition("==") for line in lines)}


def unmet(requirements: list[str], pinned: dict[str, str]) -> list[str]:
    wanted = [Requirement(line) for line in requirements]
    return [
        str(one)
        for one in wanted
        if not (version := pinned.get(canonicalize_name(one.name))) or not one.specifier.contains(version)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_the_room_under_test_is_the_one_of_this_checkout(room):
    where = importlib.import_module(room).__file__
    assert Path(where).resolve() == HOUSE / room / "__init__.py"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room):
    assert ast.get_docstring(ast.parse((HOUSE / room / "__init__.py").read_text()))
    assert f"`{room}/`" in (HOUSE / "ARCHITECTURE.md").read_text()


def test_every_module_says_what_it_is_for():
    shipped = [path for path in modules() if path.relative_to(HOUSE).parts[0] in ROOMS]
    assert shipped
    silent = [path for path in shipped if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [str(path.relative_to(HOUSE)) for path in silent] == []


def test_every_room_of_the_tests_says_what_it_promises():
    rooms = {
        HOUSE / "tests" / path.relative_to(HOUSE / "tests").parts[0] for path in modules() if "tests" in path.parts
    }
    folders = [room for room in rooms if room.is_dir()]
    assert folders
    silent = [room.name for room in folders if not ast.get_docstring(ast.parse((room / "__init__.py").read_text()))]
    assert silent == []


def test_nothing_is_a_stub_and_no_test_is_passed_over():
    assert matches(STUBS, {path: path.read_text() for path in modules()}) == []


def test_no_text_knows_a_path_of_one_machine():
    assert matches(MACHINE, texts()) == []


def test_no_text_names_a_package_registry():
    assert matches(REGISTRY, texts()) == []


def test_modules_are_short_enough_to_read():
    lengths = {str(path.relative_to(HOUSE)): len(path.read_text().splitlines()) for path in modules()}
    most = {name: TEST_LINES_MAX if name.startswith("tests/") else MODULE_LINES_MAX for name in lengths}
    assert {name: lines for name, lines in lengths.items() if lines > most[name]} == {}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-fuzz.lock"])
def test_a_lock_file_holds_exact_pins_and_nothing_else(name):
    lines = (HOUSE / name).read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[0-9][\w.!+]*", line)] == []
    assert len(pins(name)) == len(lines), "pinned twice"


def test_the_locks_meet_what_the_project_asks_for():
    to_run, to_test = pins("requirements.lock"), pins("requirements-dev.lock")
    assert unmet(PROJECT["project"]["dependencies"], to_run) == []
    assert unmet(PROJECT["dependency-groups"]["dev"], to_test) == []
    assert unmet(PROJECT["dependency-groups"]["fuzz"], pins("requirements-fuzz.lock")) == []
    assert to_run.items() <= to_test.items(), "the tests would run on other versions than the daemons"


def test_the_readme_is_short_and_starts_from_two_commands():
    readme = (HOUSE / "README.md").read_text()
    assert len(readme.splitlines()) <= README_LINES_MAX
    assert "make demo" in readme
    assert "make test" in readme


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_recommended_exists(name):
    targets = set(re.findall(r"^([a-z-]+):", (HOUSE / "Makefile").read_text(), re.M))
    recommended = re.findall(r"(?:^|`)make ([a-z -]*[a-z])", (HOUSE / name).read_text(), re.M)
    assert recommended
    assert {target for words in recommended for target in words.split()} - targets == set()


def test_links_between_documents_lead_somewhere():
    pages = {path: text for path, text in texts().items() if path.suffix == ".md"}
    links = [(page, link.split("#")[0]) for page, text in pages.items() for link in LINK.findall(text)]
    ours = [(page, link) for page, link in links if link and "://" not in link and not link.startswith("mailto:")]
    assert {"README.md", "ARCHITECTURE.md"} <= {str(page.relative_to(HOUSE)) for page, _ in ours}
    broken = [f"{page.relative_to(HOUSE)} -> {link}" for page, link in ours if not (page.parent / link).exists()]
    assert broken == []


def test_ci_is_the_command_of_the_developer():
    script = HOUSE / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert "make test" in script.read_text()
