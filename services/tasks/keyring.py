"""A job's Paillier keys and tables inside a worker process: made once, kept in the context's cache."""

import hashlib
from typing import Any

from learning.links.family import family_of
from paillier import choice, keys
from paillier.backend import Backend, Guest, Owner
from paillier.budget import BitBudget, bit_budget
from paillier.randomness import Randomness, RandomStream
from services.tasks.compute import TaskContext

Facts = dict[str, Any]


def stream(context: TaskContext, purpose: str, *parts: int | str | bytes) -> RandomStream:
    """The job's randomness for one purpose (protocol.md section 7): same inputs, same bytes; others, others."""
    return Randomness(context.job_secret).stream(purpose, context.logic_version, context.job, *parts)


def digest_of(inputs: tuple[bytes, ...]) -> bytes:
    """SHA-256 over the SHA-256 of every input of a task."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in inputs)).digest()


def noise_stream(context: TaskContext, facts: Facts, iteration: int, inputs: bytes) -> RandomStream:
    """The randomness of the release noise.

    In a job marked `reproducible` it comes from the seed that this party configured instead of the job
    secret, so that two runs with other identities, and so other row orders, can be compared byte by byte.
    """
    if facts["reproducible"]:
        seed = hashlib.sha256(b"warren noise seed\x00" + str(context.settings["noise_seed"]).encode()).digest()
        return Randomness(seed).stream("release-noise", facts["role"], iteration, *about(facts))
    return stream(context, "release-noise", iteration, inputs, *about(facts))


def about(facts: Facts) -> tuple[str, ...]:
    """The partner that a task concerns, for its randomness: where there is one only, it goes without saying."""
    return (facts["partner"],) if facts["partner"] else ()


def budget_of(facts: Facts) -> BitBudget:
    """Every width of the job."""
    family = family_of(facts)
    return bit_budget(
        facts["rows"],
        facts["key_bits"],
        family.residual_bound,
        providers=facts["providers"],
        value_bits=family.value_bits,
    )


def private_key(context: TaskContext, bits: int, *, insecure: bool) -> keys.PrivateKey:
    """This party's Paillier key of the job, expanded from the job secret: stored nowhere else."""
    name = "paillier key"
    if name not in context.cache:
        fresh = stream(context, "paillier-key", bits)
        context.cache[name] = keys.generate(bits, fresh, insecure=insecure)
    key: keys.PrivateKey = context.cache[name]
    return key


def _back_end(context: TaskContext) -> Backend:
    return choice.select(threads=int(context.settings.get("threads", 1)))


def owner(context: TaskContext, facts: Facts) -> Owner:
    """Encryption and decryption under the own key."""
    if "owner" not in context.cache:
        private = private_key(context, facts["key_bits"], insecure=facts["insecure"])
        context.cache["owner"] = _back_end(context).owner(private, stream(context, "owner-table"))
    found: Owner = context.cache["owner"]
    return found


def guest(context: TaskContext, facts: Facts) -> Guest:
    """Operations on the ciphertexts of the partner whose modulus the facts hold."""
    modulus: bytes = facts["partner_modulus"]
    name = f"guest {modulus.hex()}"
    if name not in context.cache:
        public = keys.PublicKey(int.from_bytes(modulus, "little"))
        context.cache[name] = _back_end(context).guest(public, stream(context, "guest-table", modulus))
    found: Guest = context.cache[name]
    return found
