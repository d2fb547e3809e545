"""Configuration files: party.toml, policy.toml, job.toml, and the contract that a job becomes.

An input is a byte that says which file it is, and the file's text.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from tomllib import _parser
from typing import Final

import numpy as np

from protocol.contract import encode_contract
from protocol.contract_rules import decode_contract
from protocol.policy import PolicyError, read_policy
from services.daemon.job_file import load_job, make_contract
from services.party.configuration import ConfigError, load_party, read_toml
from services.tables.table import Table, TableError
from tests.fuzz.identities import ME, OTHER, PARTNER, identity
from tests.fuzz.oracle import bounded_memory, check_text, temporary_folder
from tests.fuzz.values import TEXTS

MODULES: Final = ("services/party/configuration.py", "services/daemon/job_file.py", "protocol/policy.py")
HELD: Final = False
INPUT_BYTES_MAX: Final = 2048

_SOURCES: Final = (
    *MODULES,
    "learning/columns/preparation.py",
    "protocol/contract.py",
    "messages/schemas.py",
    "messages/unsequenced.py",
    "messages/identity.py",
    "messages/keys.py",
    _parser.__file__,
)
_FOLDER: Final = temporary_folder("fuzz-files-")
_SYSTEM: Final = (
    "codec decode position start continuation byte bytes unexpected end of data embedded null",
    "Is a directory Not a directory File name too long",
)

PARTY: Final = b"""name = "bank"
data_directory = "data"
broker = "amqps://broker.example:5671/warren"
identity = "identity/bank.private.json"
peers = "peers"
policy = "policy.toml"
workers = 1
threads = 0
declare = false
noise_seed = ""

[[dataset]]
name = "loans"
source = "loans.csv"
id = "id"
label = "y"
columns = ["a"]

