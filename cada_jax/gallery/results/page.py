"""Results as one HTML file: thumbnails are inside, nothing is loaded from elsewhere."""

import base64
import html
import io
import os
import pathlib
from collections.abc import Sequence

from cada_jax.common.files import write_text
from cada_jax.gallery.results.crops import crop_of, fitted
from cada_jax.gallery.results.printable import printable
from cada_jax.retriever import Hit

THUMBNAIL, QUALITY = (240, 320), 85
STYLE = """
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


def page(title: str, hits: Sequence[Hit]) -> str:
    """The page as HTML.

    Args:
      title: what was asked.
      hits: best first; of a file that is gone the page says so.
    """
    heading = html.escape(printable(title))
    found = "\n".join(_item(rank, hit) for rank, hit in enumerate(hits, 1))
    count = "1 picture" if len(hits) == 1 else f"{len(hits)} pictures"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="generator" content="cada_jax search">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{heading}</h1>\n<p>{count}, best first</p>\n<ol>\n{found}\n</ol>\n"
        "</main>\n</body>\n</html>\n"
    )


def _item(rank: int, hit: Hit) -> str:
    name = html.escape(printable(os.path.basename(hit.name) or hit.picture.id))
    path = html.escape(printable(hit.name))
    image = crop_of(hit.picture)
    if image is None:
        shown = '<div class="gone">file is gone</div>'
    else:
        file = io.BytesIO()
        fitted(image, THUMBNAIL).save(file, "JPEG", quality=QUALITY)
        data = base64.b64encode(file.getvalue()).decode()
        shown = f'<img alt="result {rank}: {name}" src="data:image/jpeg;base64,{data}">'
    match = "" if hit.match_logit is None else f", match {hit.match_logit:.2f}"
    box = hit.picture.box
    place = "" if box is None else f" at {', '.join(f'{side:.0f}' for side in box)}"
    target = _address(hit.name)
    link = f'<a href="{html.escape(target)}">{path}</a>' if target else path
    return (
        f"<li>{shown}<p>{rank}. score {hit.score:.2f}</p>"
        f'<p class="faint">similarity {hit.similarity:.3f}{match}</p>'
        f'<p class="faint">{link}{place}</p></li>'
    )


def _address(path: str) -> str:
    """The file as an address, "" for a name that is no absolute path."""
    return pathlib.PurePath(path).as_uri() if os.path.isabs(path) else ""


def save_page(path: str | os.PathLike, title: str, hits: Sequence[Hit]) -> None:
    """Writes `page` to a file, whole or not at all."""
    write_text(path, page(title, hits))
