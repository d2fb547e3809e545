"""What this party has released to each partner, over all jobs: the owner's side of the release rules.

One file per partner and job holds hashes of the rows that the job used and the number of gradient and Gram
entries granted. It outlives the job: caps and row-set differences are judged over all jobs (protocol.md
section 5). Identifiers are stored as salted hashes, never in the clear.
"""

import fcntl
import hashlib
import io
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning import release
from services.store.row_sets import JobRows, Rows, Sets, overlaps, row_sets, sets_of, weights_of

ROW_BYTES = 16
SALT_BYTES: Final = 32

DAY_S: Final = 86_400.0

DIVISIONS_UNUSED_MAX: Final = 16
"""Divisions of rows that a partner may have seen and not used within a period: 4 bits of choice."""


class LedgerDamaged(Exception):
    """A file of the ledger that is not as it was written: names it. Nothing is granted without it: all jobs count."""


class ScoresSpent(ValueError):
    """More rows were to be scored than the policy leaves."""


class ProjectionsSpent(ValueError):
    """Rows were to be evaluated so often, over all jobs, that their columns could be solved for."""


class RowsSpent(ValueError):
    """More rows were to be trained on than the policy leaves."""


class PointsSpent(ValueError):
    """More identifiers of the partner were to be evaluated than the policy leaves."""


class DivisionsSpent(ValueError):
    """Too many seeds of a division were shown to the partner that no job has used."""


class _Scores(msgspec.Struct, frozen=True):
    """The scores, rows or points granted to a job. `at`: seconds since 1970, UTC."""

    model: str
    rows: int
    at: float


