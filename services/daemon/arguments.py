"""Arguments of a control request: what has the wrong type or size is refused by name, before a verb sees it."""

from collections.abc import Mapping
from typing import Any, Final

from messages.keys import NAME
from services.daemon.control import ControlError

TEXT_LETTERS_MAX: Final = 2_000


def text_of(request: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text argument; without `default` it is needed. Raises ControlError `bad_request`."""
    value = request.get(name, default)
    if not isinstance(value, str) or len(value) > TEXT_LETTERS_MAX:
        raise ControlError("bad_request", f"argument {name}: a text of {TEXT_LETTERS_MAX} letters at most is needed")
    # A command line that is no UTF-8 comes in lone surrogates, which no journal and no message can hold.
    return value.encode("utf-8", "replace").decode("utf-8")


def job_of(request: Mapping[str, Any]) -> str:
    """The argument `id`: the identifier of a job. Raises ControlError `bad_request` or `unknown_job`."""
    value = text_of(request, "id")
    if not NAME.fullmatch(value):
        raise ControlError("unknown_job", "there is no job of such a name; `warren jobs` lists them")
    return value


def number_of(request: Mapping[str, Any], name: str, default: float, *, least: float, most: float) -> float:
    """A number between two bounds. Raises ControlError `bad_request`."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ControlError("bad_request", f"argument {name}: a number from {least:g} to {most:g} is needed")
    return value
