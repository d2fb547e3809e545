"""What two parties agree on in every simulation: who they are, their tables, their contract."""

import functools
import hashlib
from typing import Final

import numpy as np

from messages.identity import Identity
from protocol.contract import JobContract, encode_contract, job_id
from services.tables.table import Table

ROWS: Final = 60
ITERATIONS: Final = 3
KEY_BITS: Final = 512
PARTNER: Final = {"bank": "bureau", "bureau": "bank"}
MARKS: Final = ("small_sample", "insecure")
BEGAN: Final = 1_700_000_000.0


@functools.cache
def identity(name: str) -> Identity:
    """The same keys in every run, so that a seed means the same everywhere."""
    sizes = {"sign": 32, "receive_x25519": 32, "receive_mlkem768": 64}
    return Identity(name, {key: hashlib.shake_256(f"{name}/{key}".encode()).digest(n) for key, n in sizes.items()})


@functools.cache
def tables() -> dict[str, Table]:
    """Rows of numbers that say something about the label; each party has them in its own order."""
    chance = np.random.default_rng(11)
    values = chance.normal(size=(ROWS, 6))
    label = (values.sum(axis=1) + chance.logistic(size=ROWS) > 0).astype(float)
    names = [f"person-{number:03d}" for number in range(ROWS)]
    order = chance.permutation(ROWS)
    return {
        "bank": Table(names, ("income", "age", "balance"), values[:, :3], label),
        "bureau": Table([names[row] for row in order], ("limit", "loans", "delays"), values[order, 3:], None),
    }


@functools.cache
def contract() -> bytes:
    """What the two agree on."""
    return encode_contract(
        JobContract(
            protocol_version=1,
            logic_version=1,
            leakage_version=1,
            nonce=b"simulate",
            business="bank",
            provider="bureau",
            business_key=identity("bank").public.digest(),
            provider_key=identity("bureau").public.digest(),
            business_dataset="loans",
            provider_dataset="people",
            data_digest=bytes(32),
            schema_digest=bytes(32),
            business_rows=ROWS,
            business_columns=3,
            task="logistic",
            l2=1e-2,
            max_iterations=ITERATIONS,
            tolerance=1e-6,
            key_bits=KEY_BITS,
            label_bound=1.0,
            psi_quota=10_000,
            marks=MARKS,
            align_chunk_items=32,
            chunk_rows_max=28,
            expires_at=int(BEGAN) + 10**6,
        )
    )


JOB: Final = job_id(contract())
