"""What one job may not ask for, asked for in many: a partner that splits, cancels, repeats and hurries.

Every count is kept by its owner over all jobs with a partner (`services.store.ledger`), and is judged here by real jobs
over one data directory.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from learning import parts
from messages import codec, schemas
from protocol.contract import encode_contract, job_id
from protocol.effects import CancelDecided, ControlReceived, Finish
from protocol.policy import Policy
from services.store.ledger import (
    DAY_S,
    DIVISIONS_UNUSED_MAX,
    DivisionsSpent,
    Ledger,
    PointsSpent,
    ProjectionsSpent,
    RowsSpent,
    ScoresSpent,
)
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, Side, two_sides
from tests.services.test_job_machines import ROWS, stage
from tests.services.test_ledger import PEOPLE, admit


def job(directory: Path, seed: int, policy: dict[str, Any] | None = None, **changes: Any) -> Pair:
    """A job like any other over this data directory, with further keys in the provider's policy."""
    pair = stage(directory, seed, **changes)
    for side in pair.sides:
        side.settings["policy"].update(policy or {})
    return pair


def ended(side: Side) -> Finish:
    """How a party's job is over."""
    assert side.finish is not None
    return side.finish


def told(side: Side, kind: type[schemas.Message]) -> list[schemas.Message]:
    """What a party said of this kind."""
    return [message for message in side.sent if isinstance(message, kind)]


# -- enumeration: lists of everybody, one after the other --------------------------------------------------------------


def test_lists_of_all_jobs_count_against_the_quota_of_identifiers(tmp_path: Path) -> None:
    policy = {"psi_quota": 2 * ROWS + 1}
    for seed in range(2):
        first = job(tmp_path, seed, policy, psi_quota=ROWS)
        first.run()
        assert ended(first.sides[1]).outcome == "done"
    third = job(tmp_path, 2, policy, psi_quota=ROWS)
    third.run()
    business, provider = third.sides
    assert (ended(business).outcome, ended(business).reason_code) == ("declined", "psi_quota")
    assert f"{ROWS} identifiers, 1 are left of psi_quota = {2 * ROWS + 1}" in ended(business).reason
    assert not told(provider, schemas.AlignAccept)


def test_of_two_jobs_that_were_agreed_at_once_the_second_gets_no_identifier_answered(tmp_path: Path) -> None:
    policy = {"psi_quota": 2 * ROWS - 1}
    pairs = [job(tmp_path, seed, policy, psi_quota=ROWS) for seed in range(2)]
    late: list[Side] = []

    def first_goes_on(side: Side, effect: Any) -> None:
        # The second job is accepted, and begins to align: just then the first one does all it has to.
        if getattr(effect, "function", "") == "align.sort" and not late:
            late.append(side)
            pairs[0].run()

    pairs[1].on_effect = first_goes_on
    pairs[1].run()
    assert ended(pairs[0].sides[1]).outcome == "done"
    provider = pairs[1].sides[1]
    assert told(provider, schemas.JobAccept)
    assert (ended(provider).outcome, ended(provider).reason_code) == ("failed", "psi_quota")
    assert "align.echo" not in {kind for kind, *_ in provider.bodies}


def test_identifiers_lapse_with_the_period_and_an_answered_list_is_not_counted_twice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    grant = partial(ledger.grant_points, quota=100, period_s=30 * DAY_S)
    assert grant("job-1", 60, now=0.0) == grant("job-1", 60, now=1.0) == 60
    with pytest.raises(PointsSpent, match="41 identifiers, 40 are left"):
        grant("job-2", 41, now=DAY_S)
    with pytest.raises(PointsSpent, match="61 identifiers, 60 are left"):
        grant("job-1", 61, now=DAY_S)
    assert grant("job-2", 41, now=30.5 * DAY_S) == 41


def test_ten_jobs_of_a_million_fit_the_default_quota_of_a_period_and_the_same_list_counts_each_time(
    tmp_path: Path,
) -> None:
    ledger, policy = Ledger(tmp_path, "bank"), Policy()
    grant = partial(ledger.grant_points, quota=policy.psi_quota, period_s=policy.period_days * DAY_S)
    for day in range(10):
        assert grant(f"job-{day}", 1_000_000, now=day * DAY_S) == (day + 1) * 1_000_000
    with pytest.raises(PointsSpent, match="1000000 identifiers, 0 are left of psi_quota = 10000000 within 30 days"):
        grant("job-10", 1_000_000, now=29.9 * DAY_S)
    assert grant("job-10", 1_000_000, now=30.1 * DAY_S) == 10_000_000


