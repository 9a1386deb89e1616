"""Data sets that come as a folder: one JSON annotation file and an image folder.

RSTPReid, CUHK-PEDES and ICFG-PEDES differ in names only, which a `Layout` states.
"""

import collections
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from cada_jax.data.features import (
    CaptionConfig,
    CaptionEncoder,
    caption_config,
    caption_features,
    caption_problem,
    check_disjoint_persons,
    shared_persons,
    store_vocabulary,
)
from cada_jax.errors import MissingFileError, UsageError

LISTED = 10  # examples of one problem in a message
READERS = 8  # threads; reading and decoding release the interpreter's lock


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the folder of one data set looks like.

    Attributes:
      title: name as published.
      folder: name of the folder as published; the source may be it or its parent.
      annotations: accepted names of the annotation file, the published one first.
      image_key: key of the annotation that holds the image's path.
      splits: ids, images and captions as published, for each split there is.
    """

    title: str
    folder: str
    annotations: tuple[str, ...]
    image_key: str
    splits: dict[str, tuple[int, int, int]]

    @property
    def expected(self) -> str:
        """What to put where, in words."""
        return (
            f"{self.annotations[0]} (a JSON list of entries with id, {self.image_key}, captions, "
            "split) and the images under imgs/"
        )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image of an annotation file."""

    pid: int
    image: str
    captions: tuple[str, ...]
    split: str


@dataclasses.dataclass(frozen=True)
class Source:
    """An annotation file that was found, and what is in it.

    Attributes:
      root: the folder that the annotation file is in.
      annotation: the file.
      entries: well-formed entries.
      problems: one line for each other one.
    """

    root: Path
    annotation: Path
    entries: list[Entry]
    problems: list[str]

    def image_file(self, entry: Entry) -> Path | None:
        """Returns the image's file, below imgs/ or without that level; None if there is none."""
        for path in (self.root / "imgs" / entry.image, self.root / entry.image):
            if path.is_file():
                return path
        return None


def find_annotation(layout: Layout, folder: str | Path) -> Path:
    """Returns the annotation file in a source folder, or in the published folder below it.

    Raises:
      MissingFileError: there is none; says what was expected, and of archives to unpack.
    """
    folder = Path(folder).expanduser()
    for root in (folder, folder / layout.folder):
        for name in layout.annotations:
            if (root / name).is_file():
                return root / name
    archives = [p.name for p in sorted(folder.glob("*")) if p.suffix in (".zip", ".tar", ".gz")]
    unpack = f". Unpack {', '.join(archives[:LISTED])} there first" if archives else ""
    raise MissingFileError(f"{folder} holds no {layout.title}: expected {layout.expected}{unpack}")


def read_source(layout: Layout, folder: str | Path) -> Source:
    """Reads the annotation file of a source folder.

    Raises:
      MissingFileError: there is none.
      UsageError: it is not JSON, or not a list of this data set's entries.
    """
    path = find_annotation(layout, folder)
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise UsageError(f"{path} is not JSON: {err}. Download or unpack it again") from err
    needed = {"id", layout.image_key, "captions", "split"}
    if not isinstance(items, list) or not items:
        raise UsageError(f"{path}: expected a list of {layout.title} entries, a JSON list")
    if not any(isinstance(item, dict) and needed <= item.keys() for item in items):
        keys = sorted(items[0]) if isinstance(items[0], dict) else type(items[0]).__name__
        raise UsageError(
            f"{path} is not the annotation file of {layout.title}: expected the keys "
            f"{sorted(needed)}, the first entry has {keys}. Is --dataset right?"
        )
    entries, problems = [], []
    for i, item in enumerate(items):
        problem = _entry_problem(item, layout)
        if problem:
            problems.append(f"entry {i}: {problem}")
        else:
            captions = tuple(item["captions"])
            entries.append(Entry(int(item["id"]), item[layout.image_key], captions, item["split"]))
    return Source(path.parent, path, entries, problems)


def _entry_problem(item: Any, layout: Layout) -> str | None:
    if not isinstance(item, dict):
        return f"expected an object, got {type(item).__name__}"
    missing = {"id", layout.image_key, "captions", "split"} - item.keys()
    if missing:
        return f"no {', '.join(sorted(missing))}"
    if not isinstance(item["id"], int) or isinstance(item["id"], bool):
        return f"id is {item['id']!r}, expected an integer"
    image = item[layout.image_key]
    if not isinstance(image, str) or not image:
        return f"{layout.image_key} is {image!r}, expected a path"
    if item["split"] not in layout.splits:
        return f"image {image}: unknown split {item['split']!r}, expected {list(layout.splits)}"
    if not isinstance(item["captions"], list) or not item["captions"]:
        return f"image {image}: captions is {item['captions']!r}, expected a list of strings"
    problem = next(filter(None, map(caption_problem, item["captions"])), None)
    return f"image {image}: {problem}" if problem else None


