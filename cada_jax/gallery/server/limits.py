"""What one client may ask of the server, and how long it may take to ask."""

import dataclasses

from cada_jax.common.errors import UsageError

MEGA = 1_000_000
# Whole numbers that start at 0; every other limit is at least 1, or more than 0.
_FROM_ZERO = frozenset({"max_wait_ms"})


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server; each is a flag of `cada serve` of the same name.

    Attributes:
      max_text: characters of one description.
      max_phrasings: descriptions in `q`, and in `not`, of one query.
      max_k: results of one query, and pictures that the decoder scores for it.
      max_upload_mb: megabytes (10^6 bytes) of the body of a request.
      max_upload_megapixels: millions of pixels of an uploaded picture.
      max_uploads: uploads that are read at once.
      max_concurrent: requests that are answered at once; more are refused with 429.
      max_connections: open at once; one more is hung up on.
      max_batch: queries that the device answers at once.
      max_wait_ms: milliseconds that a query waits for others to share its batch.
      header_seconds: a client has so long to send the head of a request.
      body_seconds: ... and its body.
      send_seconds: a client that takes nothing of its answer for so long is hung up on.
      answer_seconds: a query that the device has not answered by then is given up with 503.
      stop_seconds: a server that stops waits so long for the requests that it is answering.
    """

    max_text: int = 2000
    max_phrasings: int = 8
    max_k: int = 1000
    max_upload_mb: float = 20
    max_upload_megapixels: float = 50
    max_uploads: int = 8
    max_concurrent: int = 128
    max_connections: int = 512
    max_batch: int = 16
    max_wait_ms: float = 2
    header_seconds: float = 10
    body_seconds: float = 30
    send_seconds: float = 30
    answer_seconds: float = 60
    stop_seconds: float = 30

    def __post_init__(self):
        # Here, so that the help of `serve` imports no JAX.
        from cada_jax.retrieval.query import MOST_PHRASINGS, MOST_RESULTS

        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = "0 or more" if field.name in _FROM_ZERO else "more than 0"
            if not 0 <= value < float("inf") or (value == 0 and field.name not in _FROM_ZERO):
                raise UsageError(f"--{field.name} is {value}, expected {least}")
        for name, most in (("max_k", MOST_RESULTS), ("max_phrasings", MOST_PHRASINGS)):
            if getattr(self, name) > most:
                raise UsageError(f"--{name} is {getattr(self, name)}, expected at most {most}")

    @property
    def upload_bytes(self) -> int:
        """The longest body of a request in bytes."""
        return round(self.max_upload_mb * MEGA)

    @property
    def upload_pixels(self) -> int:
        """The most pixels of an uploaded picture."""
        return round(self.max_upload_megapixels * MEGA)
