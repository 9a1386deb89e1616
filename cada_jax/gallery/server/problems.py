"""What a client is told when a request cannot be answered: a status and one sentence."""

from collections.abc import Mapping
from http import HTTPStatus


class Problem(Exception):
    """A request is refused.

    Attributes:
      status: of HTTP, 400 to 599.
      message: one sentence; it names the field, what was expected, and what came.
      headers: to send with it.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = int(status)
        self.message = message
        self.headers = dict(headers or {})


def bad_field(name: str, message: str) -> Problem:
    """400: a field of the request is not what it has to be."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name}: {message}")


def busy(message: str, seconds: int = 1) -> Problem:
    """429: too much is asked at once; try again in so many seconds."""
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, message, {"Retry-After": str(seconds)})


def unavailable(message: str, seconds: int = 5) -> Problem:
    """503: the server cannot answer now."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": str(seconds)})
