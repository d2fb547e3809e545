"""Where a party keeps its model versions: `<data directory>/models/<job>/`, mode 0600, flushed, never written again.

They are files, not rows of the journal: they outlive `warren purge` of their job, as results do, and a worker process
reads them without the journal. A retired model keeps its version and refuses to score.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from messages.keys import NAME
from services.models.version import ModelDamaged, ModelVersion, decode_version, encode_version
from services.store.data_directory import sync_directory

MODELS: Final = "models"
KEPT_WITHIN_S: Final = 2.0
_POLL_S: Final = 0.05
_VERSION: Final = "version"
_RETIRED: Final = "retired"
_REASON_LETTERS_MAX: Final = 500


class ModelUnknown(LookupError):
    """There is no such model here."""


class ModelRetired(ValueError):
    """The model may not be used any more."""


class Retirement(msgspec.Struct, frozen=True, kw_only=True):
    """When and why a model was retired. `at`: seconds since 1970, UTC."""

    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A model version and whether it is retired."""

    version: ModelVersion
    retirement: Retirement | None


class ModelStore:
    """The model versions of one party."""

    def __init__(self, data_directory: Path) -> None:
        """Look at the store of a data directory; nothing is made before something is kept."""
        self._directory = data_directory / MODELS

    def path(self, model: str) -> Path:
        """The directory of a model. Raises ModelUnknown for what is no name."""
        if not NAME.fullmatch(model):
            raise ModelUnknown("there is no model of such a name; `warren models list` lists them")
        return self._directory / model

    def has(self, model: str) -> bool:
        """Whether there is a version of this model."""
        return (self.path(model) / _VERSION).exists()

    def await_kept(self, model: str, seconds: float = KEPT_WITHIN_S) -> None:
        """Give a version the time that its daemon needs to keep it.

        A job is done before its model is a file, and a partner may ask for scores at once.
        """
        deadline = time.monotonic() + seconds
        while not self.has(model) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def add(self, version: ModelVersion) -> bool:
        """Keep a version, durably; False, and nothing is changed, where there is one."""
        folder = self.path(version.model)
        if (folder / _VERSION).exists():
            return False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        added = _write_once(folder / _VERSION, encode_version(version))
        sync_directory(self._directory)
        return added

    def get(self, model: str) -> Kept:
        """A version, retired or not. Raises ModelUnknown, ModelDamaged."""
        folder = self.path(model)
        try:
            data = (folder / _VERSION).read_bytes()
        except FileNotFoundError:
            raise ModelUnknown(f"there is no model {model} here; `warren models list` lists them") from None
        try:
            version = decode_version(data)
        except ModelDamaged as error:
            raise ModelDamaged(f"{folder / _VERSION}: {error}") from None
        return Kept(version, self.retirement(model))

    def usable(self, model: str) -> ModelVersion:
        """A version that may score. Raises ModelUnknown, ModelRetired, ModelDamaged."""
        kept = self.get(model)
        if kept.retirement is not None:
            raise ModelRetired(f"model {model} is retired here and scores nothing any more")
        return kept.version

    def retirement(self, model: str) -> Retirement | None:
        """When and why a model was retired; None while it may be used. Raises ModelDamaged."""
        path = self.path(model) / _RETIRED
        try:
            return msgspec.json.decode(path.read_bytes(), type=Retirement)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            raise ModelDamaged(f"{path}: cannot be read; the model stays retired") from None

    def retire(self, model: str, reason: str, now: float | None = None) -> Retirement:
        """Refuse all further scoring with a model, for good; a second time changes nothing. Raises ModelUnknown."""
        if not self.has(model):
            raise ModelUnknown(f"there is no model {model} here; `warren models list` lists them")
        retirement = Retirement(at=time.time() if now is None else now, reason=reason[:_REASON_LETTERS_MAX])
        _write_once(self.path(model) / _RETIRED, msgspec.json.encode(retirement))
        found = self.retirement(model)
        assert found is not None
        return found

    def all(self) -> list[Kept]:
        """All versions, oldest first. Raises ModelDamaged."""
        if not self._directory.exists():
            return []
        names = sorted(path.parent.name for path in self._directory.glob(f"*/{_VERSION}"))
        found = [self.get(name) for name in names]
        return sorted(found, key=lambda kept: (kept.version.created_at, kept.version.model))


def link_versions(data_directory: Path, into: Path) -> None:
    """Make a party's model versions readable in another directory, without their retirements."""
    for path in (data_directory / MODELS).glob(f"*/{_VERSION}"):
        folder = into / MODELS / path.parent.name
        folder.mkdir(parents=True)
        (folder / _VERSION).symlink_to(path.resolve())


def _write_once(path: Path, data: bytes) -> bool:
    """Write a file that is there whole or not at all, durably; False where there is one already."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # unlike a rename, it never replaces
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    sync_directory(path.parent)
    return True
