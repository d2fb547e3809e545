"""`BusinessClient`: what a notebook of the business asks of its running daemon."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from learning.columns.preparation import Step
from services.cli.progress import ProgressView
from services.client.frames import polars_frame, written
from services.client.results import Scores, TrainedModel, read_model, read_scores
from services.daemon.control import ControlClient
from services.daemon.waiting import wait_for
from services.party.configuration import load_party

Interrupt = Literal["cancel", "detach"]
Watch = Callable[[dict[str, Any]], None]
Progress = bool | Watch
Preparations = Mapping[str, Sequence[Step | Mapping[str, Any]]]

FRAME: Final = "frame"
"""The data set's name in the contract of a job whose rows came as a frame."""


class JobEnded(Exception):
    """A job did not end well; `code` is its reason code, `outcome` failed, declined, cancelled or expired."""

    def __init__(self, job: str, outcome: str, code: str, reason: str) -> None:
        super().__init__(f"job {job}: {outcome} ({code}): {reason}")
        self.job = job
        self.outcome = outcome
        self.code = code


class Detached(KeyboardInterrupt):
    """The notebook stopped waiting; the job goes on. `client.attach(error.job)` waits again."""

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job} goes on; `client.attach({job!r}).wait()` waits for it again")
        self.job = job


class Training:
    """A job that was submitted."""

    def __init__(self, client: "BusinessClient", job: str) -> None:
        self.client = client
        self.job = job

    def __repr__(self) -> str:
        return f"Training({self.job!r})"

    def status(self) -> dict[str, Any]:
        """Where it stands, as `warren job` shows it."""
        found: dict[str, Any] = self.client.ask("job", id=self.job)
        return found

    def cancel(self, reason: str = "") -> None:
        """End it, at both parties."""
        self.client.ask("cancel", id=self.job, reason=reason)

    def wait(self, *, progress: Progress = True, on_interrupt: Interrupt = "cancel") -> TrainedModel:
        """Wait for the end.

        A KeyboardInterrupt (Ctrl-C, the stop button) cancels the job and is raised again, or with "detach" leaves the
        job to itself: then it is a `Detached`, which names the job.

        Raises JobEnded when it does not end well, ControlUnreachable when the daemon goes away.
        """
        view = self.client.await_end(self.job, progress=progress, on_interrupt=on_interrupt)
        return read_model(view, self.client.data_directory)


