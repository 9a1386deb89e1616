"""Puts generated persons side by side, to be looked at, and prints a caption of each.

python -m tools.contact_sheet --output=people.png --variant=crowd
"""

import io
import sys
from collections.abc import Sequence

from PIL import Image

from cada_jax.common.command_line import run_command
from cada_jax.data.datasets.synthetic.people import SPLITS, VARIANTS, Settings, generate
from tools.arguments import Parser, integer


def draw_sheet(settings: Settings, split: str, rows: int, columns: int) -> Image.Image:
    """A picture of rows * columns persons, with all images of each side by side."""
    pictures = []
    for example in generate(settings, split):
        if example.person == rows * columns:
            break
        pictures.append(Image.open(io.BytesIO(example.jpeg)))
        if example.image == 0:
            print(example.captions[0].text)
    (width, height), images = pictures[0].size, settings.images_per_person
    block, gap = images * width + 4, 4
    sheet = Image.new("RGB", (columns * block - gap, rows * (height + gap) - gap), "white")
    for number, picture in enumerate(pictures):
        person, image = divmod(number, images)
        row, column = divmod(person, columns)
        sheet.paste(picture, (column * block + image * width, row * (height + gap)))
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a sheet, twice as large as the pictures."""

    def work() -> int:
        parser = Parser("tools.contact_sheet", __doc__)
        parser.add_argument("--output", required=True, help="PNG file to write")
        parser.add_argument("--variant", choices=sorted(VARIANTS), default="demo")
        parser.add_argument("--split", choices=SPLITS, default="test")
        parser.add_argument("--rows", type=integer(1), default=4)
        parser.add_argument("--columns", type=integer(1), default=3)
        flags = parser.flags(argv)
        sheet = draw_sheet(VARIANTS[flags.variant], flags.split, flags.rows, flags.columns)
        sheet.resize((2 * sheet.width, 2 * sheet.height)).save(flags.output)
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
