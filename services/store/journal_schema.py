"""Tables of the journal. SQLite by default, PostgreSQL by URL: nothing here is special to either.

Times are seconds since 1970, UTC. `events` is append-only; everything else is bookkeeping that could be made
again from it and the blob store, but for `parked` and `counters`, which are for people.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION: Final = 3
"""2: jobs with several partners (`lines`). 3: at PostgreSQL, what is counted for ever has 64 bits."""

LARGE: Final = BigInteger().with_variant(Integer, "sqlite")
"""For numbers that grow as long as a party lives. SQLite's have 64 bits anyway."""

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("value", String(200), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("role", String(40), nullable=False),
    Column("partner", String(40), nullable=False, index=True),
    Column("status", String(10), nullable=False, index=True),
    Column("outcome", String(20), nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("results", LargeBinary, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("state_tag", String(40), nullable=False),
    Column("logic_version", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)
"""One row a job. `partner`: the first one, who proposed the job or to whom it was submitted."""

lines = Table(
    "lines",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("partner", String(40), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("applied", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("receipted", Integer, nullable=False),
    Column("bulk_received", Integer, nullable=False),
    Column("bulk_consumed", Integer, nullable=False),
    Column("bulk_sent", Integer, nullable=False),
    Column("credit", Integer, nullable=False),
    Column("unreceipted_bytes", Integer, nullable=False),
    Column("late", Integer, nullable=False),
)
"""One row a job and partner, `place` being the partner's in the contract, from 0 on. `applied`, `bulk_received`,
`bulk_consumed`, `late` count the partner's messages; `sent`, `receipted`, `bulk_sent`, `credit` our own."""

events = Table(
    "events",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(10), nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("event", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)
"""The hash chains: see `services.store.chain`. `event` is private and may be empty."""

contracts = Table(
    "contracts",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("contract", LargeBinary, nullable=False),
    Column("retention", String(20), nullable=False),
    Column("purged_at", Float, nullable=False),
)
"""The contract of every job and what is kept of it. `purged_at` is 0 until `warren purge`."""

purged = Table(
    "purged",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
)
"""Salted digests of events that were purged: the chain is still computed with them."""

inbox = Table(
    "inbox",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("sender", String(40), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
)
"""What was applied or held back. The primary key is the deduplication."""

held = Table(
    "held",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("sender", String(40), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("bulk", Boolean, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
)
"""Messages ahead of their turn. Bulk bodies are in the blob store."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", LARGE, primary_key=True, autoincrement=True),
    Column("job", String(40), nullable=False),
    Column("recipient", String(40), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("bulk", Boolean, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("chunk", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index("outbox_order", "job", "recipient", "sequence"),
)
"""Messages without a receipt. Sequence 0: bulk that waits for credit, in the order of `id`."""

tasks = Table(
    "tasks",
    metadata,
    Column("id", LARGE, primary_key=True, autoincrement=True),
    Column("job", String(40), nullable=False),
    Column("task", String(200), nullable=False),
    Column("function", String(100), nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("sends_bulk", Boolean, nullable=False),
    Column("partner", String(40), nullable=False),
    Column("started", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Index("tasks_name", "job", "task", unique=True),
)
"""Compute tasks without a result."""

blobs = Table(
    "blobs",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("segment", String(200), nullable=False, index=True),
    Column("offset", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("refs", Integer, nullable=False),
)
"""Where a blob lies in the segment files, and how often it is referred to."""

progress = Table(
    "progress",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("stage", String(40), nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("waits_for", String(400), nullable=False),
    Column("since", Float, nullable=False),
)
"""For people: where a job stands and, if it waits, for whom and since when."""

partners = Table(
    "partners",
    metadata,
    Column("partner", String(40), primary_key=True),
    Column("heard_at", Float, nullable=False),
)
"""For people: when the last verified message of a partner was committed."""

counters = Table(
    "counters",
    metadata,
    Column("job", String(40), primary_key=True),
    Column("name", String(60), primary_key=True),
    Column("value", LARGE, nullable=False),
)
"""Statistics. Job `""` is the daemon."""

parked = Table(
    "parked",
    metadata,
    Column("id", LARGE, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("sender", String(40), nullable=False, index=True),
    Column("claimed", String(40), nullable=False),
    Column("code", String(64), nullable=False),
    Column("routing_key", String(300), nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("excerpt", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
)
"""What could not be applied. `sender` is empty unless its signature was verified."""

parked_counts = Table(
    "parked_counts",
    metadata,
    Column("sender", String(40), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("count", LARGE, nullable=False),
)
"""How often each reason came up, rows that were not kept included."""
