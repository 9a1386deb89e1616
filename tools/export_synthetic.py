"""Writes generated people as a folder in the form a real data set is published in.

python -m tools.export_synthetic --variant=demo --output=OUT/RSTPReid
python -m tools.export_synthetic --variant=demo --output=OUT/CUHK-PEDES --format=cuhk
python -m tools.export_synthetic --variant=demo --output=OUT/ICFG-PEDES --format=icfg

The loaders, tools and commands of the real set then run on it unchanged.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from cada_jax.common.files import whole_folder
from cada_jax.data.datasets.synthetic.people import (
    SPLITS,
    VARIANTS,
    Settings,
    generate,
    image_path,
)
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from tools.arguments import Parser, command, folder_to_make

# CUHK-PEDES keeps each of the sets that it was gathered from in a folder of its own.
CUHK_FOLDERS = ("cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "test_query", "train_query")


class Format(NamedTuple):
    """A published form: one JSON list of entries and images under imgs/.

    folder, annotation: names as published; captions: numbers of captions that images have, in turn.
    """

    folder: str
    annotation: str
    captions: tuple[int, ...]
    splits: tuple[str, ...] = SPLITS


FORMATS = {
    "rstp": Format("RSTPReid", "data_captions.json", (2,)),
    "cuhk": Format("CUHK-PEDES", "reid_raw.json", (2, 2, 1, 2, 3)),
    "icfg": Format("ICFG-PEDES", "ICFG-PEDES.json", (1,), ("train", "test")),
}


def _entry(form: Format, split: str, pid: int, image: int, captions: list[str]) -> dict[str, Any]:
    """An entry of the list as the data set has it; its path is the one that is no caption."""
    path = image_path(pid, image)
    if form is FORMATS["rstp"]:
        return {"id": pid, "img_path": path, "captions": captions, "split": split}
    if form is FORMATS["icfg"]:
        path = f"{split}/{pid:04d}/{pid:04d}_{image:03d}.jpg"
        return {"split": split, "file_path": path, "id": pid, "captions": captions}
    path = f"{CUHK_FOLDERS[pid % len(CUHK_FOLDERS)]}/{path}"
    words = [re.findall(r"\w+", caption.lower()) for caption in captions]
    entry = {"split": split, "captions": captions, "file_path": path, "processed_tokens": words}
    return entry | {"id": pid + 1}  # its persons are numbered from 1


def export(settings: Settings, output: Path, form: Format) -> dict[str, int]:
    """Writes images and the annotation file, all of it or nothing.

    Args:
        settings: one of `VARIANTS`.
        output: the folder to make; it may exist if it is empty.
        form: one of `FORMATS`.

    Returns:
        The number of images of each split.

    Raises:
        UsageError: the folder is not empty or cannot be written.
    """
    settings = replace(settings, captions_per_image=max(form.captions))
    entries: list[dict[str, Any]] = []
    counts = {s: settings.persons(s) * settings.images_per_person for s in form.splits}
    with whole_folder(output, False, lambda path: False, "a folder of people") as folder:
        for split, total in counts.items():
            for example in tqdm(generate(settings, split), split, total, unit=" images"):
                turn = (example.person + example.image) % len(form.captions)
                captions = [caption.text for caption in example.captions[: form.captions[turn]]]
                pid = settings.first_pid(split) + example.person
                entries.append(_entry(form, split, pid, example.image, captions))
                path = entries[-1].get("img_path") or entries[-1]["file_path"]
                file = folder / "imgs" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(example.jpeg)
        text = json.dumps(entries, indent=1)
        (folder / form.annotation).write_text(text + "\n", encoding="utf-8")
    return counts


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
        f"Prepare it: python -m cada_jax prepare --dataset={flags.format} "
        f"--source={flags.output} --vocab={VOCAB_PATH}"
    )
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
