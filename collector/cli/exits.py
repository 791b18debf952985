"""Exit statuses: what a script may rely on."""

from __future__ import annotations

import enum

from collector.errors import BudgetReached, CredentialsError, ForbiddenError, UsageError


class ExitStatus(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    """Some streams failed, the rest is collected; or the command could not do its work."""
    USAGE = 2
    """The command line or the configuration is wrong. Nothing was started."""
    CREDENTIALS = 3
    """The key is missing rights or refused (401, 403)."""
    BUDGET = 4
    """The budget is reached."""
    INTERRUPTED = 130


# Where several things went wrong at once, the one that a person must change first decides.
_FIRST_TO_CHANGE = (ExitStatus.USAGE, ExitStatus.CREDENTIALS, ExitStatus.BUDGET, ExitStatus.FAILED)


def exit_status(error: BaseException) -> ExitStatus:
    """The status that a command ends with because of `error`, or of the errors in a group."""
    if isinstance(error, BaseExceptionGroup):
        found = {exit_status(inner) for inner in error.exceptions}
        return next(status for status in _FIRST_TO_CHANGE if status in found)
    if isinstance(error, UsageError):
        return ExitStatus.USAGE
    if isinstance(error, CredentialsError | ForbiddenError):
        return ExitStatus.CREDENTIALS
    if isinstance(error, BudgetReached):
        return ExitStatus.BUDGET
    return ExitStatus.FAILED