[dataset.preparation]
a = [{ step = "impute", by = "median", indicator = true }, { step = "clip", low = 0.5 }, { step = "log" }]
c = [{ step = "impute", by = "constant", constant = "x" }, { step = "one_hot", unseen = "other", rows_min = 5 }]
d = [{ step = "ordinal", categories = ["p", "q", 3] }]
"""
POLICY: Final = b"""tasks = ["logistic", "linear"]
marks = ["small_sample"]
datasets = ["customers"]
max_iterations = 100
key_bits_min = 2048
release_noise_min = 0.03125
psi_quota = 10000000
intersection_min = 1
accept = true
[partner.shop]
marks = []
"""
JOB: Final = b"""task = "logistic"
dataset = "loans"
partner = "shop/customers"
label = "y"
l2 = 1e-4
max_iterations = 30
tolerance = 1e-5
key_bits = 2048
release_noise = 0.03125
label_bound = 1.0
identifier_schema = "exact.v1"
psi_quota = 1000
marks = ["small_sample"]
chunk_rows_max = 540
expires_in_hours = 168.0
"""
VALUES: Final = (
    b"0", b"-1", b"1", b"inf", b"-inf", b"nan", b"1e300", b"1e-300", b"9223372036854775808", b"true", b"[]", b'""',
    b'"a"', b'"."', b'"/"', b'"\\u0000"', b'"\\u001b[2J"', b'"amqp://[::1"', b'"amqp://localhost:x/"', b'"amqps://"',
    b'"amqp://bank:secretword@broker.example/"', b'["a", "a"]', b"1979-05-27", b"1979-05-27T00:32:00.999999-07:00",
    b'"x/y/z"', b"{}", b'"linear"', b'"poisson"', b"0x7f", b"1_000", b'"' + b"x" * 300 + b'"',
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    yield from (b"\x00" + PARTY, b"\x01" + POLICY, b"\x02" + JOB)
    for which, text in ((b"\x00", PARTY), (b"\x01", POLICY), (b"\x02", JOB)):
        for value in VALUES:
            lines = text.splitlines()
            for place, line in enumerate(lines):
                if b" = " in line and hash_of(line, value) % 7 == 0:
                    changed = [*lines]
                    changed[place] = line.split(b" = ")[0] + b" = " + value
                    yield which + b"\n".join(changed)
    yield b"\x00" + PARTY + PARTY[PARTY.index(b"[[dataset]]") :]
    steps = PARTY.index(b"[dataset.preparation]")
    for value in VALUES:
        for old in (b'"median"', b"true", b"0.5", b'"x"', b'"other"', b"5 }", b"3]", b'"log"'):
            yield b"\x00" + PARTY[:steps] + PARTY[steps:].replace(old, value + old.strip(b'"medianxothlg0.5tru3'), 1)
    for value in VALUES:
        yield b"\x00" + PARTY[:steps] + b"preparation = " + value
        yield b"\x00" + PARTY[:steps] + b"[dataset.preparation]\na = " + value
    yield b"\x00\xff\xfe"


def hash_of(line: bytes, value: bytes) -> int:
    return sum(line) + sum(value)


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    which, text = data[:1] or b"\x00", data[1:]
    lines = text.split(b"\n")
    place = chance.randrange(len(lines))
    pick = chance.randrange(8)
    if pick == 0:
        return plain(data, size_max)
    if pick == 1:
        del lines[place]
    elif pick == 2:
        lines.insert(place, chance.choice(lines))
    elif pick == 3:
        lines.insert(place, chance.choice((b"surprise", b"policy", b"peers")) + b" = " + chance.choice(VALUES))
    elif pick == 4:
        lines[place] = plain(lines[place], 200)
    elif pick == 5:
        lines[place] = re.sub(rb'"[^"]*"', lambda _: b'"' + chance.choice(TEXTS).encode() + b'"', lines[place])
    else:
        lines[place] = lines[place].split(b" = ")[0] + b" = " + chance.choice(VALUES)
    return which + b"\n".join(lines)


def _house() -> Path:
    """A directory with identity and peers."""
    folder = Path(_FOLDER.name)
    private = folder / "identity" / "bank.private.json"
    if not private.exists():
        private.parent.mkdir()
        private.write_bytes(identity(ME).to_bytes())
        private.chmod(0o600)
        (folder / "peers").mkdir()
        (folder / "peers" / "shop.json").write_text(identity(PARTNER).public.to_json())
    return folder


TABLE: Final = Table(
    identifiers=["u", "v"],
    columns=("a", "b"),
    values=np.array([[1.0, 2.0], [3.0, 4.0]]),
    label=np.array([0.0, 1.0]),
)


def fuzz_one(data: bytes) -> None:
    which, text = (data[0] if data else 0) % 3, data[1:]
    folder = _house()
    (folder / "policy.toml").write_bytes(text if which == 1 else POLICY)
    (folder / "party.toml").write_bytes(text if which == 0 else PARTY)
    (folder / "job.toml").write_bytes(text if which == 2 else JOB)
    with bounded_memory():
        try:
            if which == 2:
                _job(folder / "job.toml")
            else:
                _party(folder / "party.toml")
        except (ConfigError, TableError) as error:
            message = str(error)
            assert "secretword" not in message or not _has_password(folder / "party.toml"), "a password"
            words = [text.decode("utf-8", "replace"), *_escaped(folder), str(folder), *_SYSTEM]
            check_text(message, modules=_SOURCES, names=words, chars_max=1200)


def _escaped(folder: Path) -> Iterator[str]:
    """Names may be written with escapes in TOML."""
    for name in ("party.toml", "policy.toml", "job.toml"):
        with suppress(ConfigError):
            yield str(read_toml(folder / name))


def _has_password(path: Path) -> bool:
    """Whether the word stands as a password where one belongs, and nowhere else."""
    with suppress(ConfigError):
        table = read_toml(path)
        return "secretword" in str(table.get("broker")) and str(table).count("secretword") == 1
    return False


def _party(path: Path) -> None:
    party = load_party(path)
    assert party.identity.name == party.file.name == ME
    assert repr(party) == f"Party('{ME}')"
    assert set(party.datasets) == {item.name for item in party.file.dataset}
    assert set(party.settings) >= {"policy", "datasets"}
    book = read_policy(party.policy)
    for partner in (PARTNER, OTHER):
        assert book.of(partner) in (book.default, *book.partner.values())
    with suppress(PolicyError):
        assert read_policy({**party.policy, "partner": {}}).partner == {}


def _job(path: Path) -> None:
    job = load_job(path)
    contract = make_contract(job, TABLE, identity(ME).public, identity(PARTNER).public, salt=bytes(32))
    assert decode_contract(encode_contract(contract)) == contract
