"""Dates on the command line to seconds since 1970, and back, in the time of this machine."""

import datetime

from cada_jax.common.errors import UsageError

EXAMPLE = "a date such as 2026-05-31 or 2026-05-31T18:00"


def seconds_of(flag: str, text: str, end_of_day: bool = False) -> float:
    """An ISO 8601 date or time to seconds since 1970; without a zone it is local time.

    Args:
      flag: named in the message.
      text: a date, or a date and a time.
      end_of_day: a date without a time means the end of that day, not its beginning.

    Raises:
      UsageError: it is no date.
    """
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
        if end_of_day and _is_date(text):
            moment += datetime.timedelta(days=1)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError) as e:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise UsageError(f"{flag}={shown!r}: expected {EXAMPLE}") from e


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def local_iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in local time with its zone; "" for a time without a date."""
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""
