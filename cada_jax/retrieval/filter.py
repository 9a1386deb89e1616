"""Which pictures of a gallery are looked at.

A filter is one field of `Filter`. From it come the flag of the command line, the field of a
request, the condition of every database, and what an answer repeats of the query. CONTRIBUTING
shows how to add one.
"""

import dataclasses
import math
import numbers
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from cada_jax.common import dates
from cada_jax.common.errors import UsageError
from cada_jax.common.files import absolute

# What counts as one result: boxes of one file; what one camera took within a second, or a minute
# (without a camera, what lies in one folder); files of equal bytes.
GROUPS = ("file", "scene", "minute", "content")


class NoFolderError(UsageError):
    """No picture lies in the folder of a filter."""


class Condition(NamedTuple):
    """What a picture must fulfil: `Picture.COLUMN OPERATOR value`; also a database's column.

    column: "folder", "taken", "camera"; operator: "=", ">=", "<", or "in" with a tuple of values.
    """

    column: str
    operator: str
    value: Any

    def holds(self, found: Any) -> bool:
        """Whether a value of the column fulfils it."""
        if self.operator == "in":
            return found in self.value
        if self.operator == "=":
            return found == self.value
        return found >= self.value if self.operator == ">=" else found < self.value


class FilterField(NamedTuple):
    """One filter, for whoever offers it.

    name: of the flag and of the field of a request; help: one line; read: the text of either to
    the value, raising UsageError; show: back, so that `read(show(value)) == value`.
    """

    name: str
    help: str
    read: Callable[[str], Any]
    show: Callable[[Any], str]


def _field(
    default: Any, column: str, operator: str, help: str, read: Callable = str, show: Callable = str
) -> Any:
    metadata = dict(column=column, operator=operator, help=help, read=read, show=show)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which pictures are looked at; a default admits all.

    Attributes:
      folder: below this folder, at any depth; any spelling that the system takes for it.
      since, until: taken in this interval, seconds since 1970 in UTC; `until` itself is left out.
      camera: name of the camera.

    Raises:
      UsageError: a time is no finite number, or `until` is not after `since`.
    """

    folder: str = _field("", "folder", "below", "only pictures below this folder, at any depth")
    since: float | None = _field(
        *(None, "taken", ">=", "taken then or later: a date, or 2026-05-31T18:00"),
        *(dates.start, dates.local_iso),
    )
    until: float | None = _field(
        *(None, "taken", "<", "taken before; of a date, that day is included"),
        *(dates.end, dates.local_iso),
    )
    camera: str = _field("", "camera", "=", "only pictures of this camera")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, str):
                if not isinstance(value, str) or "\0" in value:
                    raise UsageError(
                        f"{field.name} is {value!r}, expected a text without a NUL character"
                    )
            elif value is not None and not is_finite(value):
                raise UsageError(f"{field.name} is {value!r}, expected a finite number or None")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise UsageError(
                f"until is {dates.local_iso(self.until)} and since is "
                f"{dates.local_iso(self.since)}: expected until to be later"
            )

    @classmethod
    def fields(cls) -> tuple[FilterField, ...]:
        """Every filter there is."""
        return tuple(
            FilterField(f.name, *(f.metadata[key] for key in ("help", "read", "show")))
            for f in dataclasses.fields(cls)
        )

    @classmethod
    def read(cls, texts: Mapping[str, Any], prefix: str = "") -> "Filter":
        """The filter that flags or the fields of a request ask for.

        Args:
          texts: by the name of the field, others beside them; a blank one filters nothing.
          prefix: before a name in messages: "--" for flags.

        Raises:
          UsageError: a text is not what its field has to be; the message names it.
        """
        values = {}
        for field in cls.fields():
            text = texts.get(field.name)
            if text and text.strip():
                try:
                    values[field.name] = field.read(text)
                except UsageError as e:
                    raise UsageError(f"{prefix}{field.name}={e}") from e
        return cls(**values)

    def to_dict(self) -> dict[str, str]:
        """The texts that `read` takes, "" for a filter that admits all."""
        return {f.name: f.show(getattr(self, f.name)) for f in self.fields()}

    @property
    def admits_all(self) -> bool:
        """Whether nothing is filtered."""
        return self == Filter()

    def conditions(self, folders: Iterable[str]) -> list[Condition]:
        """What a picture must fulfil, all of it.

        Args:
          folders: every folder that pictures of the gallery lie in.

        Raises:
          NoFolderError: none of them is, or lies below, the folder that is asked for.
        """
        found = []
        for field in dataclasses.fields(self):
            column, operator = field.metadata["column"], field.metadata["operator"]
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if operator == "below":
                operator, value = "in", folders_below(value, folders)
                if not value:
                    raise NoFolderError(
                        f"{field.name}={self.folder!r}: no indexed picture is in it"
                    )
            found.append(Condition(column, operator, value))
        return found


def folders_below(folder: str, known: Iterable[str]) -> tuple[str, ...]:
    """Those of the known folders that are a folder, or lie below it.

    Links, "..", and the two ways to write an accent name the same folder, as for the system.
    """
    wanted = _spellings(folder)
    return tuple(
        name
        for name in known
        if any(_is_below(a, b) for a in _spellings(name) for b in wanted) or name == folder
    )


def _spellings(path: str) -> set[str]:
    return {unicodedata.normalize("NFC", x) for x in (absolute(path), os.path.realpath(path))}


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def is_finite(value: Any) -> bool:
    """Whether a value is a real number, and a finite one."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)
