"""Single rows of a scoring job that answers lookups: asked and answered beside the journal, within a round trip.

All rows of such a job were counted against the provider's quota in the transaction that aligned them, so an answer
needs no commit of its own: nothing is released by it that was not granted, and asking again gives the same number.
A request names a row by its place in the common order; its identifier does not travel.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from alignment import identifiers
from broker.transport import Delivery
from learning.evaluation import multiclass
from learning.evaluation.part_figures import mean_response
from learning.links import projections
from messages import unsequenced
from messages.envelope import Envelope, EnvelopeError
from protocol.scoring_contract import ScoringContract, decode_scoring
from protocol.state import SCORING_BUSINESS, SCORING_PROVIDER, Phase, decode_state
from services.engine import jobs
from services.engine.envelopes import Envelopes, Unreadable
from services.engine.jobs import Status
from services.engine.relay import Relay
from services.models.store import ModelStore
from services.models.version import ModelDamaged
from services.store.blobs import BlobStore
from services.store.journal import Journal, JournalUnavailable
from services.store.journal_schema import jobs as jobs_table
from services.store.segments import BlobDamaged, BlobMissing, read
from services.tasks.score import Index, hash_identifiers

log = structlog.get_logger("lookups")

KINDS: Final = (".score.ask", ".score.answer")
QUESTION_BYTES: Final = 16
ANSWERS_WAITING_MAX: Final = 256
"""Answers that wait for the broker's confirm; a partner that asks faster gets some of its answers."""

COUNTER: Final = "lookups"


class LookupRefused(Exception):
    """A row that gets no score. `code` says why, the text what to do."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class OfClass:
    """What one class of several has of a row: its score, and its probability among all."""

    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer for one row: a score and the mean response; of several classes the likeliest, and each one's."""

    job: str
    prediction: float | str
    score: float | None = None
    classes: dict[str, OfClass] = field(default_factory=dict)

    def to_object(self) -> dict[str, Any]:
        """For JSON: `score` or `classes`, as the model has them."""
        said = asdict(self)
        return {name: value for name, value in said.items() if name != ("score" if self.classes else "classes")}