def split_pids(entries: Iterable[Entry]) -> dict[str, list[int]]:
    """Returns the person of every image, by split."""
    pids = collections.defaultdict(list)
    for entry in entries:
        pids[entry.split].append(entry.pid)
    return dict(pids)


def list_problems(source: Source) -> list[str]:
    """Returns everything wrong with a folder that shows without opening its images."""
    problems = list(source.problems)
    for pid, splits in sorted(shared_persons(split_pids(source.entries)).items()):
        problems.append(f"person {pid} is in the splits {' and '.join(splits)}")
    counts = collections.Counter(entry.image for entry in source.entries)
    problems += [f"image {image} has {n} entries" for image, n in counts.items() if n > 1]
    missing = [entry.image for entry in source.entries if source.image_file(entry) is None]
    if missing:
        problems.append(
            f"{len(missing)} of {len(source.entries)} images are missing under "
            f"{source.root / 'imgs'} (and {source.root}), the first: {', '.join(missing[:LISTED])}"
        )
    return problems


def image_problem(data: bytes) -> str | None:
    """Returns why encoded bytes are no usable image (JPEG or PNG), None if they are one."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format not in ("JPEG", "PNG"):
                return f"is {image.format}, expected JPEG or PNG"
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        return f"cannot be decoded ({str(err) or type(err).__name__})"
    return None


def read_images(source: Source, entries: list[Entry]) -> Iterator[tuple[Entry, bytes, str | None]]:
    """Yields each entry with its encoded image and what is wrong with it, in order.

    Images are read and decoded in threads, a bounded number ahead.
    """

    def read(entry: Entry) -> tuple[Entry, bytes, str | None]:
        path = source.image_file(entry)
        if path is None:
            return entry, b"", f"image {entry.image} is missing under {source.root}"
        data = path.read_bytes()
        problem = image_problem(data)
        return entry, data, f"image {path} {problem}" if problem else None

    block = 32 * READERS
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(entries), block):
            yield from pool.map(read, entries[start : start + block])


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder over a published folder; a data set states its LAYOUT.

    `config` is a `CaptionConfig`, see `caption_config`.
    """

    LAYOUT: Layout
    VERSION = tfds.core.Version("1.0.0")
    # Wraps the images of a split while they are written: progress(images, number, split).
    progress: Callable[[Iterable, int, str], Iterable]

    def __init__(self, *, data_dir=None, config=None, version=None, **kwargs):
        """Takes the arguments of tfds.core.DatasetBuilder."""
        config = caption_config() if config is None else config
        self.progress = lambda images, number, split: images
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # TFDS warns of every config made at run time
        try:
            super().__init__(data_dir=data_dir, config=config, version=version, **kwargs)
        finally:
            logging.set_verbosity(verbosity)

    @property
    def captions_config(self) -> CaptionConfig:
        """The settings that captions are stored by."""
        return self.builder_config

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=caption_features(self.captions_config.max_length)
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        source = read_source(self.LAYOUT, dl_manager.manual_dir)
        check_disjoint_persons(split_pids(source.entries), str(source.annotation))
        problems = list_problems(source)
        if problems:
            listed = "\n  ".join(problems[:LISTED])
            raise UsageError(
                f"{source.annotation} has {len(problems)} problems, the first of them:\n  "
                f"{listed}\nAll: python tools/prepare_data.py --dataset={self.name} "
                f"--source={dl_manager.manual_dir} --check"
            )
        encoder = self.captions_config.encoder()
        # The folder is a temporary one here; TFDS renames it when everything is written.
        store_vocabulary(encoder.tokenizer, self.data_dir)
        return {
            split: self._generate_examples(source, split, encoder)
            for split in self.LAYOUT.splits
            if any(entry.split == split for entry in source.entries)
        }

    def _generate_examples(self, source: Source, split: str, encoder: CaptionEncoder):
        entries = [entry for entry in source.entries if entry.split == split]
        images = self.progress(read_images(source, entries), len(entries), split)
        for entry, data, problem in images:
            if problem:
                raise UsageError(problem)
            yield (
                entry.image,
                {
                    "image": data,
                    "image_path": entry.image,
                    "pid": entry.pid,
                    "captions": encoder.encode(entry.captions, entry.image),
                },
            )
