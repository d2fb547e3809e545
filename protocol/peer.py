"""One partner in a job, and all that is between it and this party: a part of the state of a job."""

import msgspec

from protocol.effects import BlobRef


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the parts of a state."""


class SendQueue(Record, frozen=True, kw_only=True):
    """Chunks of one stream that are computed (`ready`, None once gone) and the number that has left."""

    ready: tuple[BlobRef | None, ...] = ()
    sent: int = 0


class PairAlignment(Record, frozen=True, kw_only=True):
    """Private set intersection with one partner, from masking to the tokens of both lists.

    With several providers a provider's lists of tokens stay at the business, and `places` are the rows of all
    parties that it sends instead: at the business what is to be sent, at the provider what has come.
    """

    masked: tuple[BlobRef | None, ...] = ()
    sorted_list: BlobRef | None = None
    order: BlobRef | None = None
    commitment: bytes = b""
    partner_count: int = -1
    partner_chunks: int = 0
    partner_commitment: bytes = b""
    lists_made: int = 0
    lists: SendQueue = SendQueue()
    lists_waiting: tuple[BlobRef, ...] = ()
    lists_received: int = 0
    echoing: BlobRef | None = None
    last_point: bytes = b""
    points: tuple[BlobRef, ...] = ()
    partner_tokens: tuple[BlobRef, ...] = ()
    echoes_received: int = 0
    echoes_opening: tuple[BlobRef | None, ...] = ()
    own_tokens: tuple[BlobRef | None, ...] = ()
    places: BlobRef | None = None
    places_made: int = 0
    places_queue: SendQueue = SendQueue()
    places_received: int = 0
    places_chunks: int = 0
    places_opening: tuple[BlobRef | None, ...] = ()
    places_opened: tuple[BlobRef | None, ...] = ()
    digest: bytes = b""
    result: tuple[int, bytes, int] | None = None


class PeerFeatures(Record, frozen=True, kw_only=True):
    """Keys of a partner, and the encrypted features of each side at the other, where it holds shares."""

    codes: bytes = b""
    modulus: bytes = b""
    verified: bool = False
    mask_key: bytes = b""
    chunks_made: int = 0
    chunks_computed: int = 0
    queue: SendQueue = SendQueue()
    received: int = 0
    waiting: tuple[BlobRef, ...] = ()
    opening: tuple[BlobRef | None, ...] = ()
    encrypted: tuple[BlobRef | None, ...] = ()


class PeerRound(Record, frozen=True, kw_only=True):
    """What one partner and this party say to each other in one iteration.

    `cross_product` grows into the cross term for the partner, `cross_term` is the one that came from it. `products`
    is its row of the Gram matrix, `masked` the same where there are several providers.
    """

    bound: float = 0.0
    spread: float = 0.0
    range_received: bool = False
    cross_product: bytes = b""
    closed: bool = False
    cross_term: bytes = b""
    products: tuple[float, ...] | None = None
    masked: tuple[bytes, ...] | None = None
    largest: float = 0.0


class PeerScores(Record, frozen=True, kw_only=True):
    """A provider's partial scores at the business. `partials`: opened; `ready`: it answers for single rows."""

    received: int = 0
    opening: tuple[BlobRef | None, ...] = ()
    partials: tuple[BlobRef | None, ...] = ()
    ready: bool = False


class Peer(Record, frozen=True, kw_only=True):
    """One partner in a job: another party, and everything that is between it and this one.

    `pending`: it has said that its steward is being asked. `said`: what its `job.done` said of the loop. `seed`: of the
    rows' division, where there are several providers.
    """

    name: str
    pending: bool = False
    accepted: bool = False
    rows: int = 0
    columns: int = 0
    align: PairAlignment = PairAlignment()
    features: PeerFeatures = PeerFeatures()
    round: PeerRound = PeerRound()
    early_range: tuple[float, float] | None = None
    early_row: tuple[tuple[bytes, ...], float] | None = None
    said: tuple[int, bool, bytes] | None = None
    constant: float = 0.0
    constants: tuple[float, ...] = ()
    intercept_part: bytes = b""
    part: bytes = b""
    seed: bytes = b""
    scores: PeerScores = PeerScores()
