"""The broker's URL of a party, with its files found from where party.toml lies."""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

FILES: Final = ("cafile", "certfile", "keyfile")


def with_files_from(directory: Path, url: str) -> str:
    """`url` with relative names of certificates and keys made absolute. Raises ValueError for what is no URL."""
    parts = urlsplit(url)
    if not parts.query:
        return url
    named = parse_qsl(parts.query, keep_blank_values=True)
    query = [(name, str(directory / value) if name in FILES and value else value) for name, value in named]
    return urlunsplit(parts._replace(query=urlencode(query)))
