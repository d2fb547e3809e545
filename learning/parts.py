"""Which rows are for training, validation and test, and which batch, stage or fold a training row is in.

A row's place follows from a keyed hash of its normalised identifier alone: not from the order of the rows, not
from other rows, not from secrets of the alignment. The key is a digest of one seed of every party. The business
commits to its seed in the contract and shows it when it has the others', so nobody can choose rows: for one who
could, the difference of two gradients would be about whom he likes.

The rows are then arranged so that every part is one range: blocks of training rows first, in order, then
validation, then test.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SEED_BYTES: Final = 32
_WORD: Final = 2.0**-64


@dataclass(frozen=True, slots=True)
class Layout:
    """What rows are divided into.

    `validation` and `test` are shares of all rows. The training rows are `blocks` of about the same size (batches
    or folds), or, where `nested`, so many stages: block 0 and with each later block about twice as many rows.
    """

    validation: float = 0.0
    test: float = 0.0
    blocks: int = 1
    nested: bool = False

    @property
    def divides(self) -> bool:
        """Whether there is more than one part."""
        return self.validation > 0.0 or self.test > 0.0 or self.blocks > 1


@dataclass(frozen=True, slots=True)
class Arrangement:
    """`order`: the row that comes to each place (n,); `blocks`: training rows of each; held-out rows after them."""

    order: NDArray[np.int64]
    blocks: tuple[int, ...]
    validation: int
    test: int

    @property
    def training(self) -> int:
        """Rows in all blocks."""
        return sum(self.blocks)


def own_seed(secret: bytes) -> bytes:
    """A party's seed, from 32 bytes that only it knows; shows nothing of them."""
    return hashlib.sha256(b"warren parts seed\x00" + secret).digest()


def commitment(seed: bytes) -> bytes:
    """What the contract holds of the business's seed."""
    return hashlib.sha256(b"warren parts commitment\x00" + seed).digest()


def joint_seed(seeds: Sequence[bytes]) -> bytes:
    """The key of the row hash, from the seeds of the business and of the providers in contract order."""
    if any(len(seed) != SEED_BYTES for seed in seeds):
        raise ValueError(f"a seed has {SEED_BYTES} bytes")
    return hashlib.sha256(b"warren parts\x00" + b"".join(seeds)).digest()


def arrange(identifiers: Sequence[bytes], seed: bytes, layout: Layout) -> Arrangement:
    """Divide rows by their normalised `identifiers` (n), distinct. The same for every order that they come in."""
    digests = b"".join(hashlib.blake2b(one, key=seed, digest_size=32).digest() for one in identifiers)
    words = np.frombuffer(digests, dtype="<u8").reshape(-1, 4)
    held, place = words[:, 0] * _WORD, words[:, 1] * _WORD
    validation = held < layout.validation
    test = ~validation & (held < layout.validation + layout.test)
    block = _stage(place, layout.blocks) if layout.nested else (place * layout.blocks).astype(np.int64)
    block = np.minimum(block, layout.blocks - 1)
    block[validation] = layout.blocks
    block[test] = layout.blocks + 1
    order = np.lexsort((words[:, 3], words[:, 2], block)).astype(np.int64)
    counts = np.bincount(block, minlength=layout.blocks + 2).tolist()
    return Arrangement(order, tuple(counts[: layout.blocks]), counts[layout.blocks], counts[layout.blocks + 1])


def _stage(place: NDArray[np.float64], stages: int) -> NDArray[np.int64]:
    """The stage at which a row comes in: those below 2^(1 - stages) at once, those below twice that next."""
    stage = np.zeros(len(place), dtype=np.int64)
    for later in range(1, stages):
        stage += place >= 2.0 ** (later - stages)
    return stage


def row_sets(blocks: Sequence[int], layout: Layout) -> NDArray[np.bool_]:
    """Which arranged training rows (n) are in which row set that the job takes gradients over: (n, sets).

    All rows; every batch or fold (a fold's gradient is that of all rows less that of the others); every stage with
    those before it.
    """
    block_of = np.repeat(np.arange(len(blocks)), blocks)
    sets = [np.ones(len(block_of), dtype=bool)]
    if len(blocks) > 1:
        sets += [block_of <= b if layout.nested else block_of == b for b in range(len(blocks))]
    return np.column_stack(sets)