class BusinessClient:
    """Trains and scores through the running daemon of a business: its own jobs, policies, journal and caps.

    Nothing is connected between calls, so a client may be kept, copied and used from several threads.
    """

    def __init__(self, party: str | Path = "party.toml", *, provider: str | Sequence[str] = "") -> None:
        """`party`: party.toml, or the daemon's data directory. `provider`: the partners of jobs that name none.

        Raises ConfigError.
        """
        place = Path(party)
        self.data_directory = place.resolve() if place.is_dir() else load_party(place).data_directory
        self.provider = provider

    def __repr__(self) -> str:
        return f"BusinessClient({str(self.data_directory)!r})"

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The daemon's answer to a verb of its console. Raises ControlError, ControlUnreachable."""
        with ControlClient(self.data_directory) as console:
            return console.ask(verb, **arguments)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first."""
        found: list[dict[str, Any]] = self.ask("jobs")
        return found

    def attach(self, job: str) -> Training:
        """A training job that was submitted before."""
        return Training(self, job)

    def fit(
        self,
        frame: Any = None,
        *,
        progress: Progress = True,
        on_interrupt: Interrupt = "cancel",
        **asked: Any,
    ) -> TrainedModel:
        """Train, and wait for the model: `submit(...)` has the arguments, `Training.wait` the errors."""
        return self.submit(frame, **asked).wait(progress=progress, on_interrupt=on_interrupt)

    def submit(
        self,
        frame: Any = None,
        *,
        dataset: str = "",
        identifier: str = "id",
        label: str = "",
        columns: Sequence[str] = (),
        preparation: Preparations | None = None,
        provider: str | Sequence[str] = "",
        task: str = "logistic",
        **job: Any,
    ) -> Training:
        """Start a training job on the rows of a frame, or on a `dataset` of party.toml.

        Args:
            frame: polars or pandas, with the columns `identifier` and `label`.
            dataset: instead of a frame; it has its own identifier, columns and preparation.
            identifier, label: names of these columns.
            columns: the feature columns; empty takes all others.
            preparation: steps by column, as in party.toml (docs/preparation.md).
            provider: "provider/data set", or several in the order of the chain.
            task: as in job.toml.
            job: any other key of job.toml: l2, max_iterations, tolerance, marks, weight, validation, ...

        Raises:
            ControlError: the daemon refuses the job; the text says why and what to do.
            ControlUnreachable: no daemon runs.
            FrameError: the frame cannot be used.

        """
        if (frame is None) == (not dataset):
            raise ValueError("give a frame, or the name of a data set of party.toml")
        partner = provider or self.provider
        named = {"partner": partner} if isinstance(partner, str) else {"partners": list(partner)}
        fields = {"task": task, "label": label, **named, **job}
        if frame is None:
            if columns or preparation:
                raise ValueError(f"columns and preparation of the data set {dataset} are in party.toml")
            return Training(self, self.ask("submit", job={**fields, "dataset": dataset})["job"])
        with written(polars_frame(frame, identifier), self.data_directory) as path:
            # The daemon has taken a snapshot by the time it answers.
            table = {
                "name": FRAME,
                "source": str(path),
                "id": identifier,
                "label": label,
                "columns": list(columns),
                "preparation": {
                    column: msgspec.to_builtins(list(steps)) for column, steps in (preparation or {}).items()
                },
            }
            return Training(self, self.ask("submit", job={**fields, "dataset": FRAME}, table=table)["job"])

    def predict(
        self,
        model: TrainedModel | str,
        frame: Any = None,
        *,
        identifier: str = "id",
        purpose: str = "",
        provider_dataset: str = "",
        progress: Progress = True,
        on_interrupt: Interrupt = "cancel",
    ) -> Scores:
        """Score the rows of a frame, or without one of the data set of party.toml that the model was trained on.

        Every call is a scoring job: it is aligned by identifiers, and its rows count against the partner's quota.

        Raises JobEnded, ControlError, ControlUnreachable, FrameError.
        """
        wanted = {
            "model": model if isinstance(model, str) else model.model,
            "purpose": purpose,
            "provider_dataset": provider_dataset,
        }
        if frame is None:
            job = self.ask("predict", **wanted)["job"]
        else:
            with written(polars_frame(frame, identifier), self.data_directory) as path:
                job = self.ask("predict", business=str(path), identifier=identifier, **wanted)["job"]
        return read_scores(self.await_end(job, progress=progress, on_interrupt=on_interrupt))

    def await_end(self, job: str, *, progress: Progress = True, on_interrupt: Interrupt = "cancel") -> dict[str, Any]:
        """Wait until a job has ended well; its last view. For errors and interrupts see `Training.wait`."""
        try:
            with _shown(progress) as watch, ControlClient(self.data_directory) as console:
                view = wait_for(console, job, watch)
        except KeyboardInterrupt:
            if on_interrupt == "detach":
                raise Detached(job) from None
            # On a new connection: on the other one an answer may be outstanding.
            self.ask("cancel", id=job, reason="interrupted")
            raise
        if view["outcome"] != "done":
            raise JobEnded(job, view["outcome"] or view["status"], view["reason_code"], view["reason"])
        return view


def _shown(progress: Progress) -> AbstractContextManager[Watch | None]:
    """What is called with every view of the job: as on the command line, the caller's own, or nothing."""
    if isinstance(progress, bool):
        return ProgressView() if progress else nullcontext()
    return nullcontext(progress)
