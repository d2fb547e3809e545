"""What a party of a job with several providers refuses: forged common rows, masks of nobody, words out of turn."""

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from messages import codec, schemas
from protocol import samples
from protocol.effects import BlobRef, BulkReceived, ControlReceived, Finish, RemoteProtocolError
from protocol.grants import granted
from protocol.machines import step
from protocol.senders import may_send
from protocol.state import Phase
from protocol.steps import change
from services.tasks import FUNCTIONS
from services.tasks.compute import TaskRefused, TaskResult
from tests.protocol.test_grants import of_providers, state_of
from tests.services import pair as pairs
from tests.services.test_several_providers import Town, stage

Forgery = Callable[[np.ndarray], np.ndarray]


def forged_run(directory: Path, monkeypatch: pytest.MonkeyPatch, forge: Forgery) -> list[Finish]:
    """A job in which the business forges the places that it tells its second provider."""

    def join(context: Any, arguments: dict[str, Any], inputs: tuple[bytes, ...]) -> TaskResult:
        result = FUNCTIONS["align.join"](context, arguments, inputs)
        body = forge(np.frombuffer(result.blobs[2][0], dtype="<u4").copy()).astype("<u4").tobytes()
        digests = [result.output["digests"][0], hashlib.sha256(body).digest()]
        blobs = (*result.blobs[:2], (body, len(body) // 4))
        return TaskResult({**result.output, "digests": digests}, blobs)

    monkeypatch.setattr(pairs, "FUNCTIONS", {**FUNCTIONS, "align.join": join})
    pair = stage(directory, Town(2, "logistic", rows=40), max_iterations=1)
    pair.run()
    ends = [side.finish for side in pair.sides if side.finish is not None]
    assert len(ends) == 3
    return ends


def twice(places: np.ndarray) -> np.ndarray:
    places[1] = places[0]
    return places


def beyond(places: np.ndarray) -> np.ndarray:
    places[-1] = 10**6
    return places


@pytest.mark.parametrize("forge", [twice, beyond])
def test_places_that_are_no_rows_end_the_job_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forge: Forgery
) -> None:
    ends = forged_run(tmp_path, monkeypatch, forge)
    assert {(end.outcome, end.reason_code) for end in ends} == {("failed", "places_wrong")}


def test_fewer_rows_than_the_others_have_are_noticed_by_the_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = forged_run(tmp_path, monkeypatch, lambda places: places[:-3])
    assert {end.outcome for end in ends} == {"failed"}


def chunk(kind: str, sender: str) -> BulkReceived:
    """A first chunk of one."""
    body = BlobRef(sha256=bytes(32), rows=1, bytes=1)
    return BulkReceived(kind=kind, chunk=0, chunks=1, body=body, sender=sender)


@pytest.mark.parametrize(
    ("me", "phase", "kind", "sender"),
    [
        ("provider-b", Phase.LINKING, "link.terms", "business-a"),
        ("provider-a", Phase.LINKING, "link.terms", "provider-c"),
        ("business-a", Phase.LINKING, "residual.share", "provider-a"),
        ("provider-a", Phase.CODING, "features.encrypted", "provider-c"),
        ("provider-a", Phase.ALIGNING, "align.common", "provider-b"),
        ("provider-a", Phase.ALIGNING, "align.echo", "business-a"),
        ("provider-a", Phase.ALIGNING, "align.list", "somebody-else"),
    ],
)
def test_a_chunk_from_the_wrong_party_ends_the_job(me: str, phase: Phase, kind: str, sender: str) -> None:
    state = change(state_of(of_providers(3), me), phase=phase, agreed=True)
    after, effects = step(state, chunk(kind, sender))
    assert after.phase is Phase.FAILED
    assert isinstance(effects[-1], Finish)
    assert effects[-1].reason_code == "unexpected_message"
    assert kind in effects[-1].reason
    assert sender in effects[-1].reason


@pytest.mark.parametrize(
    ("me", "phase", "message", "sender"),
    [
        ("provider-a", Phase.CROSSING, schemas.CrossTerm(iteration=1, ciphertexts=b"1"), "provider-b"),
        ("provider-a", Phase.ALIGNING, schemas.JobAgreed(columns=[3, 3, 3]), "provider-b"),
        ("provider-a", Phase.CODING, schemas.MaskKey(public=bytes(32)), "somebody-else"),
        (
            "business-a",
            Phase.CROSSING,
            schemas.StepProducts(iteration=1, products=[1.0, 0.0], largest=1.0),
            "provider-a",
        ),
    ],
)
def test_a_word_from_the_wrong_party_ends_the_job(me: str, phase: Phase, message: schemas.Message, sender: str) -> None:
    state = change(state_of(of_providers(3), me), phase=phase, agreed=True)
    event = ControlReceived(kind=codec.kind_of(message), message=codec.encode(message), sender=sender)
    after, effects = step(state, event)
    assert after.phase is Phase.FAILED
    assert isinstance(effects[-1], Finish)
    assert effects[-1].reason_code == "unexpected_message"


def test_a_provider_does_not_take_the_key_of_one_party_from_another() -> None:
    state = change(state_of(of_providers(3), "provider-a"), phase=Phase.CODING, agreed=True)
    for sender, code in (("provider-b", ""), ("provider-c", "mask_key_wrong")):
        message = codec.encode(schemas.MaskKey(public=b"k" * 32))
        state, effects = step(state, ControlReceived(kind="mask.key", message=message, sender=sender))
        assert code in (effects[-1].reason_code if effects else "")  # type: ignore[union-attr]
    assert state.phase is Phase.FAILED


def test_a_mask_key_of_low_order_is_refused(tmp_path: Path) -> None:
    from services.tasks import pairwise

    pair = stage(tmp_path, Town(2, "logistic", rows=40))
    context = pair.context(pair.sides[0], "")
    with pytest.raises(TaskRefused) as caught:
        pairwise.shared(context, "provider-d", bytes(32), "gram-row", 1)
    assert caught.value.code == "mask_key_wrong"


def test_both_ends_of_a_pair_derive_the_same_masks_and_others_for_another_iteration(tmp_path: Path) -> None:
    from services.tasks import pairwise

    pair = stage(tmp_path, Town(2, "logistic", rows=40))
    first, second = (pair.context(side, "") for side in pair.sides[1:])
    keys = [pairwise.public_key(context) for context in (first, second)]
    found = [
        pairwise.shared(first, second.party, keys[1], "gram-row", 1).bytes(64),
        pairwise.shared(second, first.party, keys[0], "gram-row", 1).bytes(64),
        pairwise.shared(first, second.party, keys[1], "gram-row", 2).bytes(64),
        pairwise.shared(first, second.party, keys[1], "intercept").bytes(64),
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("columns", "share", "refused"), [((4, 4, 4), 0.25, False), ((5, 4, 3), 0.25, True), ((5, 4, 3), 0.5, False)]
)
@pytest.mark.parametrize("draw", ["cyclic", "random", "greedy"])
def test_blocks_whose_sum_would_show_one_party_to_another_are_refused(
    columns: tuple[int, ...], share: float, refused: bool, draw: str
) -> None:
    """Of four blocks, a party of three columns has none in one; of two it is in both."""
    own, *others = columns
    fields = {"solver": "block", "block_share": share, "business_columns": own - 1, "draw": draw}
    for marks in ((), ("few_columns",)):
        state = state_of(of_providers(2, marks=marks, **fields), "business-a")
        peers = tuple(change(peer, columns=count) for peer, count in zip(state.peers, others, strict=True))
        state = change(state, own_columns=own, peers=peers)
        if refused and not marks:
            with pytest.raises(RemoteProtocolError, match="raise block_share") as caught:
                samples.check_blocks(state)
            assert caught.value.code == "few_columns"
        else:
            samples.check_blocks(state)


def test_seeds_of_a_division_go_to_all_where_rows_are_divided_and_to_nobody_else() -> None:
    for fields, wanted in (({}, False), ({"validation": 0.25, "parts_commitment": bytes(32)}, True)):
        agreed = of_providers(3, **fields)
        for receiver, sender in itertools.permutations(agreed.parties, 2):
            assert ("parts.seed" in granted(agreed, receiver, sender)) == wanted
            assert may_send(state_of(agreed, receiver), sender, "parts.seed")


def test_a_seed_that_nobody_asked_for_or_a_second_one_ends_the_job() -> None:
    """The first is taken where the contract divides rows."""
    message = codec.encode(schemas.PartsSeed(seed=b"s" * 32))
    event = ControlReceived(kind="parts.seed", message=message, sender="provider-b")
    for fields, seeds in (({}, 0), ({"validation": 0.25, "parts_commitment": bytes(32)}, 1)):
        state = change(state_of(of_providers(3, **fields), "provider-a"), phase=Phase.ALIGNING, agreed=True)
        for _ in range(seeds):
            state, effects = step(state, event)
            assert effects == ()
        state, effects = step(state, event)
        assert isinstance(effects[-1], Finish)
        assert effects[-1].reason_code == "parts_repeated"