# -- grinding: ended and asked again until the division pleases -------------------------------------------------------


def shown_and_cancelled(directory: Path, seed: int, **changes: Any) -> tuple[bytes, Finish]:
    """The provider's seed, which the business reads and then ends the job; and how that ended at the business."""
    pair = job(directory, seed, **changes)
    business, provider = pair.sides
    read: list[bytes] = []

    def end(side: Side, effect: Any) -> None:
        message = getattr(effect, "message", None)
        if side is provider and isinstance(message, schemas.PartsSeed):
            read.append(message.seed)
            business.inbox["operator"].append(CancelDecided(reason="another division, please"))

    pair.on_effect = end
    pair.run()
    return b"".join(read), ended(business)


def test_who_ends_jobs_until_a_division_pleases_sees_so_many_and_no_more(tmp_path: Path) -> None:
    seen = []
    for seed in range(DIVISIONS_UNUSED_MAX):
        shown, _ = shown_and_cancelled(tmp_path, seed, validation=0.25)
        seen.append(shown)
    assert len(set(seen)) == DIVISIONS_UNUSED_MAX, "the control: without a count every job is another draw"
    shown, end = shown_and_cancelled(tmp_path, DIVISIONS_UNUSED_MAX, validation=0.25)
    assert shown == b""
    assert (end.outcome, end.reason_code) == ("declined", "divisions_spent")
    plain = job(tmp_path, 99)
    plain.run()
    assert ended(plain.sides[0]).outcome == "done"


