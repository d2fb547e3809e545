"""What can go wrong with a journal as a whole."""


class JournalError(Exception):
    """Base of the journal's errors: `JournalUnavailable`, `JournalClosed`, `JournalForeign`."""


class JournalUnavailable(JournalError):
    """Nothing could be committed (disk full, database away). Nothing happened: try the unit again later."""


class JournalClosed(JournalError):
    """The journal is closed, or was ended by a fault."""


class JournalForeign(JournalError):
    """The database belongs to another party or another schema."""
