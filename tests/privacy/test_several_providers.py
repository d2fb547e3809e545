"""What travels between three and four parties: blinded, masked, and nothing of rows that not all have."""

from pathlib import Path
from typing import Any

import gmpy2
import msgspec
import numpy as np
import pytest

from learning.arithmetic import masked
from learning.solvers import history as histories
from messages import codec, schemas, seal
from messages.envelope import PROTOCOL_VERSION
from paillier import compiled_backend, gmpy2_backend
from paillier.vector import CipherVector
from tests.privacy.test_blinding import residue_of
from tests.privacy.test_canaries import FIELDS as OF_ONE_PROVIDER
from tests.privacy.test_canaries import ONLY_AFTER_SILENCE
from tests.services.pair import Pair, Side
from tests.services.test_several_providers import Town, stage

ITERATIONS = 2

# docs/protocol.md section 5: what only jobs of several providers have. A field that is not here has not been granted.
FIELDS = {
    "job.agreed": {"columns"},
    "align.common": {"places"},
    "mask.key": {"public"},
    "step.masked": {"iteration", "row", "largest"},
    "intercept.part": {"masked"},
}


def run(directory: Path, **changes: Any) -> Pair:
    """A whole job of three providers."""
    pair = stage(directory, Town(3, "logistic", rows=70), max_iterations=ITERATIONS, **changes)
    pair.run()
    assert all(side.finish is not None and side.finish.outcome == "done" for side in pair.sides)
    return pair


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return run(tmp_path_factory.mktemp("job"))


def handed(pair: Pair, sender: Side, reader: Side) -> list[schemas.LinkTerms]:
    """All link terms that one party handed to the next, opened."""
    found = []
    for recipient, kind, chunk, chunks, sealed in sender.handed:
        if (recipient, kind) == (reader.name, "link.terms"):
            info = seal.seal_info(PROTOCOL_VERSION, sender.state.job, sender.name, reader.name, kind, chunk, chunks)
            message = codec.decode(seal.unseal(sealed, reader.identity, info))
            assert isinstance(message, schemas.LinkTerms)
            found.append(message)
    return found


def kept_blindings(pair: Pair) -> int:
    """How many constants that a provider handed on have the blinding they came with."""
    business, *providers = pair.sides
    key, kept = business.cache["paillier key"], 0
    for before, middle, after in zip(pair.sides, providers, providers[1:], strict=False):
        came = {(m.iteration, m.first_row): m for m in handed(pair, before, middle)}
        left = {(m.iteration, m.first_row): m for m in handed(pair, middle, after)}
        assert came.keys() == left.keys()
        for place, message in came.items():
            pairs = zip(_constants(key, message), _constants(key, left[place]), strict=True)
            kept += sum(residue_of(key, one) == residue_of(key, other) for one, other in pairs)
    return kept


def _constants(key: Any, message: schemas.LinkTerms) -> list[gmpy2.mpz]:
    numbers = CipherVector.from_bytes(key.public, message.ciphertexts).to_ints()
    return numbers[message.terms :: message.terms + 1]


def test_messages_have_the_fields_that_were_granted_and_no_others(job: Pair) -> None:
    found = {codec.kind_of(message): set(message.__struct_fields__) for side in job.sides for message in side.sent}
    kinds = found.keys() | {kind for side in job.sides for _, kind, *_ in side.handed}
    known = set(OF_ONE_PROVIDER) - {"step.products", "parts.seed", "receipt", *ONLY_AFTER_SILENCE}
    assert kinds == known | FIELDS.keys()
    assert all((FIELDS | OF_ONE_PROVIDER)[kind] == fields for kind, fields in found.items())
    assert set(schemas.AlignCommon.__struct_fields__) == FIELDS["align.common"]


