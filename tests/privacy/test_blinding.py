"""No ciphertext travels that its reader, knowing everything about its inputs, could have computed.

A whole job is captured and taken apart by somebody who has both parties' keys. Four checks are made of every
ciphertext; each is then shown to fail where blinding or re-randomisation is taken out.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz

from learning.links import residual_terms
from learning.links.family import Family
from messages import codec, schemas, seal
from messages.envelope import PROTOCOL_VERSION
from paillier import compiled_backend, gmpy2_backend, packing
from paillier.blinding import KnownOrder, ManyBases
from paillier.compiled_owner import CompiledOwner
from paillier.keys import PrivateKey
from paillier.randomness import RandomStream
from paillier.vector import CipherVector
from services.tasks import FUNCTIONS, keyring
from services.tasks.sealing import open_with_plain
from tests.services import pair as pairs
from tests.services.pair import Pair, Side
from tests.services.test_job_machines import stage


@dataclass
class Capture:
    """Everything that was computed and sent in one job."""

    pair: Pair
    tasks: list[tuple[str, str, dict[str, Any], tuple[bytes, ...], Any, Any]] = field(default_factory=list)

    def side(self, party: str) -> Side:
        """A party by name."""
        return next(side for side in self.pair.sides if side.name == party)

    def key(self, side: Side) -> PrivateKey:
        """A party's Paillier key."""
        key: PrivateKey = side.cache["paillier key"]
        return key

    def other(self, side: Side) -> Side:
        """The partner of a party."""
        return self.pair.sides[1] if side is self.pair.sides[0] else self.pair.sides[0]

    def messages(self, side: Side) -> Iterator[schemas.Message]:
        """Every message that a party sent, opened."""
        yield from side.sent
        reader = self.other(side)
        for kind, chunk, chunks, sealed in side.bodies:
            info = seal.seal_info(PROTOCOL_VERSION, side.state.job, side.name, reader.name, kind, chunk, chunks)
            yield codec.decode(seal.unseal(sealed, reader.identity, info))

    def ciphertexts(self) -> list[tuple[str, PrivateKey, mpz]]:
        """(kind, key, ciphertext) of all that travelled."""
        found = []
        for side in self.pair.sides:
            for message in self.messages(side):
                if hasattr(message, "ciphertexts"):
                    own = isinstance(message, schemas.FeaturesEncrypted | schemas.LinkTerms)
                    key = self.key(side if own else self.other(side))
                    vector = CipherVector.from_bytes(key.public, message.ciphertexts)
                    found += [(codec.kind_of(message), key, number) for number in vector.to_ints()]
        return found