def test_a_division_that_was_trained_on_is_paid_for_by_its_grant(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    note = partial(ledger.note_division, period_s=30 * DAY_S)
    for number in range(DIVISIONS_UNUSED_MAX):
        note(f"job-{number}", now=float(number))
    note("job-3", now=99.0)
    with pytest.raises(DivisionsSpent, match="16 jobs that divide their rows came to nothing within 30 days"):
        note("late", now=DAY_S)
    admit(ledger, "job-3", 0, 4000, iterations=1)
    note("late", now=DAY_S)
    with pytest.raises(DivisionsSpent):
        note("later", now=DAY_S)
    note("later", now=30 * DAY_S + 1.0)


# -- haste: two worker processes judge two jobs at once ---------------------------------------------------------------

Ask = Callable[[Ledger, str], object]
HASTY: dict[str, tuple[Ask, type[Exception] | None]] = {
    "scores": (
        lambda ledger, name: ledger.grant_scores(name, "model", 60, quota=100, period_s=DAY_S, now=time.time()),
        ScoresSpent,
    ),
    "rows": (lambda ledger, name: ledger.grant_rows(name, 60, quota=100, period_s=DAY_S, now=time.time()), RowsSpent),
    "identifiers": (
        lambda ledger, name: ledger.grant_points(name, 60, quota=100, period_s=DAY_S, now=time.time()),
        PointsSpent,
    ),
    "evaluations": (
        lambda ledger, name: ledger.grant_projections(name, PEOPLE[:300], 5, columns=10),
        ProjectionsSpent,
    ),
    "entries": (lambda ledger, name: admit(ledger, name, 0, 4000), None),
}


@pytest.mark.parametrize("what", HASTY)
def test_of_two_jobs_that_are_judged_at_once_one_is_judged_first(what: str, tmp_path: Path) -> None:
    ask, refusal = HASTY[what]
    ledger, found = Ledger(tmp_path, "bank"), list[object]()

    def second() -> None:
        try:
            found.append(ask(Ledger(tmp_path, "bank"), "job-2"))
        except ValueError as error:
            found.append(type(error))

    rival, elsewhere = threading.Thread(target=second), tmp_path / "elsewhere"
    alone = ask(Ledger(elsewhere, "bank"), "job-1")
    (elsewhere / "ledger" / "salt").replace(tmp_path / "ledger" / "salt")
    with ledger._alone():
        # The first job has been judged and is not written down yet; the second one has to wait for that.
        rival.start()
        rival.join(0.3)
        assert rival.is_alive()
        for path in (elsewhere / "ledger" / "bank").glob("job-1.*"):
            path.replace(tmp_path / "ledger" / "bank" / path.name)
    rival.join()
    if refusal is not None:
        assert found == [refusal]
    else:
        (left,) = found
        assert isinstance(left, int)
        assert isinstance(alone, int)
        assert left < alone


# -- the same rows again, as something else ----------------------------------------------------------------------------

MANY = 1200
MAIL = [f"person-{number:05d}@example.org" for number in range(MANY)]
FIRST: dict[str, Any] = {"max_iterations": 100}


def write_people(path: Path, names: Sequence[str], columns: Sequence[str], seed: int = 2) -> None:
    """A provider's table of these people, in an order of its own."""
    chance = np.random.default_rng(seed)
    values = chance.normal(size=(len(names), len(columns)))
    lines = [
        ",".join([names[row], *map(repr, values[row].tolist())]) for row in chance.permutation(len(names)).tolist()
    ]
    path.write_text("\n".join([",".join(["id", *columns]), *lines]) + "\n")


def asked(
    directory: Path,
    seed: int,
    people: Sequence[str] = MAIL,
    *,
    columns: Sequence[str] = ("p0", "p1", "p2"),
    fails: bool = False,
    policy: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[int, str]:
    """(iterations that the provider's rules leave, its reason code) of a job that the business ends when it hears them.

    Fresh keys, secrets and salts each time; `fails`: the job ends by a failure instead.
    """
    directory.mkdir(exist_ok=True)
    source = directory / f"provider-{seed}.csv"
    write_people(source, MAIL, columns, seed)
    settings = {
        "policy": {"marks": ["insecure"], **(policy or {})},
        "datasets": {"customers": {"source": str(source), "id": "id"}},
        "noise_seed": "",
    }
    business, provider = two_sides(directory, settings, str(seed))
    table = Table(
        identifiers=list(people),
        columns=tuple("abcd"),
        values=np.random.default_rng(seed).normal(size=(len(people), 4)),
        label=(np.arange(len(people)) % 2).astype(float),
    )
    salt = seed.to_bytes(32, "big")
    agreed = contract(
        business_key=business.identity.public.digest(),
        provider_key=provider.identity.public.digest(),
        business_rows=len(people),
        business_columns=4,
        **{"marks": ("insecure",), "key_bits": 512, "align_chunk_items": 600, **FIRST, **changes},
    )
    if agreed.layout.divides:
        agreed = msgspec.structs.replace(agreed, parts_commitment=parts.commitment(parts.own_seed(salt)))
    data, heard = encode_contract(agreed), list[int]()
    pair = Pair(business, provider, seed=seed)

    def end(side: Side, effect: Any) -> None:
        message = getattr(effect, "message", None)
        if side is provider and isinstance(message, schemas.AlignResult):
            heard.append(message.iterations_allowed)
            failed = schemas.JobFailed(reason_code="disk_full", reason="")
            ending = ControlReceived(kind="job.failed", message=codec.encode(failed), sender=business.name)
            provider.inbox["operator"].append(ending if fails else CancelDecided(reason="no more"))
            business.tasks.clear()
            business.inbox.clear()

    pair.on_effect = end
    pair.start(job_id(data), data, pack_snapshot(table), len(people), msgspec.msgpack.encode({"salt": salt}))
    pair.run()
    return (heard or [-1])[0], provider.finish.reason_code if provider.finish else ""


AGAIN: dict[str, dict[str, Any]] = {
    "the same rows": {},
    "renamed and other columns": {"columns": ("x", "y", "z", "q")},
    "identifiers normalised otherwise": {"identifier_schema": "email.v1"},
    "batches": {"sample_set": "fraction", "batches": 2, "max_iterations": 8},
    "held-out rows": {"validation": 0.05},
    "another task": {"task": "linear"},
    "another policy": {"policy": {"period_days": 1e-6, "max_iterations": 1000}},
    "all rows but a few": {"people": MAIL[5:]},
    "a subset": {"people": MAIL[:1050]},
}


@pytest.mark.parametrize("fails", [False, True], ids=["cancelled", "failed"])
def test_what_a_job_was_granted_stays_spent_however_it_ended_and_however_the_rows_come_again(
    fails: bool, tmp_path: Path
) -> None:
    alone, _ = asked(tmp_path / "alone", 1)
    assert alone > 1
    granted, ending = asked(tmp_path, 1, fails=fails)
    assert (granted, ending) == (alone, "disk_full" if fails else "cancelled")
    for seed, (what, changes) in enumerate(AGAIN.items(), start=2):
        left, code = asked(tmp_path, seed, **changes)
        assert left in (-1, 0), (what, left)
        assert left == 0 or code in ("rows_too_close", "rows_too_few"), (what, code)


def test_the_control_each_way_to_ask_again_is_granted_to_a_partner_that_asks_first(tmp_path: Path) -> None:
    for seed, (what, changes) in enumerate(AGAIN.items(), start=2):
        if what not in ("batches", "held-out rows"):
            left, code = asked(tmp_path / str(seed), seed, **changes)
            assert left > 0, (what, left, code)
