"""A gallery of generated people without a model: records, searches and associations.

A search counts the caption's words that a query names, so that results follow the query.
"""

import functools
import io
import re
from typing import Any

from PIL import Image

from cada_jax.data.datasets.synthetic.people import VARIANTS, generate

HOSTILE = [
    "<img src=x onerror=document.title='owned'>.jpg",
    "a&b \"quoted\" 'single' %41 #?+;.jpg",
    "two\nlines \u202egpj.jpg",
    "</script><script>document.title='owned'</script>.jpg",
]
QUERY = "a man in orange shorts and a pink shirt"
ADDRESS = "?q=a+man+in+orange+shorts+and+a+pink+shirt"
SCENE = f"{3:032x}"  # a record with a person's box
GRID, LAYERS, HEADS = (12, 6), 3, 2
PICTURES = 60
SCALE = 3  # of a drawn person on the page


@functools.cache
def people() -> tuple[list[tuple[Image.Image, str]], ...]:
    """Images and captions of the tiny variant."""
    examples = generate(VARIANTS["tiny"], "train")
    pairs = [(Image.open(io.BytesIO(e.jpeg)).convert("RGB"), e.captions[0].text) for e in examples]
    return (pairs[:PICTURES],)


def make_records(names: list[str] | None = None) -> list[dict[str, Any]]:
    """Records as the API gives them; every fourth is one of two persons in a scene.

    Args:
      names: of the files, from the first on; the others are numbered.
    """
    (pairs,) = people()
    records = []
    for i, (image, caption) in enumerate(pairs):
        name = names[i] if names and i < len(names) else f"person_{i:03d}.jpg"
        scene, box = _scene(image, pairs[(i + 7) % len(pairs)][0]) if i % 4 == 3 else (image, None)
        if box is None:
            scene = scene.resize(
                (scene.width * SCALE, scene.height * SCALE), Image.Resampling.LANCZOS
            )
        folder = ("/photos/station", "/photos/station/north", "/photos/park")[i % 3]
        records.append(
            {
                "id": f"{i:032x}",
                "path": f"{folder}/{name}",
                "name": name,
                "folder": folder,
                "taken": f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}T08:30:00Z",
                "camera": ("North gate", "South gate")[i % 2],
                "box": box,
                "width": scene.width,
                "height": scene.height,
                "thumbnail": f"pictures/{i:032x}/thumbnail",
                "_caption": caption,
                "_scene": scene,
                "_files": {},
            }
        )
    return records


def jpeg(record: dict[str, Any], what: str) -> bytes:
    """The file of a "thumbnail", the person alone, or of an "image", the scene."""
    if what not in record["_files"]:
        scene, box = record["_scene"], record["box"]
        if what == "thumbnail" and box:
            x, y, width, height = box
            scene = scene.crop((x, y, x + width, y + height))
        file = io.BytesIO()
        scene.save(file, "JPEG", quality=90)
        record["_files"][what] = file.getvalue()
    return record["_files"][what]


def _scene(person: Image.Image, other: Image.Image) -> tuple[Image.Image, list[float]]:
    size = (person.width * SCALE, person.height * SCALE)
    width, height = size[0] * 5, round(size[1] * 1.3)
    ground = person.resize((1, 1)).resize((width, height))
    x, y = round(width * 0.58), round(height * 0.18)
    ground.paste(other.resize(size), (round(width * 0.2), y - 12))
    ground.paste(person.resize(size), (x, y))
    return ground, [float(x), float(y), float(size[0]), float(size[1])]


def search(records: list[dict[str, Any]], fields: dict[str, list[str]]) -> dict[str, Any]:
    """The answer to a search of records."""
    get = lambda name: fields.get(name, [""])[0]  # noqa: E731
    found = []
    for record in records:
        day = record["taken"][:10]
        if (
            not (record["folder"] + "/").startswith(get("folder").rstrip("/") + "/")
            and get("folder")
            or (get("camera") and record["camera"] != get("camera"))
            or (get("since") and day < get("since"))
            or (get("until") and day > get("until"))
        ):
            continue
        words = _words(record["_caption"])
        score = sum(len(_words(q) & words) for q in fields.get("q", []))
        score -= 3 * sum(len(_words(text) & words) for text in fields.get("not", []))
        if get("like"):
            other = next(r for r in records if r["id"] == get("like"))
            score += len(_words(other["_caption"]) & words)
        score = score / 2 - int(record["id"], 16) / 1000
        texts = bool(fields.get("q"))
        found.append(
            {k: v for k, v in record.items() if not k.startswith("_")}
            | {"similarity": 0.2, "match_logit": score if texts else None, "score": score}
        )
    found.sort(key=lambda result: -result["score"])
    return {
        "query": {},
        "seconds": 0.012,
        "gallery_size": len(records),
        "results": found[: int(get("k") or 10)],
    }


def _words(text: str) -> set[str]:
    common = {"a", "an", "the", "and", "with", "in", "is", "of", "wears", "wearing", "person"}
    return set(re.findall(r"[a-z]+", text.lower())) - common


def association(text: str, layer: str, head: str) -> dict[str, Any]:
    """A spot for each word, further to the right with each layer and down with each head."""
    rows, columns = GRID
    tokens = []
    for i, word in enumerate(re.findall(r"[a-z]+", text.lower())):
        r0 = (2 + 2 * i + int(head or 0)) % rows
        c0 = (1 + i + int(layer or 0)) % columns
        spot = [
            [1 / (1 + (r - r0) ** 2 + (c - c0) ** 2) for c in range(columns)] for r in range(rows)
        ]
        gates = [0.4 + 0.3 * ((i + n * n) % 5) for n in range(LAYERS)]
        tokens.append({"word": word, "gate": sum(gates) / LAYERS, "gates": gates, "map": spot})
    return {"grid": list(GRID), "layers": LAYERS, "heads": HEADS, "tokens": tokens}
