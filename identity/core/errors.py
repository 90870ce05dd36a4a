"""The six ways in which an act can fail; every door has one table from these to its wire form."""

from __future__ import annotations


class TesseraError(Exception):
    """Base of all expected failures.

    `public` may be shown to whoever asked; `detail` is for the log and the audit only; `code` is a stable
    snake_case reason.
    """

    def __init__(self, public: str, detail: str = "", *, code: str = "") -> None:
        super().__init__(detail or public)
        self.public = public
        self.detail = detail
        self.code = code or type(self).__name__.lower()


class Invalid(TesseraError):
    """The input does not have the shape or the meaning that is asked for."""


class NotFound(TesseraError):
    """No such thing, or none that the asker may know of."""


class Conflict(TesseraError):
    """Valid by itself, but against what is already there (a duplicate, a cycle, a separated duty)."""


class Refused(TesseraError):
    """The asker may not do this."""


class Stale(TesseraError):
    """Somebody else changed the object since the asker read it."""


class Unavailable(TesseraError):
    """Cannot be done or decided now; asking again later may help. Never an answer."""

    def __init__(self, public: str, detail: str = "", *, code: str = "", retry_after_s: int = 1) -> None:
        super().__init__(public, detail, code=code)
        self.retry_after_s = retry_after_s
