"""Passwords from files: `name=FILE`."""

from pathlib import Path

from services.party.configuration import ConfigError


def read_password(entry: str, option: str) -> tuple[str, str]:
    """(name, password) of `name=FILE`. Raises ConfigError."""
    name, _, file = entry.partition("=")
    if not name or not file:
        raise ConfigError(f"{option} {entry}: not NAME=FILE")
    try:
        found = Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"{option} {entry}: {file} cannot be read: {(error.strerror or 'unknown error').lower()}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{option} {entry}: {file} is not text in UTF-8") from None
    if not found:
        raise ConfigError(f"{option} {entry}: the file is empty")
    return name, found
