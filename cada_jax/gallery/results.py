"""What a search found: a table of text, one picture, or one HTML page that loads nothing."""

import base64
import html
import os
import pathlib
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from cada_jax.common.errors import UsageError
from cada_jax.common.files import absolute, whole_file, write_text
from cada_jax.gallery.photo import GoneError, crop_of
from cada_jax.gallery.printable import printable
from cada_jax.gallery.thumbnails import jpeg
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Hit

_GONE = "file is gone"
_TILE, _COLUMNS = (160, 240), 8  # of a sheet: pixels of a picture, pictures in a row
_INK, _MISSING = (25, 25, 30), (232, 232, 236)
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #666; }
@media (prefers-color-scheme: dark) { :root { --faint: #aaa; } }
body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem;
  list-style: none; padding: 0; }
li { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }
img, .gone { display: block; height: 14rem; width: 100%; object-fit: contain; }
.gone { align-content: center; text-align: center; background: var(--line); }
p { margin: .4rem 0 0; overflow-wrap: anywhere; }
.faint { color: var(--faint); font-size: .85rem; }
"""


def check_out(text: str, endings: tuple[str, ...]) -> pathlib.Path:
    """The path that `--out` names, looked at before the work.

    Raises:
      UsageError: another ending, no such folder, or something is there already.
    """
    path = pathlib.Path(absolute(text))
    if path.suffix.lower() not in endings:
        raise UsageError(f"--out={text!r}: expected a name that ends in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise UsageError(f"--out={text!r}: there is no folder {str(path.parent)!r}")
    if os.path.lexists(path):
        raise UsageError(f"--out={text!r} is there already: remove it, or choose another name")
    return path


def table(hits: Sequence[Hit]) -> str:
    """One line for each result under a header: rank, scores, the box where there is one, path.

    A "?" stands behind the rank of what is no good match.
    """
    boxed = any(hit.picture.box for hit in hits)
    lines = [f"{'':>5} {'score':>7} {'match':>7} {'similarity':>11}  {'box  ' * boxed}path"]
    for rank, hit in enumerate(hits, 1):
        box = f"{_box(hit, ',')}  " if hit.picture.box else ""
        mark = "?" if hit.good_match is False else " "
        lines.append(
            f"{rank:>4}{mark} {hit.score:>7.2f} {_match(hit):>7} {hit.similarity:>11.3f}  "
            f"{box}{printable(hit.name or hit.picture.id)}"
        )
    return "\n".join(lines)


def _match(hit: Hit) -> str:
    return "" if hit.match_logit is None else f"{hit.match_logit:.2f}"


def _box(hit: Hit, between: str) -> str:
    return between.join(f"{side:.0f}" for side in hit.picture.box or ())


def _shown(picture: Picture) -> Image.Image | None:
    """What was indexed of a picture; None where its file is gone or is another one by now."""
    try:
        return Image.fromarray(crop_of(picture))
    except GoneError:
        return None


def page(title: str, hits: Sequence[Hit]) -> str:
    """Results as one HTML page, with the pictures inside; `title` is what was asked."""
    heading = html.escape(printable(title))
    found = "\n".join(_item(rank, hit) for rank, hit in enumerate(hits, 1))
    count = "1 picture" if len(hits) == 1 else f"{len(hits)} pictures"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{heading}</h1>\n<p>{count}, best first</p>\n<ol>\n{found}\n</ol>\n"
        "</main>\n</body>\n</html>\n"
    )


def _item(rank: int, hit: Hit) -> str:
    name = html.escape(printable(os.path.basename(hit.name) or hit.picture.id))
    path = html.escape(printable(hit.name))
    image = _shown(hit.picture)
    shown = f'<div class="gone">{_GONE}</div>'
    if image is not None:
        data = base64.b64encode(jpeg(image, (240, 320))).decode()
        shown = f'<img alt="result {rank}: {name}" src="data:image/jpeg;base64,{data}">'
    if os.path.isabs(hit.name):
        path = f'<a href="{html.escape(pathlib.PurePath(hit.name).as_uri())}">{path}</a>'
    match = f", match {_match(hit)}" if _match(hit) else ""
    place = f" at {_box(hit, ', ')}" if hit.picture.box else ""
    return (
        f"<li>{shown}<p>{rank}. score {hit.score:.2f}</p>"
        f'<p class="faint">similarity {hit.similarity:.3f}{match}</p>'
        f'<p class="faint">{path}{place}</p></li>'
    )


def sheet(title: str, hits: Sequence[Hit]) -> Image.Image:
    """Results as one picture, best first, from left to right; `title` is what was asked."""
    across = max(1, min(_COLUMNS, len(hits)))
    (wide, high), font = _TILE, ImageFont.load_default(13)
    step = wide + 12, high + 52
    lines = textwrap.wrap(printable(title), across * 18) or [""]
    size = across * step[0] + 36, len(lines) * 26 + -(-len(hits) // across) * step[1] + 48
    drawn = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(drawn)
    draw.text((24, 24), "\n".join(lines), _INK, ImageFont.load_default(18), spacing=8)
    for number, hit in enumerate(hits):
        x = 24 + number % across * step[0]
        y = 24 + len(lines) * 26 + number // across * step[1]
        image = _shown(hit.picture)
        if image is None:
            draw.rectangle((x, y, x + wide - 1, y + high - 1), _MISSING)
            draw.text((x + wide / 2, y + high / 2), _GONE, _INK, font, anchor="mm")
        else:
            image = ImageOps.contain(image, _TILE)
            drawn.paste(image, (x + (wide - image.width) // 2, y + high - image.height))
        name = printable(os.path.basename(hit.name) or hit.picture.id)[-22:]
        caption = f"{number + 1}   score {hit.score:.2f}\n{name}"
        draw.text((x, y + high + 4), caption, _INK, font)
    return drawn


def save(path: pathlib.Path, title: str, hits: Sequence[Hit]) -> None:
    """Writes the page or, by the ending .png, the sheet; whole or not at all."""
    if path.suffix.lower() != ".png":
        write_text(path, page(title, hits))
        return
    with whole_file(path) as partial:
        sheet(title, hits).save(partial, "PNG")
