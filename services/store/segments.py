"""Reading blobs out of segment files: all that a worker process needs of the blob store."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


class BlobError(Exception):
    """Base of the store's errors: `BlobMissing`, `BlobDamaged`."""


class BlobMissing(BlobError):
    """The job has no such blob."""


class BlobDamaged(BlobError):
    """The bytes on disk are not those that were stored: names the file, never the content."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a blob lies. `path` is absolute, so that a worker process can read it by itself."""

    path: str
    offset: int
    size: int
    sha256: bytes


def read(location: Location) -> bytes:
    """The bytes of a blob, checked against its name; from any thread or process.

    Raises:
        BlobDamaged: the file is missing, too short, or holds something else.

    """
    try:
        with Path(location.path).open("rb") as file:
            # Not more than there is: a size that nobody wrote would be memory that nobody has.
            if not 0 <= location.offset <= location.offset + location.size <= os.fstat(file.fileno()).st_size:
                raise BlobDamaged(f"segment {location.path} is damaged at byte {location.offset}")
            data = os.pread(file.fileno(), location.size, location.offset)
            while len(data) < location.size:
                more = os.pread(file.fileno(), location.size - len(data), location.offset + len(data))
                if not more:
                    break
                data += more
    except FileNotFoundError:
        raise BlobDamaged(f"segment {location.path} is missing") from None
    if len(data) != location.size or hashlib.sha256(data).digest() != location.sha256:
        raise BlobDamaged(f"segment {location.path} is damaged at byte {location.offset}")
    return data
