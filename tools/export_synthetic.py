"""Writes generated people as a folder in the form a real data set is published in.

python -m tools.export_synthetic --variant=demo --output=OUT/RSTPReid
python -m tools.export_synthetic --variant=demo --output=OUT/CUHK-PEDES --format=cuhk
python -m tools.export_synthetic --variant=demo --output=OUT/ICFG-PEDES --format=icfg

The loaders, tools and commands of the real set then run on it unchanged.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.people import (
    SPLITS,
    VARIANTS,
    Example,
    Settings,
    generate,
    image_path,
)
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from tools.arguments import Parser, folder_to_make


@dataclass(frozen=True)
class Format:
    """A published form: one JSON list of entries and images under imgs/.

    Attributes:
        dataset: name of the data set for `python -m cada_jax prepare`.
        folder: name of the folder as published.
        annotation: name of the JSON file.
        path: (split, person number, example) -> path of the image below imgs/.
        entry: (split, person number, path, captions) -> entry of the JSON list.
        captions: numbers of captions that images have, in turn.
        splits: the ones there are.
    """

    dataset: str
    folder: str
    annotation: str
    path: Callable[[str, int, Example], str]
    entry: Callable[[str, int, str, list[str]], dict[str, Any]]
    captions: tuple[int, ...]
    splits: tuple[str, ...] = SPLITS

    def captions_of(self, example: Example) -> list[str]:
        """Returns the captions that an image has in this form."""
        number = self.captions[(example.person + example.image) % len(self.captions)]
        return [caption.text for caption in example.captions[:number]]


def _rstp_path(split: str, pid: int, example: Example) -> str:
    return image_path(pid, example.image)


def _rstp_entry(split: str, pid: int, path: str, captions: list[str]) -> dict[str, Any]:
    return {"id": pid, "img_path": path, "captions": captions, "split": split}


# CUHK-PEDES keeps each of the sets that it was gathered from in a folder of its own.
CUHK_FOLDERS = ("cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "test_query", "train_query")


def _cuhk_path(split: str, pid: int, example: Example) -> str:
    return f"{CUHK_FOLDERS[pid % len(CUHK_FOLDERS)]}/{image_path(pid, example.image)}"


def _cuhk_entry(split: str, pid: int, path: str, captions: list[str]) -> dict[str, Any]:
    words = [re.findall(r"\w+", caption.lower()) for caption in captions]
    entry = {"split": split, "captions": captions, "file_path": path, "processed_tokens": words}
    return entry | {"id": pid + 1}  # its persons are numbered from 1


def _icfg_path(split: str, pid: int, example: Example) -> str:
    return f"{split}/{pid:04d}/{pid:04d}_{example.image:03d}.jpg"


def _icfg_entry(split: str, pid: int, path: str, captions: list[str]) -> dict[str, Any]:
    return {"split": split, "file_path": path, "id": pid, "captions": captions}


FORMATS = {
    form.dataset: form
    for form in (
        Format("rstp", "RSTPReid", "data_captions.json", _rstp_path, _rstp_entry, (2,)),
        Format("cuhk", "CUHK-PEDES", "reid_raw.json", _cuhk_path, _cuhk_entry, (2, 2, 1, 2, 3)),
        Format(
            "icfg",
            "ICFG-PEDES",
            "ICFG-PEDES.json",
            _icfg_path,
            _icfg_entry,
            (1,),
            ("train", "test"),
        ),
    )
}


def export(settings: Settings, output: Path, form: Format) -> dict[str, int]:
    """Writes images, then the annotation file, so that a folder with one is complete.

    Args:
        settings: one of `VARIANTS`.
        output: the folder to make; it may exist if it is empty.
        form: one of `FORMATS`.

    Returns:
        The number of images of each split.

    Raises:
        UsageError: the folder is not empty or cannot be written.
    """
    output = Path(output).expanduser()
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UsageError(
                f"{output} exists and is not an empty folder: nothing was written; choose another "
                "--output or remove it"
            )
        (output / "imgs").mkdir(parents=True, exist_ok=True)
        entries: list[dict[str, Any]] = []
        counts = {}
        for split in form.splits:
            counts[split] = _export_split(settings, split, output, form, entries)
        text = json.dumps(entries, indent=1)
        (output / form.annotation).write_text(text + "\n", encoding="utf-8")
    except OSError as err:
        raise UsageError(
            f"cannot write {output}: {err}. Choose another --output or make room"
        ) from err
    return counts


def _export_split(
    settings: Settings, split: str, output: Path, form: Format, entries: list[dict[str, Any]]
) -> int:
    number = settings.persons(split) * settings.images_per_person
    settings = replace(settings, captions_per_image=max(form.captions))
    first = settings.first_pid(split)
    for example in tqdm(generate(settings, split), total=number, desc=split, unit=" images"):
        pid = first + example.person
        path = form.path(split, pid, example)
        file = output / "imgs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(example.jpeg)
        entries.append(form.entry(split, pid, path, form.captions_of(example)))
    return number


def run(argv: Sequence[str] | None) -> int:
    """Writes the folder that the flags name; returns the exit code."""
    parser = Parser("tools.export_synthetic", __doc__)
    add = parser.add_argument
    add("--variant", choices=sorted(VARIANTS), default="demo")
    add("--output", type=folder_to_make, required=True, help="folder to make")
    add("--format", choices=sorted(FORMATS), default="rstp")
    flags = parser.flags(argv)
    form = FORMATS[flags.format]
    counts = export(VARIANTS[flags.variant], flags.output, form)
    images = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"Wrote {flags.output / form.annotation} and images: {images}")
    print(
        f"Prepare it: python -m cada_jax prepare --dataset={form.dataset} "
        f"--source={flags.output} --vocab={VOCAB_PATH}"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
