"""Topic matching against a regular expression, and against RabbitMQ itself."""

import asyncio
import re

import aio_pika
from hypothesis import given
from hypothesis import strategies as st

from broker.matching import matches
from tests.broker.stories import TIME_LIMIT_S
from tests.rabbitmq import running_broker

# Few words, so that patterns and keys meet; the empty word too, which a key may hold between two dots.
words = st.sampled_from(["a", "b", "from", ""])
keys = st.lists(words, max_size=6).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#", "#"]), max_size=6).map(".".join)


def says_the_specification(pattern: str, key: str) -> bool:
    """AMQP 0-9-1, 3.1.3.3, by way of a regular expression over words that each end in a dot."""
    parts = {"*": r"[^.]*\.", "#": r"([^.]*\.)*"}
    expression = "".join(parts.get(word, re.escape(word) + r"\.") for word in pattern.split(".")) if pattern else ""
    return re.fullmatch(expression, f"{key}." if key else "") is not None


@given(patterns, keys)
def test_matching_follows_the_specification(pattern: str, key: str) -> None:
    assert matches(pattern, key) == says_the_specification(pattern, key)


@given(keys)
def test_the_lone_hash_takes_every_key_and_a_key_takes_itself(key: str) -> None:
    assert matches("#", key)
    assert matches(key, key)


PATTERNS = [
    *(
        "",
        "#",
        "*",
        "a",
        "a.#",
        "#.a",
        "#.b",
        "a.*",
        "*.a",
        "*.*",
        "#.#",
        "#.*",
        "*.#",
        "a.#.b",
        "a.*.b",
        "#.a.#",
    ),
    *("a.b", "a.b.#", "*.b.*", "#.b.#.c", "a..b", "a.*.#", "#.*.#", "from.a.to.b.control.#", "from.*.to.b.#"),
]
KEYS = [
    *(
        "",
        "a",
        "b",
        "a.a",
        "a.b",
        "b.a",
        "a.b.b",
        "a.b.c",
        "b.b.c",
        "a.c.b",
        "a..b",
        ".",
        "a.",
        ".a",
        "a.b.a.b",
    ),
    *(
        "from.a.to.b.control.j.k",
        "from.a.to.b.control",
        "from.a.to.b.bulk.j.k",
        "from.c.to.b.control.j.link.terms",
    ),
]


def test_matching_agrees_with_a_real_rabbitmq() -> None:
    async def bindings_that_took(key_by_key: list[str]) -> dict[str, set[str]]:
        connection = await aio_pika.connect(running_broker().admin_amqp_url)
        async with connection, connection.channel() as channel:
            exchange = await channel.declare_exchange("matching", aio_pika.ExchangeType.TOPIC, auto_delete=True)
            queues = {}
            for pattern in PATTERNS:
                queues[pattern] = await channel.declare_queue(exclusive=True)
                await queues[pattern].bind(exchange, pattern)
            for key in key_by_key:
                await exchange.publish(aio_pika.Message(key.encode()), key, mandatory=False)
            took = {}
            for pattern, queue in queues.items():
                took[pattern] = set()
                while message := await queue.get(no_ack=True, fail=False):
                    took[pattern].add(message.body.decode())
            return took

    took = asyncio.run(asyncio.wait_for(bindings_that_took(KEYS), TIME_LIMIT_S))
    assert took == {pattern: {key for key in KEYS if matches(pattern, key)} for pattern in PATTERNS}