def captured(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Capture:
    """Run a small job and capture it."""
    capture = Capture(stage(directory, 4, release_noise=1 / 32))

    def recorded(name: str) -> Any:
        def run(context: Any, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> Any:
            result = FUNCTIONS[name](context, arguments, inputs)
            capture.tasks.append((context.party, name, arguments, inputs, context, result))
            return result

        return run

    monkeypatch.setattr(pairs, "FUNCTIONS", {name: recorded(name) for name in FUNCTIONS})
    capture.pair.run()
    assert all(side.finish is not None and side.finish.outcome == "done" for side in capture.pair.sides)
    return capture


# -- what the owner of a key can take out of a ciphertext ------------------------------------------------------


def residue_of(key: PrivateKey, number: mpz) -> mpz:
    """The blinding of a ciphertext: what is left when its plaintext is divided out."""
    n, square = mpz(key.public.modulus), mpz(key.public.modulus) ** 2
    plain = key.to_phe().raw_decrypt(int(number))
    return number * gmpy2.invert(1 + plain * n, square) % square


def product_of_residues(key: PrivateKey, numbers: list[mpz], exponents: list[int]) -> mpz:
    """The blinding that a product of powers has before it is re-randomised."""
    square = mpz(key.public.modulus) ** 2
    result = mpz(1)
    for number, exponent in zip(numbers, exponents, strict=True):
        result = result * gmpy2.powmod(residue_of(key, number), exponent, square) % square
    return result


def expected_shares(capture: Capture) -> Iterator[tuple[PrivateKey, mpz, mpz]]:
    """(key, returned ciphertext, its blinding without re-randomisation) of every `residual.share`."""
    key = capture.key(capture.pair.sides[0])
    sent = {
        (m.iteration, m.first_row): m
        for m in capture.messages(capture.pair.sides[0])
        if isinstance(m, schemas.LinkTerms)
    }
    returned = {
        (m.iteration, m.first_row): m
        for m in capture.messages(capture.pair.sides[1])
        if isinstance(m, schemas.ResidualShare)
    }
    for _, name, arguments, inputs, _, _ in capture.tasks:
        if name != "link.evaluate":
            continue
        place, rows = (arguments["iteration"], arguments["first_row"]), arguments["rows"]
        terms, budget = sent[place], keyring.budget_of(arguments["job"])
        expansion = residual_terms.Expansion(
            family=Family(task="logistic"), terms=terms.terms, bound=terms.bound, stretch=terms.stretch
        )
        scores = np.frombuffer(inputs[1], dtype="<f8")[place[1] : place[1] + rows]
        exponents = np.concatenate(
            [residual_terms.provider_exponents(expansion, scores), np.ones((rows, 1), dtype=np.int64)], axis=1
        )
        inputs_of_row = CipherVector.from_bytes(key.public, terms.ciphertexts).to_ints()
        width, per_row = budget.rows_per_ciphertext, terms.terms + 1
        results = CipherVector.from_bytes(key.public, returned[place].ciphertexts).to_ints()
        for at, number in enumerate(results):
            within = range(at * width, min((at + 1) * width, rows))
            powers = [
                int(exponents[row, k]) << (budget.row_slot * (row - at * width))
                for row in within
                for k in range(per_row)
            ]
            numbers = [inputs_of_row[row * per_row + k] for row in within for k in range(per_row)]
            yield key, number, product_of_residues(key, numbers, powers)


def expected_crosses(capture: Capture) -> Iterator[tuple[PrivateKey, mpz, mpz]]:
    """The same of every `cross.term`."""
    for side in capture.pair.sides:
        owner = capture.other(side)
        key = capture.key(owner)
        columns = [m for m in capture.messages(owner) if isinstance(m, schemas.FeaturesEncrypted)]
        parts = sorted(columns, key=lambda message: message.first_row)
        features = CipherVector.from_bytes(key.public, b"".join(m.ciphertexts for m in parts)).to_ints()
        for message in capture.messages(side):
            if isinstance(message, schemas.CrossTerm):
                shares = shares_of(capture, side, message.iteration)
                results = CipherVector.from_bytes(key.public, message.ciphertexts).to_ints()
                step = len(results)
                for at, number in enumerate(results):
                    yield key, number, product_of_residues(key, features[at::step], shares)


def mask_stream(context: Any, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> RandomStream:
    """The stream that a task drew its masks from: keyed with the opened body of the chunk, not with its seal."""
    chunk = arguments["chunk"]
    _, plain = open_with_plain(context, inputs[0], schemas.LinkTerms, chunk, arguments["chunks"])
    seen = keyring.digest_of((plain, *inputs[1:]))
    return keyring.stream(context, "masks", arguments["iteration"], chunk, seen)


def shares_of(capture: Capture, side: Side, iteration: int) -> list[int]:
    """A party's residual shares of an iteration, in row order: what it raised the features to."""
    shares: dict[int, list[int]] = {}
    for party, name, arguments, inputs, context, _ in capture.tasks:
        if party != side.name or arguments.get("iteration") != iteration:
            continue
        if name == "link.evaluate":
            budget = keyring.budget_of(arguments["job"])
            key = capture.key(capture.other(side))
            count = -(-arguments["rows"] // budget.rows_per_ciphertext)
            drawn = packing.masks(count, key.public, mask_stream(context, arguments, inputs))
            digits = packing.share_digits(drawn, arguments["rows"], budget)
            shares[arguments["first_row"]] = [-digit % (1 << budget.share_bits) for digit in digits]
        elif name == "residual.open":
            budget = keyring.budget_of(arguments["job"])
            key = capture.key(side)
            masked = next(
                m
                for m in capture.messages(capture.other(side))
                if isinstance(m, schemas.ResidualShare)
                and (m.iteration, m.first_row) == (iteration, arguments["first_row"])
            )
            numbers = CipherVector.from_bytes(key.public, masked.ciphertexts).to_ints()
            plain = [key.to_phe().raw_decrypt(int(number)) for number in numbers]
            shares[arguments["first_row"]] = packing.share_digits(plain, arguments["rows"], budget)
    return [share for first in sorted(shares) for share in shares[first]]


# -- the four checks --------------------------------------------------------------------------------------------


TWICE, UNBLINDED = "travelled twice", "not blinded"
AGAIN, RECOMPUTED = "a blinding or a re-randomisation was used again", "not re-randomised"
OWN, RETURNED = ("features.encrypted", "link.terms"), ("residual.share", "cross.term")


def complaints(capture: Capture) -> dict[str, Counter[str]]:
    """How many ciphertexts of which kind fail which check."""
    everything = capture.ciphertexts()
    kinds = Counter(kind for kind, _, _ in everything)
    assert set(kinds) == {*OWN, *RETURNED}
    found: dict[str, Counter[str]] = {name: Counter() for name in (TWICE, UNBLINDED, AGAIN, RECOMPUTED)}
    seen, used = Counter(number for _, _, number in everything), Counter[tuple[int, mpz]]()
    factors = []
    for kind, key, number in everything:
        found[TWICE][kind] += seen[number] > 1
        found[UNBLINDED][kind] += number % key.public.modulus == 1
        if kind in OWN:
            factors.append((kind, key, residue_of(key, number)))
    for kind, expected in zip(RETURNED, (expected_shares(capture), expected_crosses(capture)), strict=True):
        results = list(expected)
        assert len(results) == kinds[kind]
        for key, number, without in results:
            square = mpz(key.public.modulus) ** 2
            found[RECOMPUTED][kind] += residue_of(key, number) == without
            factors.append((kind, key, residue_of(key, number) * gmpy2.invert(without, square) % square))
    for _, key, factor in factors:
        used[key.public.modulus, factor] += 1
    for kind, key, factor in factors:
        found[AGAIN][kind] += used[key.public.modulus, factor] > 1
    return {name: +kinds for name, kinds in found.items() if +kinds}


def kinds_of(capture: Capture, *wanted: str) -> Counter[str]:
    """How many ciphertexts of some kinds travelled."""
    return Counter(kind for kind, _, _ in capture.ciphertexts() if kind in wanted)


def test_every_ciphertext_is_fresh_blinded_and_re_randomised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaints(captured(tmp_path, monkeypatch)) == {}


def test_without_blinding_the_checks_complain_of_every_own_ciphertext(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in (CompiledOwner, gmpy2_backend._Owner):
        monkeypatch.setattr(owner, "encrypt", unblinded)
    capture = captured(tmp_path, monkeypatch)
    found, own = complaints(capture), kinds_of(capture, *OWN)
    assert found[UNBLINDED] == found[AGAIN] == own
    assert found[TWICE]["link.terms"] > 0
    assert RECOMPUTED not in found


def unblinded(owner: Any, values: Any, stream: Any) -> CipherVector:
    """Encryption that leaves out what hides."""
    public = owner.public
    return CipherVector.from_ints(public, [1 + int(value) % public.modulus * public.modulus for value in values])


def zeros_instead_of(honest: Any) -> Any:
    """Exponents that make every residue one."""
    return lambda self, count, stream: np.zeros_like(honest(self, count, stream))


def test_with_neither_every_check_complains_of_every_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (KnownOrder, ManyBases):
        monkeypatch.setattr(source, "exponents", zeros_instead_of(source.exponents))
    capture = captured(tmp_path, monkeypatch)
    found = complaints(capture)
    assert found[UNBLINDED] == found[AGAIN] == kinds_of(capture, *OWN, *RETURNED)
    assert found[RECOMPUTED] == kinds_of(capture, *RETURNED)
    assert found[TWICE]["link.terms"] > 0


def test_without_re_randomisation_the_check_recomputes_every_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for backend in (compiled_backend, gmpy2_backend):
        monkeypatch.setattr(backend._Guest, "rerandomise", lambda self, vector, stream: vector)
    capture = captured(tmp_path, monkeypatch)
    every = kinds_of(capture, *RETURNED)
    assert complaints(capture) == {RECOMPUTED: every, AGAIN: every}


def test_a_pool_of_blindings_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ManyBases.exponents
    monkeypatch.setattr(ManyBases, "exponents", lambda self, count, stream: honest(self, 1, stream).repeat(count, 0))
    found = complaints(captured(tmp_path, monkeypatch))
    assert set(found) == {AGAIN}
    assert found[AGAIN]["residual.share"] > 0


def masks_of_replies(capture: Capture, arguments: dict[str, Any], masks: list[int]) -> bool:
    """Whether a chunk's reply is small residuals under these masks: they are the ones that were used."""
    budget, key = keyring.budget_of(arguments["job"]), capture.key(capture.pair.sides[0])
    (reply,) = (
        m
        for m in capture.messages(capture.pair.sides[1])
        if isinstance(m, schemas.ResidualShare)
        and (m.iteration, m.first_row) == (arguments["iteration"], arguments["first_row"])
    )
    numbers = CipherVector.from_bytes(key.public, reply.ciphertexts).to_ints()
    plain = [key.to_phe().raw_decrypt(int(number)) for number in numbers]
    pairs = zip(
        packing.share_digits(plain, arguments["rows"], budget),
        packing.share_digits(masks, arguments["rows"], budget),
        strict=True,
    )
    half, period = 1 << (budget.share_bits - 1), 1 << budget.share_bits
    return all(abs((one - other + half) % period - half) <= 1 << budget.residual_bits for one, other in pairs)


def test_masks_and_windows_are_never_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = captured(tmp_path, monkeypatch)
    key = capture.key(capture.pair.sides[0])
    drawn = []
    for _, name, arguments, inputs, context, _ in capture.tasks:
        if name == "link.evaluate":
            count = -(-arguments["rows"] // keyring.budget_of(arguments["job"]).rows_per_ciphertext)
            masks = packing.masks(count, key.public, mask_stream(context, arguments, inputs))
            assert masks_of_replies(capture, arguments, masks)
            drawn += masks
    assert len(set(drawn)) == len(drawn) == kinds_of(capture, "residual.share").total()
    plain = [
        key.to_phe().raw_decrypt(int(number)) for kind, key, number in capture.ciphertexts() if kind == "cross.term"
    ]
    assert len(set(plain)) == len(plain)
