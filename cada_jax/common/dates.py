"""Dates as people write them to seconds since 1970, and back, in the time of this machine."""

import datetime

from cada_jax.common.errors import UsageError

EXAMPLE = "a date such as 2026-05-31 or 2026-05-31T18:00"


def start(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date or time; a date is its beginning.

    Raises:
      UsageError: it is no date.
    """
    try:
        return datetime.datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as e:
        raise UsageError(f"{text[:40]!r}: expected {EXAMPLE}") from e


def end(text: str) -> float:
    """As `start`; but a date without a time is its end, the beginning of the next day."""
    first = start(text)
    try:
        day = datetime.date.fromisoformat(text.strip())
    except ValueError:
        return first
    if day == datetime.date.max:
        raise UsageError(f"{text[:40]!r}: expected {EXAMPLE}")
    return start((day + datetime.timedelta(days=1)).isoformat())


def local_iso(seconds: float | None) -> str:
    """Seconds since 1970 as ISO 8601 in local time with its zone.

    It is "" for None and for a time that is beyond the calendar.
    """
    if seconds is None:
        return ""
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""
