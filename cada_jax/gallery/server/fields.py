"""The fields of a search, from an address or a form, to a `Query`."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from cada_jax.common.errors import UsageError
from cada_jax.gallery.moments import local_iso, seconds_of
from cada_jax.gallery.server.answers import Echo
from cada_jax.gallery.server.limits import Limits
from cada_jax.gallery.server.problems import Problem, bad_field
from cada_jax.retrieval.images import ImageLike
from cada_jax.retrieval.query import Query, Where
from cada_jax.text.attribute_phrases import caption_problem

REPEATED = ("q", "not")  # fields that may come several times
MOST_FIELDS = 64  # of one form or address
MOST_NAME = 4096  # characters of a folder or a camera


def field_model(limits: Limits) -> type:
    """The fields of a search as a pydantic model, for checking them and for /openapi.json."""
    import pydantic

    texts = pydantic.Field(default_factory=list, max_length=limits.max_phrasings)
    several: Any = list[Annotated[str, pydantic.Field(max_length=limits.max_text)]]
    name = pydantic.Field("", max_length=MOST_NAME)
    moment = pydantic.Field("", max_length=40, description="ISO 8601 date or time")

    def described(field: Any, description: str) -> Any:
        return pydantic.fields.FieldInfo.merge_field_infos(field, description=description)

    fields = {
        "q": (several, described(texts, "a description; repeat for phrasings")),
        "not": (several, described(texts, "words that count against")),
        "like": (str, described(name, "id of a picture of the gallery to resemble")),
        "folder": (str, described(name, "below this folder, at any depth")),
        "since": (str, described(moment, "taken then or later: an ISO 8601 date or time")),
        "until": (str, described(moment, "taken before; a day without a time is included")),
        "camera": (str, described(name, "name of the camera")),
        "k": (int, pydantic.Field(10, ge=1, le=limits.max_k, description="number of results")),
        "rerank": (
            int,
            pydantic.Field(
                32, ge=0, le=limits.max_k, description="so many nearest pictures are re-ranked"
            ),
        ),
        "min_score": (
            float | None,
            pydantic.Field(
                None, allow_inf_nan=False, description="results that score less are left out"
            ),
        ),
    }
    config = pydantic.ConfigDict(extra="forbid")
    return pydantic.create_model("SearchFields", __config__=config, **fields)  # type: ignore


def gather(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Names and values as they came, to one value for each name, or a list where it may repeat.

    Raises:
      Problem: too many fields, or one comes twice that may not.
    """
    found: dict[str, Any] = {}
    for count, (name, value) in enumerate(pairs, 1):
        if count > MOST_FIELDS:
            raise bad_field("fields", f"more than {MOST_FIELDS} came, expected fewer")
        if name in REPEATED:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise bad_field(name, "came more than once, expected it once")
        elif value or name in ("k", "rerank"):  # an empty box of a form filters nothing
            found[name] = value
    return found


def checked(model: type, values: dict[str, Any]) -> dict[str, Any]:
    """Values with the types and bounds of the model.

    Raises:
      Problem: a field is not what it has to be; the message names the first.
    """
    import pydantic

    try:
        fields: Any = model(**values)
    except pydantic.ValidationError as error:
        raise _sentence(error.errors(), list(model.__annotations__)) from None
    return fields.model_dump()


def _sentence(errors: Sequence[Any], known: Sequence[str]) -> Problem:
    first = errors[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return bad_field(_short(name), f"no such field, expected one of {', '.join(known)}")
    came, most = first["input"], first.get("ctx", {}).get("max_length")
    if isinstance(came, list):
        return bad_field(name, f"came {len(came)} times, expected at most {most}")
    if first["type"] == "string_too_long":
        return bad_field(name, f"has {len(came):,} characters, expected at most {most:,}")
    expected = first["msg"].removeprefix("Input should be ").split(",")[0]
    expected = expected if expected.startswith("a ") else f"a number {expected}"
    return bad_field(name, f"is {_short(came)!r}, expected {expected}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_time(name: str, text: str, end_of_day: bool) -> float | None:
    """An ISO 8601 date or time to seconds since 1970, None for a blank one; see `seconds_of`.

    Raises:
      Problem: it is no date.
    """
    if not text.strip():
        return None
    try:
        return seconds_of(name, text, end_of_day)
    except UsageError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, _printable(str(error))) from None


def checked_text(name: str, text: str, limits: Limits) -> str:
    """One description that a word map is asked for.

    Raises:
      Problem: it is too long (400), or has no word (422).
    """
    if len(text) > limits.max_text:
        raise bad_field(name, f"has {len(text):,} characters, expected at most {limits.max_text}")
    _check_words(name, text)
    return text


def _check_words(name: str, text: str) -> None:
    if problem := caption_problem(text):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {_printable(problem)}")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def to_query(fields: dict[str, Any], image: ImageLike | None = None) -> Query:
    """Checked fields, and a picture that was sent with them, to a query.

    Raises:
      Problem: a description has no word (422), or nothing is searched for (400).
    """
    for name in REPEATED:
        for text in fields[name]:
            _check_words(name, text)
    if image is not None and fields["like"]:
        raise bad_field("like", "came with a picture, expected one of the two")
    if not fields["q"] and image is None and not fields["like"]:
        raise bad_field("q", "nothing to search for: expected a description, a picture or like=ID")
    since = parse_time("since", fields["since"], False)
    until = parse_time("until", fields["until"], True)
    if since is not None and until is not None and since >= until:
        raise bad_field("until", f"is {fields['until']!r}, expected a time after since")
    try:
        return Query(
            texts=tuple(fields["q"]),
            exclude=tuple(fields["not"]),
            like=image,
            like_id=fields["like"],
            where=Where(fields["folder"], since, until, fields["camera"]),
            k=fields["k"],
            rerank=fields["rerank"],
            min_score=fields["min_score"],
        )
    except UsageError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, _printable(str(error))) from None


def echo(query: Query) -> Echo:
    """The query as the answer tells it."""
    where = query.where
    return Echo(
        q=list(query.texts),
        exclude=list(query.exclude),
        like=query.like_id,
        image=query.like is not None,
        folder=where.folder,
        since="" if where.since is None else local_iso(where.since),
        until="" if where.until is None else local_iso(where.until),
        camera=where.camera,
        k=query.k,
        rerank=query.rerank,
        min_score=query.min_score,
    )
