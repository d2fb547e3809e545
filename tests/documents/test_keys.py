"""The commands of docs/keys.md, in the order of its steps."""

import sys

from services.cli import app
from services.cli.failures import DONE, guarded
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded
from services.party.configuration import load_party
from tests.audit.recorded import MARKS, write_tables
from tests.parties import make_parties


def test_keys_are_rotated_handed_over_revoked_and_exchanged_anew(tmp_path, monkeypatch):
    paths = make_parties(tmp_path, write_tables(tmp_path, 60, "logistic"), marks=MARKS)
    with embedded((paths[BUSINESS], paths[PROVIDER])), connect(load_party(paths[BUSINESS])):
        pass  # both have a journal
    here, there = paths[BUSINESS].parent, paths[PROVIDER].parent
    name, peers = NAMES[BUSINESS], str(there / "peers")

    def warren(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["warren", *words])
        assert guarded(app) == DONE, words

    def known_there() -> str:
        return load_party(paths[PROVIDER]).peers[name].fingerprint

    def own() -> str:
        return load_party(paths[BUSINESS]).identity.public.fingerprint

    first = own()
    warren("identity", "rotate", "--party", str(paths[BUSINESS]))
    second = own()
    assert (known_there(), second != first) == (first, True)
    warren("peer", "update", str(here / "identity" / f"{name}.handover.json"), "--peers", peers)
    assert known_there() == second
    warren("peer", "remove", name, "--peers", peers)
    warren("identity", "revoke", "--party", str(paths[BUSINESS]))
    assert own() not in (first, second)
    warren("peer", "add", str(here / "identity" / f"{name}.public.json"), "--peers", peers)
    assert known_there() == own()


def test_a_party_is_backed_up_and_restored_elsewhere(tmp_path, monkeypatch):
    paths = make_parties(tmp_path, write_tables(tmp_path, 60, "logistic"), marks=MARKS)
    with embedded((paths[BUSINESS], paths[PROVIDER])), connect(load_party(paths[BUSINESS])):
        pass
    archived = load_party(paths[BUSINESS]).data_directory / "archive" / "job-1.partner"
    archived.parent.mkdir()
    archived.write_bytes(b"proofs of an old job")
    elsewhere, backup = tmp_path / "elsewhere", tmp_path / "backup"
    for words in (
        ("backup", str(backup), "--party", str(paths[BUSINESS])),
        ("restore", str(backup), "--party", str(elsewhere / "party.toml")),
    ):
        monkeypatch.setattr(sys, "argv", ["warren", *words])
        assert guarded(app) == DONE, words
    moved = load_party(elsewhere / "party.toml")
    assert moved.identity.public == load_party(paths[BUSINESS]).identity.public
    assert (moved.data_directory / "archive" / "job-1.partner").read_bytes() == archived.read_bytes()
