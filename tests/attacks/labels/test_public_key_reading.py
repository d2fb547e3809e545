"""Equal ciphertexts, and what the public key reads: nothing of a real job, everything where blinding is left out."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from gmpy2 import mpz
from phe import EncryptedNumber, PaillierPublicKey

from messages import schemas
from paillier.vector import CipherVector
from tests.attacks.labels.public_key import PublicKeyReader
from tests.attacks.labels.transcript import Recorded, Transcript, example, run_job

ROWS = 120


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Three iterations over 120 rows in four chunks."""
    tables = example("default_credit", 0, ROWS, slice(0, 13), slice(13, 23))
    found = run_job(tmp_path_factory.mktemp("job"), *tables, release_noise=1 / 32, max_iterations=3, chunk_rows_max=30)
    assert found.ends["provider"].outcome == "done"
    return found


def under_the_partners_key(seen: Transcript) -> list[mpz]:
    """Every ciphertext that a party received and cannot decrypt: the provider has link terms, both have features."""
    found: list[mpz] = []
    for kind in (schemas.FeaturesEncrypted, schemas.LinkTerms):
        for message in seen.messages(kind):
            found += CipherVector.from_bytes(seen.partner_key, message.ciphertexts).to_ints()
    return found


def first_constants(seen: Transcript) -> list[mpz]:
    """The first iteration's one ciphertext per row, in the job's row order: 1/2 - y, encrypted."""
    first = [m for m in seen.messages(schemas.LinkTerms) if m.iteration == 1]
    assert {m.terms for m in first} == {0}
    return [n for m in first for n in CipherVector.from_bytes(seen.partner_key, m.ciphertexts).to_ints()]


def candidates(seen: Transcript) -> tuple[int, int]:
    """The two residuals of the first iteration, as integers: of label 0 and of label 1."""
    return seen.budget.unit // 2, -(seen.budget.unit // 2)


def labels_read(reader: PublicKeyReader, numbers: Sequence[mpz], residuals: tuple[int, int]) -> list[int | None]:
    """The label behind each ciphertext, by every reading that the public key allows; None where none does."""
    found: list[int | None] = [None] * len(numbers)
    for i, number in enumerate(numbers):
        plain = reader.alone(number)
        if plain is None:
            plain = reader.reencrypted(number, residuals)
        if plain in residuals:
            found[i] = residuals.index(plain)
    pairs, step = list(reader.quotients(numbers)), residuals[0] - residuals[1]
    for i, j, difference in pairs:
        if difference in (step, -step):
            found[i], found[j] = int(difference < 0), int(difference > 0)
    # What equals a known label is known: there and back along the rows.
    for i, j, difference in (*pairs, *reversed(pairs)):
        if difference == 0:
            found[i] = found[j] = found[j] if found[i] is None else found[i]
    for i, j, total in reader.inverses(numbers):
        if total in (2 * residuals[0], 2 * residuals[1]):
            found[i] = found[j] = int(total < 0)
    return found


@pytest.mark.parametrize("party", ["provider", "business"])
def test_no_two_ciphertexts_of_a_job_are_equal_whatever_they_hold(recorded: Recorded, party: str) -> None:
    numbers = under_the_partners_key(getattr(recorded, party))
    assert len(numbers) >= ROWS * (1 + 3 + 5 if party == "provider" else 1)
    reader = PublicKeyReader(getattr(recorded, party).partner_key.modulus)
    assert reader.equal(numbers) == 0
    assert reader.equal([number % reader.n for number in numbers]) == 0


@pytest.mark.parametrize("party", ["provider", "business"])
def test_the_public_key_reads_no_plaintext_of_a_job(recorded: Recorded, party: str) -> None:
    seen = getattr(recorded, party)
    reader, numbers = PublicKeyReader(seen.partner_key.modulus), under_the_partners_key(seen)
    assert [reader.alone(number) for number in numbers] == [None] * len(numbers)
    assert list(reader.quotients(numbers)) == []
    assert list(reader.inverses(numbers)) == []


def test_encrypting_the_two_first_residuals_again_matches_no_row(recorded: Recorded) -> None:
    seen = recorded.provider
    numbers = first_constants(seen)
    reader = PublicKeyReader(seen.partner_key.modulus)
    assert labels_read(reader, numbers, candidates(seen)) == [None] * ROWS


class Blinding:
    """Ways in which blinding has been done badly: the factor of each row."""

    none = staticmethod(lambda generator, row: 1)
    small = staticmethod(lambda generator, row: generator.randint(2, 60))
    one_for_all = staticmethod(lambda generator, row: 0x1D2B_4C5A_6978_8796)
    counted = staticmethod(lambda generator, row: 0x1D2B_4C5A_6978_8796 * (row % 7 + 1))


@pytest.mark.parametrize("blinding", ["none", "small", "one_for_all", "counted"])
def test_the_same_reader_finds_every_label_where_blinding_is_bad(recorded: Recorded, blinding: str) -> None:
    seen, generator = recorded.provider, random.Random(4)
    public, residuals = PaillierPublicKey(seen.partner_key.modulus), candidates(seen)
    numbers = [
        mpz(public.raw_encrypt(residuals[label] % public.n, r_value=getattr(Blinding, blinding)(generator, row)))
        for row, label in enumerate(recorded.labels.tolist())
    ]
    found = labels_read(PublicKeyReader(public.n), numbers, residuals)
    # With seven factors in turn, rows that meet no other label's stay unread.
    readable = [label for label in found if label is not None]
    wrong = sum(one != other for one, other in zip(found, recorded.labels.tolist(), strict=True) if one is not None)
    assert wrong == 0
    assert len(readable) > ROWS // 2 if blinding == "counted" else len(readable) == ROWS


def test_a_fixed_point_number_of_phe_is_read_the_same_way_when_it_is_not_obfuscated(recorded: Recorded) -> None:
    public = PaillierPublicKey(recorded.provider.partner_key.modulus)
    encrypted: list[EncryptedNumber] = [
        public.encrypt(0.5 - label, precision=2**-10, r_value=1) for label in recorded.labels.tolist()
    ]
    numbers = [mpz(one.ciphertext(be_secure=False)) for one in encrypted]
    reader = PublicKeyReader(public.n)
    plain = np.array([reader.alone(number) for number in numbers], dtype=float)
    assert np.array_equal((plain < 0).astype(int), recorded.labels)


def test_the_residue_of_a_ciphertext_says_nothing_of_its_label(recorded: Recorded) -> None:
    # Modulo N, and by its Jacobi symbol, which anybody computes: as in a fair coin for either label.
    import gmpy2

    seen = recorded.provider
    numbers = first_constants(seen)
    symbols = np.array(
        [gmpy2.jacobi(number % seen.partner_key.modulus, seen.partner_key.modulus) for number in numbers]
    )
    low = np.array([int(number) & 1 for number in numbers])
    for sign in (symbols > 0, low == 1):
        ones = recorded.labels == 1
        difference = abs(sign[ones].mean() - sign[~ones].mean())
        deviation = 0.5 * (1 / ones.sum() + 1 / (~ones).sum()) ** 0.5
        assert difference < 5 * deviation
        assert 0.25 < sign.mean() < 0.75


def test_the_gradient_that_such_a_job_releases_is_still_the_one_of_its_labels(recorded: Recorded) -> None:
    # The recorder reads what it claims to read: else the tests above would pass on anything.
    seen: Any = recorded.provider
    exact = seen.matrix.T @ recorded.labels
    assert np.abs(seen.label_sums() - exact).max() <= 1024.5
