"""The tutorial, from fresh directories to a model, word by word."""

import json
from contextlib import ExitStack

import pytest

from tests.documents.blocks import ROOT, Terminal, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.mark.timeout(600)
def test_a_reader_who_types_the_tutorial_has_a_model_at_both_parties(tmp_path):
    with ExitStack() as stack:
        terminals: dict[str, Terminal] = {}
        for block in blocks(TUTORIAL):
            assert block.language == "sh", block.place
            assert block.terminals, f"{block.place} is not run"
            for name in block.terminals:
                if name not in terminals:
                    terminals[name] = stack.enter_context(Terminal(name, tmp_path))
                terminals[name].begin(block)
            if block.words.get("beside") != "next":
                for terminal in terminals.values():
                    terminal.finish()
        columns = {}
        for party in ("bank", "bureau"):
            (results,) = (tmp_path / "warren-tutorial" / party / "data" / "results").iterdir()
            parameters = json.loads((results / "parameters.json").read_bytes())
            columns[party] = parameters
            assert parameters["rows"] == 1200
        assert "nothing is missing or altered" in terminals["bureau"].shown
        assert "accept" in terminals["bank"].shown
