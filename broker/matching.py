"""Topic matching by the rules of AMQP 0-9-1, section 3.1.3.3 ("The Topic Exchange Type").

Words are separated by dots; `*` stands for one word, `#` for none or more. Own code because the in-memory
brokers at hand get `#` wrong (`a.#` must match `a`, and `#.b` must match `a.b.b`).
"""


def matches(pattern: str, routing_key: str) -> bool:
    """Whether a binding with `pattern` takes a message with `routing_key`."""
    return _words_match(_words(pattern), _words(routing_key))


def _words(text: str) -> list[str]:
    """RabbitMQ counts no word in the empty key, where `split` would count one empty word."""
    return text.split(".") if text else []


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return _words_match(pattern[1:], words) or (bool(words) and _words_match(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])
