"""The fenced blocks of the documents, and terminals that run them.

A block of commands begins with ```sh. After that: `run=a,b` names the terminals that run it, in the order of the page;
`until="text"` lets the page go on as soon as the terminal, where the last command goes on running, shows the text;
`beside=next` says that the next block, in another terminal, needs nothing of this one; `in=checkout` says that it
begins in the checkout; `given=file` which files a reader is taken to have. A block without `run` is not run, and
test_commands.py has the reason.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
TIMEOUT_S = 500.0

_FENCE = re.compile(r"^```(\w*)(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line`: that of its fence, from 1 on."""

    path: Path
    line: int
    language: str
    words: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def terminals(self) -> list[str]:
        return [name for name in self.words.get("run", "").split(",") if name]

    @property
    def commands(self) -> list[str]:
        """Its lines, continued ones joined, without comments."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks of a document."""
    language, words, began, lines = "", {}, 0, []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        fence = _FENCE.match(line)
        if not began and fence:
            began, language, lines = number, fence[1], []
            words = dict(word.split("=", 1) for word in shlex.split(fence[2]))
        elif began and line.strip() == "```":
            yield Block(path, began, language, words, "\n".join(lines) + "\n")
            began = 0
        elif began:
            lines.append(line)
    assert not began, f"{path}:{began}: a block without an end"


class CommandFailed(AssertionError):
    """A command of a document that did not do what the document says."""


@dataclass
class Terminal:
    """A shell that a reader types into. A command that fails ends it."""

    name: str
    home: Path
    where: Path = ROOT
    shown: str = ""
    _came: threading.Condition = field(default_factory=threading.Condition)
    _block: Block | None = None
    _begun: int = 0

    def __post_init__(self) -> None:
        kept = {"PATH", "LANG", "LC_ALL", "WARREN_KERNEL"}
        environment = {name: value for name, value in os.environ.items() if name in kept}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "bash", "-m"],
            cwd=self.where,
            env={**environment, "HOME": str(self.home), "COLUMNS": "120"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._type("set -e -o pipefail\n")

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            with self._came:
                self.shown += data.decode(errors="replace")
                self._came.notify_all()
        with self._came:
            self.shown += "\n[the terminal has ended]\n"
            self._came.notify_all()

    def _type(self, text: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()

    def run(self, block: Block) -> None:
        """Type the block and wait for its end, or for what it is to show. Raises CommandFailed."""
        self.begin(block)
        self.finish()

    def begin(self, block: Block) -> None:
        """Type the block, when what was typed before is done."""
        self.finish()
        self._begun, self._block = len(self.shown), block
        self._type(block.text + ("" if "until" in block.words else f'echo "[end of" {block.place}"]"\n'))

    def finish(self) -> None:
        """Wait for the end of what was typed, or for what it is to show. Raises CommandFailed."""
        block, begun, self._block = self._block, self._begun, None
        if block is None:
            return
        until = block.words.get("until")
        end = until or f"[end of {block.place}]"
        with self._came:
            self._came.wait_for(
                lambda: end in self.shown[begun:] or "[the terminal has ended]" in self.shown[begun:], TIMEOUT_S
            )
        if end not in self.shown[begun:]:
            raise CommandFailed(f"{block.place} in terminal {self.name}:\n{block.text}\nshowed:\n{self.shown[begun:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # As closing the window does: to the shell and to what runs in it, each job being a group of its own.
        assert self._process.stdin is not None
        children = subprocess.run(
            ["ps", "-o", "pgid=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        for group in {int(word) for word in children.stdout.split()} - {os.getpgid(0)}:
            with suppress(ProcessLookupError, BrokenPipeError):
                os.killpg(group, signal.SIGTERM)
        with suppress(ProcessLookupError, BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
