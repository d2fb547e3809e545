"""Which hosts are this machine, that is, may be reached without TLS."""


def is_this_machine(host: str) -> bool:
    """Whether `host`, of a URL, is a loopback name or address."""
    return host in ("localhost", "::1") or host.startswith("127.")
