"""The commands of this program that documents name, in blocks and in the middle of a sentence."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from services.cli import app
from tests.documents.blocks import ROOT, blocks

_INLINE = re.compile(r"`(warren [^`]+)`")
_SEPARATORS = re.compile(r"\s*(?:;|&&|\|\||\||&$|2?>>?)\s*")
PROGRAM = typer.main.get_command(app)


@dataclass(frozen=True)
class Named:
    """A command as a document writes it. `runs`: a block that is run has it."""

    place: str
    text: str
    runs: bool


def named(path: Path) -> Iterator[Named]:
    """All commands of a document."""
    inside = set()
    for block in blocks(path):
        inside.update(range(block.line, block.line + block.text.count("\n") + 2))
        for line in block.commands if block.language in ("", "sh") else ():
            yield from (
                Named(block.place, text, bool(block.terminals)) for text in _single(re.sub(r"\s+#.*", "", line))
            )
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if number not in inside:
            place = f"{path.relative_to(ROOT)}:{number}"
            yield from (Named(place, text, False) for match in _INLINE.finditer(line) for text in _single(match[1]))


def _single(line: str) -> list[str]:
    """The commands of this program in a line of a shell."""
    return [part for part in _SEPARATORS.split(line) if part.startswith("warren ")]


def resolved(text: str) -> tuple[tuple[str, ...], list[str]]:
    """The command's path below `warren`, and its options. Raises LookupError for what does not exist."""
    words = [word.strip("[]") for word in re.sub(r"\.\.\.|['\"\\]", "", text).split()[1:]]
    command = PROGRAM
    context = typer.Context(PROGRAM)
    path: list[str] = []
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0).rstrip(",.")
        if name not in command.commands:
            raise LookupError(f"there is no command `warren {' '.join([*path, name])}`")
        command = command.resolve_command(context, [name])[1]
        path.append(name)
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
    options = [word.split("=", 1)[0] for word in words if re.match(r"^--?[a-z]", word)]
    for option in options:
        if option not in known:
            raise LookupError(f"`warren {' '.join(path)}` has no option {option}")
    return tuple(path), options