def test_every_ciphertext_that_is_handed_on_is_blinded_anew(job: Pair) -> None:
    assert kept_blindings(job) == 0
    numbers: list[bytes] = []
    business, *providers = job.sides
    for before, after in zip(job.sides, providers, strict=False):
        for message in handed(job, before, after):
            size = business.cache["paillier key"].public.words * 8
            numbers += [message.ciphertexts[at : at + size] for at in range(0, len(message.ciphertexts), size)]
    assert len(numbers) == len(set(numbers)) > 3 * 70 * ITERATIONS


def test_the_check_of_blindings_finds_a_provider_that_leaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (gmpy2_backend, compiled_backend):
        monkeypatch.setattr(module._Guest, "rerandomise", lambda _self, vector, _stream: vector)
    assert kept_blindings(run(tmp_path)) > 0


def test_rows_of_the_gram_matrix_show_in_no_message_and_add_up_to_their_sum(job: Pair) -> None:
    sums = []
    for side in job.sides:
        found = histories.decode(side.blobs[side.state.features.history.sha256])
        sums.append([float(row @ found.whitened[-1]) for row in found.whitened])
    rows = [last_row(side) for side in job.sides]
    total = masked.unmasked(rows)
    assert np.allclose(total[:-1], np.sum(sums, axis=0), rtol=1e-5)
    for products, row in zip(sums, rows, strict=True):
        assert not np.allclose(masked.unmasked([row])[:-1], products, rtol=0.5)
    for left in range(len(rows)):
        rest = masked.unmasked(rows[:left] + rows[left + 1 :])
        assert max(map(abs, rest)) > 1e6 * max(map(abs, total)), "without one party's row the others tell nothing"


def last_row(side: Side) -> list[bytes]:
    """The masked row that a party sent last, the same to all."""
    sent = [message for _, message in side.said if isinstance(message, schemas.StepMasked)]
    of_last = [message.row for message in sent if message.iteration == ITERATIONS]
    assert len(of_last) == 3
    assert all(row == of_last[0] for row in of_last)
    return list(of_last[0])


def test_parts_of_the_intercept_are_told_as_a_sum_alone(job: Pair) -> None:
    business, *providers = job.sides
    parts, constants = [], []
    for side in providers:
        (part,) = [message for _, message in side.said if isinstance(message, schemas.InterceptPart)]
        parts.append([part.masked])
        assert all(message.constant == 0.0 for _, message in side.said if isinstance(message, schemas.JobDone))
        document = msgspec.json.decode(side.blobs[side.finish.results[0].sha256])  # type: ignore[union-attr]
        grid, coefficients = document["grid"], document["coefficients"]
        constants.append(-sum(grid[name]["centre"] * value for name, value in coefficients.items()))
        assert [name for name, message in side.said if isinstance(message, schemas.InterceptPart)] == [business.name]
    assert masked.unmasked(parts)[0] == pytest.approx(sum(constants), rel=1e-9)
    for part, constant in zip(parts, constants, strict=True):
        assert abs(masked.unmasked([part])[0] - constant) > 1e6


def test_what_a_provider_gets_of_the_alignment_does_not_say_what_the_business_has_beyond_the_common_rows(
    tmp_path: Path,
) -> None:
    """The same lists and the same common rows; the business shares more rows with the first provider, or does not."""
    seen = []
    for number, also in enumerate((0, 9)):
        directory = tmp_path / str(number)
        directory.mkdir()
        town = Town(2, "logistic", rows=70)
        pair = stage(directory, town, max_iterations=1, shared_with_first=also)
        pair.run()
        business, first, _ = pair.sides
        assert first.state.rows == 70
        seen.append(
            (
                [
                    (kind, chunk, chunks, len(body))
                    for to, kind, chunk, chunks, body in business.handed
                    if to == first.name
                ],
                sorted(codec.kind_of(message) for to, message in business.said if to == first.name),
                [first.state.align.count, first.state.own_rows, first.state.peers[0].rows],
            )
        )
        assert "align.echo" not in {kind for _, kind, *_ in business.handed}
    assert seen[0] == seen[1]
