"""The kept corpus is survived by every target, and reaches what it was kept for. No fuzzer is needed here."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from messages.codec import MESSAGES, CodecError, decode, encode
from messages.envelope import EnvelopeError, open_envelope
from tests.fuzz import resigning
from tests.fuzz.identities import ME, peers
from tests.fuzz.oracle import HOUSE, bounded_memory, check_text
from tests.fuzz.replay import CORPUS, REGRESSIONS, TARGETS, files_of
from tests.fuzz.samples import delivery, envelope, sample_messages

FILES_MAX = 340
BYTES_MAX = 500_000
SHARE_MIN = 0.95
HELD = {"codec", "contract", "envelope", "identity", "scoring", "tables"}


def measured(name: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """A replay in a process of its own, which coverage.py sees from its first import."""
    command = [sys.executable, "-m", "tests.fuzz.measure", name, *map(str, folders)]
    return subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus_is_survived_and_still_reaches_what_it_was_kept_for(name: str) -> None:
    done = measured(name, CORPUS / name)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["inputs"] > 0
    assert report["held"] == (name in HELD)
    if report["held"]:
        for module in report["modules"]:
            assert min(module["line_share"], module["branch_share"]) >= SHARE_MIN, module


@pytest.mark.parametrize("name", sorted(path.name for path in REGRESSIONS.iterdir()))
def test_what_was_not_survived_once_is_survived_now(name: str) -> None:
    assert files_of(REGRESSIONS / name)
    done = measured(name, REGRESSIONS / name)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_kept_corpus_is_small() -> None:
    kept = files_of(*(folder / name for name in TARGETS for folder in (CORPUS, REGRESSIONS)))
    assert len(kept) <= FILES_MAX
    assert sum(path.stat().st_size for path in kept) <= BYTES_MAX


def test_every_kind_of_message_is_a_seed() -> None:
    assert {type(message) for message in sample_messages()} == set(MESSAGES)


def test_the_mutator_gets_past_digest_and_signature_and_not_always() -> None:
    chance = Random(1)
    cancel = next(message for message in sample_messages() if "JobCancel" in type(message).__name__)
    opened, codes = set(), set()
    for _ in range(400):
        data = resigning.changed(delivery(envelope(cancel), "job.cancel"), chance, lambda raw, most: raw[:most][:-1])
        try:
            opened.add(open_envelope(resigning.split(data)[1], me=ME, peers=peers()).header_bytes)
        except EnvelopeError as error:
            codes.add(error.code)
    assert len(opened) > 40
    assert codes >= {"malformed", "bad_signature", "unknown_sender", "wrong_recipient"}


@pytest.mark.parametrize(
    ("text", "named", "refused"),
    [
        ("receipt.v1: Object contains unknown field `salary`", (), True),
        ("receipt.v1: Object contains unknown field `salary`", ("salary",), False),
        ("no msgpack: 4929384756473829", (), True),
        ("a message is a map\x1b[2J", (), True),
        ("a message is a map " * 100, (), True),
        ("a message is a map", (), False),
    ],
)
def test_an_error_text_that_shows_more_than_it_may_is_found(text: str, named: tuple[str, ...], refused: bool) -> None:
    def check() -> None:
        check_text(text, modules=("messages/codec.py", "messages/unsequenced.py"), names=named, chars_max=300)

    if refused:
        with pytest.raises(AssertionError):
            check()
    else:
        check()


def test_a_reader_that_takes_too_much_memory_is_found() -> None:
    with pytest.raises(AssertionError, match="bytes of memory"), bounded_memory(2**20):
        # Larger than whatever the process held before, so that its largest memory has to grow.
        _touch(1.5)


def _touch(factor: float) -> int:
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return len(bytearray(b"\x01") * int(largest * factor))


def test_the_codec_target_finds_an_encoder_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz.targets import codec

    data = b"\x00\x00" + encode(next(sample_messages()))
    codec.fuzz_one(data)
    with monkeypatch.context() as patched:
        patched.setattr(codec, "decode", lambda *_, **__: (_ for _ in ()).throw(KeyError("a fault of the codec")))
        with pytest.raises(KeyError):
            codec.fuzz_one(data)
    with pytest.raises(CodecError):
        decode(data)
