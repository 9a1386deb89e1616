"""Puts generated persons side by side, to be looked at.

python -m cada_jax.data.datasets.synthetic.contact_sheet --output people.png
"""

import argparse
import io
from pathlib import Path

from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.common.files import check_target
from cada_jax.data.datasets.synthetic.drawing import HEIGHT, WIDTH
from cada_jax.data.datasets.synthetic.people import (
    SPLITS,
    VARIANTS,
    Settings,
    make_example,
    make_identities,
)


def draw_sheet(
    settings: Settings, split: str, rows: int, people_per_row: int, zoom: int = 2
) -> tuple[Image.Image, list[str]]:
    """Returns a picture of the first persons of a split, and a caption of each one's first image.

    Each person takes `settings.images_per_person` neighbouring places.

    Raises:
        UsageError: the split has fewer persons than the sheet has places.
    """
    number, images = rows * people_per_row, settings.images_per_person
    if not 0 < number <= settings.persons(split):
        raise UsageError(
            f"{rows} rows of {people_per_row} persons: expected 1 to {settings.persons(split)} "
            f"persons, as many as {settings.name} has in split {split}"
        )
    width, height = WIDTH * zoom, HEIGHT * zoom
    gap = 4 * zoom
    block = images * width + gap
    sheet = Image.new("RGB", (people_per_row * block - gap, rows * (height + gap) - gap), "white")
    captions = []
    for person, identity in enumerate(make_identities(settings, split)[:number]):
        row, column = divmod(person, people_per_row)
        for image in range(images):
            example = make_example(settings, split, identity, person, image)
            picture = Image.open(io.BytesIO(example.jpeg)).resize((width, height))
            sheet.paste(picture, (column * block + image * width, row * (height + gap)))
            if image == 0:
                captions.append(example.captions[0].text)
    return sheet, captions


def main() -> None:
    """Writes a sheet and prints the captions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--output", type=Path, required=True, help="PNG file to write")
    add("--variant", choices=sorted(VARIANTS), default="demo")
    add("--split", choices=SPLITS, default="test")
    add("--rows", type=int, default=4)
    add("--people_per_row", type=int, default=3)
    flags = parser.parse_args()
    try:
        check_target(flags.output, False, lambda path: False, "a picture")
        settings = VARIANTS[flags.variant]
        sheet, captions = draw_sheet(settings, flags.split, flags.rows, flags.people_per_row)
        sheet.save(flags.output)
    except (UsageError, OSError) as err:
        parser.exit(1, f"error: {err}\n")
    print("\n".join(captions))


if __name__ == "__main__":
    main()
