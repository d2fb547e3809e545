"""A job has no more iterations than its state has room for, and its last state fits."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from learning.solvers import classes as several
from learning.solvers import loop
from protocol import room
from protocol.contract import encode_contract
from protocol.effects import STATE_BYTES_MAX, BlobRef, RemoteProtocolError
from protocol.facts import link_chunks, partner_chunks
from protocol.state import IterationFacts, JobState, Sample, encode_state
from protocol.steps import change
from tests.services.test_several_classes import stage


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> JobState:
    """The business's state of a finished job of three classes."""
    state: JobState = stage(Path(tmp_path_factory.mktemp("room")), max_iterations=1).sides[0].state
    return state


def with_classes(state: JobState, count: int, bits: int = 2048) -> JobState:
    """The same with as many classes, keys and iterations as asked for."""
    fields = {"classes": count, "key_bits": bits, "max_iterations": 200, "chunk_rows_max": 540}
    contract = encode_contract(msgspec.structs.replace(state.terms_of, **fields))
    return change(state, contract=contract, iterations_max=200)


def grown(state: JobState) -> JobState:
    """In its last iteration: loops of real sizes, rows, sums, and combinations of a job that may end early."""
    count, last = state.terms_of.classes, state.iterations_max
    random = np.random.default_rng(5)
    loops = several.begin(1e-12, count)
    gradients = random.normal(size=(count, last, 40)) * np.geomspace(1.0, 0.1, last)[None, :, None]
    for m in range(last):
        row: list[float] = []
        for one in gradients:
            row += [*(one[: m + 1] @ one[m]).tolist(), 0.0, 1.0]
        loops, step = several.advance(loops, row)
    fact = IterationFacts(iteration=last, largest_business=0.1, largest_provider=0.2, terms=10, bound=6.7, step=0.3)
    numbers = tuple(random.normal(size=count * (last + 2)).tolist())
    term = bytes(count * state.terms_of.key_bits // 4)
    peer = state.peers[0]
    heard = change(peer.round, products=numbers, cross_product=term, cross_term=term)
    chunks = partner_chunks(state, peer)[1]
    kept = change(peer.features, encrypted=(BlobRef(sha256=bytes(32), rows=2048, bytes=2**20),) * chunks)
    links = (None,) * link_chunks(change(state, round=change(state.round, sample=Sample(classes=(0,) * count))), 10)[1]
    return change(
        state,
        loop=msgspec.msgpack.encode(loops),
        facts=(fact,) * last,
        combination=step.combination,
        peers=(change(peer, round=heard, features=kept),),
        round=change(state.round, products=numbers, local_sums=(bytes(20),) * (count * 6), in_work=links),
        stopping=change(state.stopping, candidate=step.combination, onward=step.combination, kept=step.combination),
    )


def grown_alone(state: JobState) -> JobState:
    """The same of one score."""
    last, random = state.iterations_max, np.random.default_rng(5)
    gradients = random.normal(size=(last, 100)) * np.geomspace(1.0, 0.1, last)[:, None]
    alone = loop.LoopState(tolerance=1e-12)
    for m in range(last):
        alone, step = loop.advance(alone, [*(gradients[: m + 1] @ gradients[m]).tolist(), 0.0], 1.0)
    fact = IterationFacts(iteration=last, largest_business=0.1, largest_provider=0.2, terms=10, bound=6.7, step=0.3)
    numbers = tuple(random.normal(size=last + 2).tolist())
    term = bytes(state.terms_of.key_bits // 4)
    peer = state.peers[0]
    heard = change(peer.round, products=numbers, cross_product=term, cross_term=term)
    return change(
        state,
        loop=loop.encode(alone),
        facts=(fact,) * last,
        combination=step.combination,
        peers=(change(peer, round=heard),),
        round=change(state.round, products=numbers, local_sums=(bytes(20),) * 6),
        stopping=change(state.stopping, candidate=step.combination, onward=step.combination, kept=step.combination),
    )


@pytest.mark.parametrize(("count", "rows"), [(3, 178), (10, 178), (25, 178), (5, 200_000)])
def test_the_last_iteration_that_there_is_room_for_fits_and_little_is_wasted(
    trained: JobState, count: int, rows: int
) -> None:
    state = room.bounded(change(with_classes(trained, count), rows=rows))
    size = len(encode_state(grown(state)))
    assert 0.8 * STATE_BYTES_MAX < size <= STATE_BYTES_MAX
    assert room.bounded(change(state, iterations_max=2)).iterations_max == 2


def test_more_classes_than_a_state_has_room_for_are_refused_before_training(trained: JobState) -> None:
    with pytest.raises(RemoteProtocolError, match="merge rare classes") as refused:
        room.bounded(with_classes(trained, 50, bits=4096))
    assert refused.value.code == "classes_many"


def one_score(state: JobState, rows: int = 178) -> JobState:
    return change(with_classes(state, 0), rows=rows)


def test_a_model_of_one_score_keeps_what_it_begins_with_and_ends_at_the_last_iteration_that_fits(
    trained: JobState,
) -> None:
    state = one_score(trained)
    assert room.bounded(state) == state
    ends = [m for m in range(1, 200) if room.full(change(state, iteration=m))]
    assert ends == list(range(ends[0], 200))
    last = grown_alone(change(state, iterations_max=ends[0]))
    assert 0.8 * STATE_BYTES_MAX < len(encode_state(last)) <= STATE_BYTES_MAX


def test_a_job_of_many_rows_is_not_ended_before_it_had_the_usual_number_of_iterations(trained: JobState) -> None:
    state = one_score(trained, rows=5_000_000)
    assert not any(room.full(change(state, iteration=m)) for m in range(1, room.ITERATIONS_ALWAYS))
