"""Routing keys: what is written is read, and nothing else is an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.codec import MESSAGES, kind_of
from messages.keys import (
    AddressError,
    Traffic,
    check_kind,
    check_name,
    from_mqtt,
    parse_routing_key,
    routing_key,
    status_key,
    to_mqtt,
    traffic_of,
)
from messages.schemas import BULK

NAMES = st.from_regex(r"\A[a-z0-9-]{1,40}\Z")
KINDS = st.sampled_from([kind_of(kind) for kind in MESSAGES])
LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789-")


@given(NAMES, NAMES, NAMES, KINDS)
def test_routing_keys_survive_parsing_and_mqtt(sender: str, recipient: str, job: str, kind: str) -> None:
    key = routing_key(sender, recipient, kind, job)
    traffic = Traffic.BULK if kind in BULK else Traffic.CONTROL
    assert key == f"from.{sender}.to.{recipient}.{traffic.value}.{job}.{kind}"
    assert parse_routing_key(key) == (sender, recipient, traffic, job, kind)
    assert traffic_of(kind) is parse_routing_key(key).traffic
    topic = to_mqtt(key)
    assert not set(topic) & set(".+#*")
    assert topic.split("/")[:4] == ["from", sender, "to", recipient]
    assert from_mqtt(topic) == key


@given(st.text(max_size=60))
def test_a_text_becomes_an_address_exactly_when_it_is_a_name(text: str) -> None:
    if set(text) <= LETTERS and 1 <= len(text) <= 40:
        assert check_name(text) == text
        assert routing_key(text, "b", "receipt", "j")
        return
    for build in (
        lambda: routing_key(text, "b", "receipt", "j"),
        lambda: routing_key("a", text, "receipt", "j"),
        lambda: routing_key("a", "b", "receipt", text),
        lambda: status_key(text, "j"),
        lambda: status_key("a", text),
    ):
        with pytest.raises(AddressError):
            build()


@given(st.text(max_size=120) | st.lists(st.sampled_from(["from", "to", "a", "control", "", "#", "*"])).map(".".join))
def test_any_text_is_refused_or_is_the_key_of_its_parts(text: str) -> None:
    try:
        parsed = parse_routing_key(text)
    except AddressError:
        return
    assert routing_key(parsed.sender, parsed.recipient, parsed.kind, parsed.job) == text


@pytest.mark.parametrize("kind", ["", ".", "a.", ".a", "a..b", "#", "a.*", "a b", "A", "a\n", "é", "a1", "a" * 41])
def test_what_is_no_kind_cannot_become_an_address(kind: str) -> None:
    with pytest.raises(AddressError):
        check_kind(kind)
    with pytest.raises(AddressError):
        routing_key("a", "b", kind, "j")
    with pytest.raises(AddressError):
        parse_routing_key(f"from.a.to.b.control.j.{kind}")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "from.a.to.b.control.j",
        "from.a.to.b.bulk.j.receipt",  # control must not travel where credit is needed
        "from.a.to.b.control.j.link.terms",
        "from.a.to.b.other.j.receipt",
        "from.a.by.b.control.j.receipt",
        "status.a.j",
        "from.a.to.b.control.j\n.receipt",
        "from.a.to.b.control.j.receipt\n",
        "from.a.to.b.control.#.receipt",
        "from.A.to.b.control.j.receipt",
        "from.a.to.b.control.j." + "a." * 2000 + "a",
    ],
)
def test_what_is_no_routing_key_is_refused_in_few_words(key: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_routing_key(key)
    assert len(str(caught.value)) < 400


def test_the_longest_key_fits_the_broker() -> None:
    # AMQP 0-9-1, section 4.2.5.3: short strings have up to 255 octets.
    longest = routing_key("a" * 40, "b" * 40, "k" * 40, "j" * 40)
    assert len(longest.encode()) <= 255
    assert parse_routing_key(longest).job == "j" * 40


@pytest.mark.parametrize("text", ["a.#", "a.*", "a.+", "a/b", "a+b"])
def test_wildcards_are_no_addresses(text: str) -> None:
    with pytest.raises(AddressError):
        to_mqtt(text)
    with pytest.raises(AddressError):
        from_mqtt(text.replace("/", "."))


def test_a_status_has_a_key_of_its_own() -> None:
    assert status_key("business-a", "job-1") == "status.business-a.job-1"
    with pytest.raises(AddressError):
        parse_routing_key(status_key("business-a", "job-1"))
