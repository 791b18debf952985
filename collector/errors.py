"""Every error this project raises, grouped by what the caller does next.

CollectorError
  UsageError                wrong command line or configuration: exit 2
    ConfigError             carries one line per mistake
    OwnedElsewhere          another process holds the journal or the store
  ApiError                  an answer that is not the data asked for
    TransientError          try again later: 500, 503, timeouts, broken connections
      ThrottledError        too fast: slow down, wait `retry_after_seconds`
      ClockError            what time it is is in doubt, so nothing can be taken for complete
      InvalidAnswerError    the body is not what the operation answers (HTML, cut off, not UTF-8 ...)
    AnswerTooLargeError     ask for less: a shorter range, a smaller page
    CredentialsError        the key is refused (401): stop the account, exit 3
    ForbiddenError          this scope is refused (403): stop the scope
    NotFoundError           this scope does not exist (404): stop the scope
    BadRequestError         never repeated: 400
      CursorError           a cursor that the service no longer takes
  CursorLoopError           the service returned a cursor it had returned before
  BudgetReached             the call would pass the month's cap: exit 4
    FreeCallsUsedUp         the service says that the free calls are used up; also an ApiError
  Stopping                  the service is ending: nothing is sent any more
  JournalError
    JournalCorrupt          set aside with its path
    JournalTooNew           written by a newer version: exit 2
    JournalForeign          a database of another program, left alone: exit 2
    JournalUnavailable      takes nothing at present: locked, unreadable, read-only; the same work may be tried again
      JournalFull
  StoreError
    StoreUnavailable        try the same bytes again
    StoreRefused            these bytes can never be taken
    QueryError              a reader's SQL is wrong or too expensive
"""

from __future__ import annotations


class CollectorError(Exception):
    """Base of all errors that a user may see. `hint` says what to do about it."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class UsageError(CollectorError):
    """The command line or the configuration is wrong."""


class ConfigError(UsageError):
    """One or more mistakes in the configuration, each a line with key, value seen and what is right."""

    def __init__(self, mistakes: list[str], *, hint: str = "") -> None:
        super().__init__("\n".join(mistakes), hint=hint)
        self.mistakes = mistakes


class OwnedElsewhere(UsageError):
    """Another process owns the journal or the store."""


class ApiError(CollectorError):
    """A call that did not give the data asked for.

    The text carries operation, scope, HTTP status, code, request id and the recommended action;
    never the key.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        scope_id: str = "",
        http_status: int = 0,
        code: str = "",
        request_id: str = "",
        hint: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.operation = operation
        self.scope_id = scope_id
        self.http_status = http_status
        self.code = code
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        where = self.operation + (f" of {self.scope_id}" if self.scope_id else "")
        facts = [f"HTTP {self.http_status}" if self.http_status else "", self.code]
        facts.append(f"request {self.request_id}" if self.request_id else "")
        known = ", ".join(fact for fact in facts if fact)
        text = super().__str__()
        return (f"{where}: {text}" if where else text) + (f" ({known})" if known else "")


class TransientError(ApiError):
    """May work when asked again later."""


class ThrottledError(TransientError):
    """Asked too fast."""


class ClockError(TransientError):
    """What time it is is in doubt, so a range cannot be planned or taken for complete."""


class InvalidAnswerError(TransientError):
    """The body is not an answer of this operation."""


class AnswerTooLargeError(ApiError):
    """The body is larger than the operation's answers may be; only a request for less can be answered."""

    date: int = 0
    """The service's time of the answer, seconds since the epoch; 0 if it is not known."""


class CredentialsError(ApiError):
    """The key is refused: nothing of this account can work."""


class ForbiddenError(ApiError):
    """The key has no right to this scope."""


class NotFoundError(ApiError):
    """The scope does not exist."""


class BadRequestError(ApiError):
    """The request is wrong; repeating it cannot help."""


class CursorError(BadRequestError):
    """The service refuses a cursor that it gave earlier."""


class CursorLoopError(ApiError):
    """The service answered with a cursor that this window has already used."""


class BudgetReached(CollectorError):
    """The call would cost more than `budget.monthly_cny` leaves; it was not made."""


class FreeCallsUsedUp(ApiError, BudgetReached):
    """The month's free calls are used up and the service takes no others: pay-as-you-go is off."""


class Stopping(CollectorError):
    """The service is ending and sends nothing any more."""


class JournalError(CollectorError):
    """The journal cannot be used."""


class JournalCorrupt(JournalError):
    """The journal's file is damaged."""


class JournalTooNew(JournalError, UsageError):
    """The journal was written by a newer version of this program."""


class JournalForeign(JournalError, UsageError):
    """The file at the journal's path is a database of another program."""


class JournalUnavailable(JournalError):
    """The journal takes nothing at present: another program locks it, or its disk fails or is read-only."""


class JournalFull(JournalUnavailable):
    """The journal has reached `journal.bytes_max`."""


class StoreError(CollectorError):
    """The store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is out of room; the same bytes may be sent again."""


class StoreTooLarge(StoreUnavailable):
    """The store refused the work for its size; a smaller part may succeed."""

    def __init__(self, message: str, *, hint: str = "", is_certain: bool = False) -> None:
        """`is_certain`: the size alone decided, not what else the store had in memory at the time."""
        super().__init__(message, hint=hint)
        self.is_certain = is_certain


class StoreRefused(StoreError):
    """The store can never take these bytes."""


class QueryError(StoreError):
    """A reader's SQL was refused, failed, or exceeded its limits."""