@dataclass(frozen=True, slots=True)
class _Held:
    """A job whose rows this provider answers for, in so many bytes a row: 8 for each class."""

    model: str
    partner: str
    width: int
    values: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A job whose rows this business asks for."""

    model: str
    partners: tuple[str, ...]
    index: Index = field(repr=False)
    hashes: NDArray[np.bytes_] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)  # (n, classes)

    def find(self, identifier: str) -> int:
        """Place of an identifier in the index, -1 for one that is not among the common rows."""
        try:
            [name] = identifiers.normalise([identifier], self.index.schema)
        except identifiers.IdentifierError:
            return -1
        wanted = hash_identifiers([name], self.index.salt)
        place = int(np.searchsorted(self.hashes, wanted)[0])
        return place if place < len(self.hashes) and self.hashes[place] == wanted[0] else -1


class Lookups:
    """Answers partners and asks them. All methods belong on the daemon's event loop.

    `rests`: why a job rests at present, empty if it does not: its rows are not scored.
    """

    def __init__(
        self,
        journal: Journal,
        blobs: BlobStore,
        envelopes: Envelopes,
        relay: Relay,
        data_directory: Path,
        entropy: Callable[[int], bytes],
        rests: Callable[[str], str],
    ) -> None:
        self._journal = journal
        self._blobs = blobs
        self._envelopes = envelopes
        self._relay = relay
        self._models = ModelStore(data_directory)
        self._entropy = entropy
        self._rests = rests
        self._held: dict[str, _Held] = {}
        self._asking: dict[str, _Asking] = {}
        self._job_of: dict[str, str] = {}
        self._waiting: dict[tuple[bytes, str], asyncio.Future[unsequenced.ScoreAnswer]] = {}
        self._answers: set[asyncio.Task[bool]] = set()
        self._counts: dict[str, int] = {}

    # -- deliveries -----------------------------------------------------------------------------------------

    async def take(self, delivery: Delivery) -> bool:
        """Take a delivery over, with its acknowledgement; False: it is no lookup, or the engine is to park it."""
        if not delivery.routing_key.endswith(KINDS):
            return False
        try:
            envelope = self._envelopes.open(delivery.body, delivery.routing_key)
            if envelope.header.sequence != 0:
                return False
            message, _ = self._envelopes.read(envelope.header, envelope.body)
        except (EnvelopeError, Unreadable):
            return False
        match message:
            case unsequenced.ScoreAsk():
                taken = await self._answer(envelope, message)
            case unsequenced.ScoreAnswer():
                taken = self._answered(envelope, message)
            case _:
                return False
        if taken:
            await delivery.ack()
        return taken

    async def _answer(self, envelope: Envelope, message: unsequenced.ScoreAsk) -> bool:
        job, sender = envelope.header.job, envelope.header.sender
        held = self._held.get(job) or await self._load_held(job)
        if held is None or held.partner != sender:
            return False
        value, code = bytes(held.width), "ok"
        if self._rests(job):
            code = "job_resting"
        elif self._retired(held.model):
            code = "model_retired"
        elif not message.row < len(held.values) // held.width:
            code = "row_unknown"
        else:
            value = held.values[held.width * message.row : held.width * (message.row + 1)]
            self._count(job)
        if len(self._answers) >= ANSWERS_WAITING_MAX:
            log.warning("lookup dropped: too many wait", job=job, partner=sender)
            return True
        answer = unsequenced.ScoreAnswer(question=message.question, value=value, reason_code=code)
        # The broker's confirm takes longer than the rest: the next delivery need not wait for it.
        task = asyncio.create_task(self._relay.say(job, sender, answer))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
        return True

    def _answered(self, envelope: Envelope, message: unsequenced.ScoreAnswer) -> bool:
        waiter = self._waiting.get((message.question, envelope.header.sender))
        if waiter is None:
            log.info("nobody waits for this answer any more", job=envelope.header.job, partner=envelope.header.sender)
        elif not waiter.done():
            waiter.set_result(message)
        return True

    # -- asking ---------------------------------------------------------------------------------------------

    async def score(self, model: str, identifier: str, timeout_s: float) -> Looked:
        """The score of one row by its identifier. Raises LookupRefused, TimeoutError."""
        job = await self._open_job(model)
        asking = self._asking.get(job) or await self._load_asking(job)
        if asking is None:
            raise LookupRefused("lookup_not_ready", f"job {job} is not ready to answer yet; try again")
        if self._retired(model):
            raise LookupRefused("model_retired", f"model {model} is retired here and scores nothing any more")
        place = asking.find(identifier)
        if place < 0:
            raise LookupRefused(
                "row_unknown",
                f"this identifier is not among the rows that job {job} aligned: score it in a batch, or open a new "
                "lookup job on a file that has it",
            )
        row = int(asking.places[place])
        told = await asyncio.gather(*(self._ask(job, partner, row, timeout_s) for partner in asking.partners))
        scores = asking.scores[place] + projections.from_units(total(told, asking.scores.shape[1]), asking.index.unit)
        self._count(job)
        return looked(job, asking.index, scores)

    async def _ask(self, job: str, partner: str, row: int, timeout_s: float) -> bytes:
        question = self._entropy(QUESTION_BYTES)
        waiter: asyncio.Future[unsequenced.ScoreAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[question, partner] = waiter
        try:
            async with asyncio.timeout(timeout_s):
                # The confirm is not waited for: the answer says more.
                task = asyncio.create_task(
                    self._relay.say(job, partner, unsequenced.ScoreAsk(question=question, row=row))
                )
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
                answer = await waiter
        finally:
            self._waiting.pop((question, partner), None)
        if answer.reason_code != "ok":
            raise LookupRefused(answer.reason_code, f"{partner} does not score this row: {answer.reason_code}")
        return answer.value

    # -- jobs -----------------------------------------------------------------------------------------------

    def ended(self, job: str) -> None:
        """A job is over: nothing of it is answered or asked any more."""
        self._held.pop(job, None)
        if self._asking.pop(job, None) is not None:
            self._job_of = {model: known for model, known in self._job_of.items() if known != job}

    async def _open_job(self, model: str) -> str:
        """The newest job of this business that answers lookups by a model. Raises LookupRefused."""
        if model in self._job_of:
            return self._job_of[model]
        found = await self._journal.read(lambda connection: _jobs_of(connection, model))
        if not found:
            raise LookupRefused(
                "lookup_closed",
                f"no job answers lookups with model {model}: open one with `warren predict --model {model} --lookup`",
            )
        self._job_of[model] = found[0]
        return found[0]

    async def _load_held(self, job: str) -> _Held | None:
        found = await self._serving(job, SCORING_PROVIDER)
        if found is None:
            return None
        contract, values = found
        self._held[job] = _Held(contract.model, contract.business, 8 * max(1, contract.classes), values)
        return self._held[job]

    async def _load_asking(self, job: str) -> _Asking | None:
        found = await self._serving(job, SCORING_BUSINESS)
        if found is None:
            return None
        contract, data = found
        index = msgspec.msgpack.decode(data, type=Index)
        self._asking[job] = _Asking(
            contract.model,
            contract.parties[1:],
            index,
            np.frombuffer(index.hashes, dtype=f"S{QUESTION_BYTES}"),
            np.frombuffer(index.places, dtype="<i8"),
            np.frombuffer(index.scores, dtype="<f8").reshape(-1, max(1, contract.classes)),
        )
        return self._asking[job]

    async def _serving(self, job: str, role: str) -> tuple[ScoringContract, bytes] | None:
        """Contract of a job that answers lookups, and what they are answered from."""

        def unit(connection: Connection) -> tuple[ScoringContract, bytes] | None:
            record = jobs.load(connection, job)
            if record is None or record.role != role or not record.running or not record.state:
                return None
            state = decode_state(record.state)
            if state.phase is not Phase.SERVING or state.scoring.held is None:
                return None
            data = read(self._blobs.locate(connection, job, state.scoring.held.sha256))
            return decode_scoring(state.contract), data

        try:
            return await self._journal.read(unit)
        except (BlobMissing, BlobDamaged) as error:
            log.error("lookups cannot be answered", job=job, cause=str(error))
            return None

    def _retired(self, model: str) -> bool:
        try:
            return self._models.retirement(model) is not None
        except ModelDamaged:
            return True

    # -- statistics -----------------------------------------------------------------------------------------

    def _count(self, job: str) -> None:
        self._counts[job] = self._counts.get(job, 0) + 1

    async def note_counts(self) -> None:
        """Write down how many rows were looked up since the last time; what a crash loses is a statistic."""
        counts, self._counts = self._counts, {}
        if not counts:
            return

        def unit(connection: Connection) -> None:
            for job, by in counts.items():
                jobs.count(connection, job, COUNTER, by)

        try:
            await self._journal.write(unit)
        except JournalUnavailable:
            log.debug("lookups are not counted while the journal cannot commit")


def total(told: Sequence[bytes], count: int) -> projections.Units:
    """The sum (count,) of what all providers say of a row. Raises LookupRefused for an answer of another size."""
    units = np.zeros(count, dtype=np.uint64)
    for value in told:
        if len(value) != 8 * count:
            raise LookupRefused(
                "answer_wrong", f"a provider answered with {len(value)} bytes for {count} scores: its software differs"
            )
        units += projections.from_bytes(value)
    return units


def looked(job: str, index: Index, scores: NDArray[np.float64]) -> Looked:
    """The answer that the joint scores (classes,) of a row make."""
    if not index.classes:
        return Looked(job, float(mean_response(index.task, scores)[0]), float(scores[0]))
    chances = multiclass.probabilities(scores[None, :])[0]
    each = zip(index.classes, scores.tolist(), chances.tolist(), strict=True)
    likeliest = index.classes[int(np.argmax(scores))]
    return Looked(job, likeliest, classes={name: OfClass(score, chance) for name, score, chance in each})


def _jobs_of(connection: Connection, model: str) -> list[str]:
    """Jobs of this business that answer lookups by a model, newest first."""
    where = (jobs_table.c.role == SCORING_BUSINESS, jobs_table.c.status == Status.RUNNING.value)
    rows = connection.execute(
        select(jobs_table.c.job, jobs_table.c.state).where(*where).order_by(jobs_table.c.created_at.desc())
    )
    return [row.job for row in rows if row.state and _answers(row.state, model)]


def _answers(data: bytes, model: str) -> bool:
    state = decode_state(data)
    return state.phase is Phase.SERVING and decode_scoring(state.contract).model == model
