"""Text that this program did not write, made safe to print: a partner's reason, a column's name, a file's path."""

from rich.text import Text


def plain(value: object) -> Text:
    """The text as it stands: no markup is read from it, and what does not print is shown as an escape.

    A reason comes from the partner and a routing key from the broker: neither may colour, link, move the
    cursor of, or end the operator's terminal session.
    """
    return Text("".join(one if one.isprintable() else _escaped(one) for one in str(value)))


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
