"""The control socket's verb behind `warren policy reload`.

What is decided from then on is decided by the new policy: proposals, quotas over jobs, pace and quiet hours. A job that
was agreed to goes on under its contract. Of it the policy is asked once more, when the common rows are known
(`intersection_min` and the quotas): the policy of that moment answers, as after a restart.
"""

import asyncio
from typing import Any

import structlog

from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon
from services.party.configuration import ConfigError, Party, read_policy_file

log = structlog.get_logger("policy")


class PolicyVerbs:
    """The verbs of one daemon about its policy."""

    def __init__(self, party: Party, daemon: Daemon) -> None:
        self._party = party
        self._daemon = daemon

    def table(self) -> dict[str, Verb]:
        """Verb names and what answers them."""
        return {"policy-reload": self.reload}

    async def reload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read the policy file again. One that cannot be used changes nothing."""
        del request
        if not self._party.file.policy:
            raise ControlError("bad_input", "party.toml names no policy file: there is nothing to read again")
        path = self._party.directory / self._party.file.policy
        try:
            policy = await asyncio.to_thread(read_policy_file, path)
        except ConfigError as error:
            raise ControlError("bad_input", f"{error}; the former policy stays in force") from None
        changes = changed("", self._daemon.settings["policy"], policy)
        self._daemon.renew({**self._daemon.settings, "policy": policy})
        log.info("policy read again", changes=changes)
        return {"file": str(path), "changes": changes}


def changed(prefix: str, former: dict[str, Any], policy: dict[str, Any]) -> list[str]:
    """What differs between two tables, a line for each key."""
    lines = []
    for key in sorted(former.keys() | policy.keys()):
        old, new = former.get(key), policy.get(key)
        if isinstance(old, dict) or isinstance(new, dict):
            lines += changed(f"{prefix}{key}.", old or {}, new or {})
        elif old != new:
            lines.append(f"{prefix}{key}: {_shown(old)} -> {_shown(new)}")
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)
