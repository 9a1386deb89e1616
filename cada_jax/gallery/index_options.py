"""How to index, and what indexing did."""

import dataclasses
from collections.abc import Callable

from cada_jax.common.console import Progress
from cada_jax.gallery.boxes import Boxes
from cada_jax.gallery.scan import Problem

STAGES = ("tokens", "vectors", "stale", "gone", "sweep")


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """How to index.

    Attributes:
      tokens: "store" keeps image tokens in bfloat16, "recompute" reads the picture again whenever
        the decoder asks for it. This and the next three are settled when a gallery is made: None
        takes what it has, or "store", its own folder, "FLAT" and 1 of a new one.
      token_store: folder or bucket of the tokens.
      vector_index: one of `vector_index.INDEXES`; FLAT is exact.
      shards: parts of the collection on a server.
      boxes: persons' boxes; None indexes whole pictures, and keeps boxes that are indexed already.
      camera_pattern: regular expression with one group, the camera in a path; "" for EXIF.
      reindex: drop what is there and begin anew, with another model or other tokens.
      remove_missing: remove records of missing files even if they are more than half.
      include_forgotten: index pictures that were forgotten before.
      batch_size: pictures encoded at once; 0 chooses. The same batch size gives the same bits.
      model_path: what the gallery records as the place of its model.
      progress: wraps the loop over files.
      after: called with the name of each stage of `STAGES` after it; for tests.
    """

    tokens: str | None = None
    token_store: str | None = None
    vector_index: str | None = None
    shards: int | None = None
    boxes: Boxes | None = None
    camera_pattern: str = ""
    reindex: bool = False
    remove_missing: bool = False
    include_forgotten: bool = False
    batch_size: int = 0
    model_path: str = ""
    progress: Progress | None = None
    after: Callable[[str], None] = lambda stage: None


@dataclasses.dataclass
class Report:
    """What indexing did. Numbers of files, but `pictures`, `encoded`: records, crops singly.

    Attributes:
      new, changed, moved, unchanged, removed: files. A copy of an indexed file counts as moved.
      forgotten: files left out since they were forgotten.
      kept_missing: records whose file is missing and that were kept, see `remove_missing`.
      encoded: pictures that went through the network.
      pictures: records in the gallery.
      unreadable: files or boxes with the reason.
      seconds, images_per_second: of encoding, reading and writing.
    """

    new: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    forgotten: int = 0
    kept_missing: int = 0
    encoded: int = 0
    pictures: int = 0
    unreadable: list[Problem] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    images_per_second: float = 0.0