class Ledger:
    """The release ledger of one party about one partner, in `<data directory>/ledger/<partner>/`.

    Whatever judges by what there is and writes down what follows holds the ledger's lock meanwhile: two worker
    processes that judge two jobs at once would each find that nothing was granted to the other.
    """

    def __init__(self, data_directory: Path, partner: str) -> None:
        """Open the ledger; makes its directory and salt when they are not there."""
        self._directory = data_directory / "ledger" / partner
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._salt = self._salt_of(data_directory / "ledger" / "salt")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else judges by this ledger meanwhile. The lock is gone with the process that held it."""
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @staticmethod
    def _salt_of(path: Path) -> bytes:
        if not path.exists():
            if any(path.parent.glob("*/*.npz")) or any(path.parent.glob("*/*.projections")):
                # Under a new salt no former row would be known again, and every cap would begin anew.
                raise LedgerDamaged(f"{path} is missing")
            fresh = path.with_name(f"salt.{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_bytes(secrets.token_bytes(SALT_BYTES))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        salt = path.read_bytes()
        if len(salt) != SALT_BYTES:
            raise LedgerDamaged(f"{path} has {len(salt)} bytes and not {SALT_BYTES}")
        return salt

    def row_hashes(self, identifiers: Sequence[str]) -> Rows:
        """Salted hashes of identifiers, 16 bytes each."""
        digests = b"".join(
            hashlib.blake2b(name.encode(), key=self._salt, digest_size=ROW_BYTES).digest() for name in identifiers
        )
        return np.frombuffer(digests, dtype=f"V{ROW_BYTES}")

    def admit(
        self,
        job: str,
        identifiers: Sequence[str],
        *,
        own_columns: int,
        partner_columns: int,
        max_iterations: int,
        small_sample: bool,
        sets: Sets | None = None,
        weights: NDArray[np.float64] | None = None,
        reserved: int = 0,
        tariff: release.Tariff = release.WHOLE,
    ) -> int:
        """Iterations that the rules leave for a job on these rows; the grant is written down.

        `reserved`: entries that the job releases besides those of its iterations.

        `sets`: which of the rows are in which row set that gradients are taken over, (n, sets); all in one by default.
        `weights` (n,): those of the rows; rows count as many as are effective, and jobs differ in effective rows.
        Raises release.ReleaseRefused (too few rows, a row set too close to a former one). Running it again
        for the same job gives the same answer.
        """
        rows, places = np.unique(self.row_hashes(identifiers), return_index=True)
        own = np.ones((len(rows), 1), dtype=bool) if sets is None else sets[places]
        scaled = None if weights is None else weights[places] * (len(rows) / weights.sum())
        with self._alone():
            former = self._judged_by(job)
            allowed = release.iterations_allowed(
                rows=len(rows) if scaled is None else math.floor(release.effective_rows(scaled)),
                own_columns=own_columns,
                partner_columns=partner_columns,
                max_iterations=max_iterations,
                small_sample=small_sample,
                former=overlaps(rows, scaled, former),
                row_sets=row_sets(rows, own, former),
                reserved=reserved,
                tariff=tariff,
            )
            self._write(job, rows, own, release.entries_released(allowed, partner_columns, tariff) + reserved, scaled)
        return allowed

    def settle(
        self,
        job: str,
        iterations: int,
        partner_columns: int,
        reserved: int = 0,
        tariff: release.Tariff = release.WHOLE,
    ) -> None:
        """Replace a job's grant by what it really released; `reserved` and `tariff` as for `admit`."""
        path = self._directory / f"{job}.npz"
        if path.exists():
            with _opened(path) as record:
                rows, sets, weights = record["rows"], sets_of(record), weights_of(record)
            entries = release.entries_released(iterations, partner_columns, tariff) + reserved
            self._write(job, rows, sets, entries, weights)

    def grant_scores(self, job: str, model: str, rows: int, *, quota: int, period_s: float, now: float) -> int:
        """Count `rows` scores of a job, durably, before one of them leaves; returns what the period has now in all.

        Every scored row of every model counts: J models give the partner J projections of a row. Raises ScoresSpent
        when more than `quota` would be granted within `period_s`. Running it again for the same job counts once.
        """
        used, left = self._count("scores", _Scores(model=model, rows=rows, at=now), job, quota, period_s)
        if rows > left:
            raise ScoresSpent(
                f"{rows} rows to score, {left} are left of the quota of {quota} of the last {period_s / DAY_S:g} days"
            )
        return used

    def grant_rows(self, job: str, rows: int, *, quota: int, period_s: float, now: float) -> int:
        """Count `rows` common rows that a training job uses, like `grant_scores`. Raises RowsSpent."""
        used, left = self._count("used", _Scores(model="", rows=rows, at=now), job, quota, period_s)
        if rows > left:
            raise RowsSpent(
                f"{rows} common rows, {left} are left of rows_per_period = {quota} within {period_s / DAY_S:g} days"
            )
        return used

    def grant_points(self, job: str, points: int, *, quota: int, period_s: float, now: float) -> int:
        """Count the identifiers of the partner's list, before one of them is answered; like `grant_scores`.

        Every list counts in full, also one that was evaluated before: under a job's own scalar nobody can tell. Raises
        PointsSpent.
        """
        used, left = self._count("points", _Scores(model="", rows=points, at=now), job, quota, period_s)
        if points > left:
            raise PointsSpent(_points_spent(points, left, quota, period_s))
        return used

    def check_points(self, job: str, points: int, *, quota: int, period_s: float, now: float) -> None:
        """Whether a list of so many identifiers would be evaluated now; counts nothing. Raises PointsSpent.

        A job whose list was counted is not judged again.
        """
        left = max(0, quota - self._used("points", job, now - period_s))
        if points > left and not (self._directory / f"{job}.points").exists():
            raise PointsSpent(_points_spent(points, left, quota, period_s))

    def note_division(self, job: str, *, period_s: float, now: float) -> None:
        """Write down that this party's seed of a job's division will be shown, durably, before it is.

        Who has seen it knows the division, and may end the job and ask again until it likes one. A job whose rows were
        granted is paid for by its grant; of the others, that came to nothing, there are DIVISIONS_UNUSED_MAX within
        `period_s`. Raises DivisionsSpent. Running it again for the same job counts once.
        """
        path = self._directory / f"{job}.division"
        with self._alone():
            if path.exists():
                return
            shown = [other for other in self._directory.glob("*.division") if self._scores(other).at > now - period_s]
            unused = sum(not other.with_suffix(".npz").exists() for other in shown)
            if unused >= DIVISIONS_UNUSED_MAX:
                raise DivisionsSpent(
                    f"{unused} jobs that divide their rows came to nothing within {period_s / DAY_S:g} days, after "
                    "this party's seed of the division was to be shown: no more of them for now, since who ends jobs "
                    "until it likes a division has chosen it; jobs that divide no rows are not concerned"
                )
            _write_durably(path, msgspec.json.encode(_Scores(model="", rows=0, at=now)))

    def _used(self, kind: str, beside: str, since: float) -> int:
        """What was granted of a kind since then, to all jobs but one."""
        paths = sorted(self._directory.glob(f"*.{kind}"))
        granted = [self._scores(path) for path in paths if path.stem != beside]
        return sum(grant.rows for grant in granted if grant.at > since)

    def _count(self, kind: str, grant: "_Scores", job: str, quota: int, period_s: float) -> tuple[int, int]:
        """(what the period has now in all, what was left for this job); written down where it is enough."""
        path = self._directory / f"{job}.{kind}"
        with self._alone():
            used = self._used(kind, job, grant.at - period_s)
            if path.exists():
                known = self._scores(path).rows
                return used + known, known
            left = max(0, quota - used)
            if grant.rows <= left:
                _write_durably(path, msgspec.json.encode(grant))
        return used + grant.rows, left

    def grant_projections(
        self,
        job: str,
        identifiers: Sequence[str],
        count: int,
        *,
        columns: int,
        each: int = 1,
        small_sample: bool = False,
    ) -> None:
        """Count `count` evaluations of rows by models of one job, durably, before one of them leaves.

        An evaluation is `each` projections, one for each class. Over all jobs a row gets fewer of them than it has
        `columns`, unless `small_sample` lifts that. Raises ProjectionsSpent. Running it again for the same job counts
        once.
        """
        with self._alone():
            self._grant_projections(job, np.unique(self.row_hashes(identifiers)), count, each, columns, small_sample)

    def _grant_projections(self, job: str, rows: Rows, count: int, each: int, columns: int, small_sample: bool) -> None:
        path = self._directory / f"{job}.projections"
        if path.exists():
            return
        seen = np.zeros(len(rows), dtype=np.int64)
        for other in sorted(self._directory.glob("*.projections")):
            with _opened(other) as record:
                seen += np.isin(rows, record["rows"]) * int(record["count"])
        most = int(seen.max(initial=0))
        if most + count * each >= columns and not small_sample:
            more = f"{count} more" if each == 1 else f"{count} more of {each} classes"
            raise ProjectionsSpent(
                f"{int((seen == most).sum())} validation rows were evaluated {most} times by former jobs, {more} "
                f"make as many as there are columns ({columns}): a stop_evaluations_max of "
                f"{max(0, columns - 1 - most) // each} is left, if the parties do not both accept the mark small_sample"
            )
        data = io.BytesIO()
        np.savez_compressed(data, rows=rows, count=np.int64(count * each))
        _write_durably(path, data.getvalue())

    @staticmethod
    def _scores(path: Path) -> "_Scores":
        with _told(path):
            return msgspec.json.decode(path.read_bytes(), type=_Scores)

    def _judged_by(self, job: str) -> list[JobRows]:
        """The former jobs that this one is judged by, written down before its grant.

        Once there is a grant, a job that was granted since has counted this one in already, and an audit that runs
        the task again must find what there was then. Without one, nobody has: what there is now counts.
        """
        path = self._directory / f"{job}.former"
        found = self._former(job)
        if not (self._directory / f"{job}.npz").exists():
            _write_durably(path, msgspec.json.encode({record.job: record.entries for record in found}))
        with _told(path):
            entries = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        return [replace(record, entries=entries[record.job]) for record in found if record.job in entries]

    def _former(self, job: str) -> list[JobRows]:
        found = []
        for path in sorted(self._directory.glob("*.npz")):
            if path.stem != job:
                with _opened(path) as record:
                    sets, weights = sets_of(record), weights_of(record)
                    found.append(JobRows(path.stem, record["rows"], int(record["entries"]), sets, weights))
        return found

    def _write(
        self, job: str, rows: Rows, sets: Sets, entries: int, weights: NDArray[np.float64] | None = None
    ) -> None:
        data = io.BytesIO()
        arrays: dict[str, Any] = {"rows": rows, "entries": np.int64(entries)}
        if sets.shape[1] != 1 or not sets.all():
            arrays["sets"] = sets
        if weights is not None:
            arrays["weights"] = weights
        np.savez_compressed(data, **arrays)
        _write_durably(self._directory / f"{job}.npz", data.getvalue())


def _points_spent(points: int, left: int, quota: int, period_s: float) -> str:
    return f"{points} identifiers, {left} are left of psi_quota = {quota} within {period_s / DAY_S:g} days"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes of its reader becomes LedgerDamaged."""
    try:
        yield
    except Exception as error:
        raise LedgerDamaged(f"{path} cannot be read: {type(error).__name__}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a job's file, which has rows at least. Raises LedgerDamaged."""
    with _told(path), np.load(path) as record:
        if record["rows"].dtype != np.dtype(f"V{ROW_BYTES}"):
            raise ValueError
        yield record


def _write_durably(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
