"""Whether the patches that light up for a word are those of the thing that it names.

    python -m tools.pointing --model=runs/demo/model [--model=DIR ...] [--dataset=synthetic/demo]
                             [--captions=200] [--out=FILE.json]

Where a part of a generated person is in a picture is known. A patch belongs to a part if the part
covers at least half as much of it as of the patch that it covers most. For each way to make maps:
the share of words whose heaviest patch belongs to the part that they name ("hit"), and the weight
of the map inside the part ("inside", in percent of all weight); "random" is a patch drawn at random
and a map that is even. Words are nouns ("trousers") and colors before them ("yellow").
"""

import io
import pathlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.drawing import part_mask
from cada_jax.models.vit import patch_grid
from cada_jax.retrieval.association_maps import Associations, associations
from tools.arguments import command
from tools.measuring import measure_each, model_flags, show
from tools.probing.subject import Subject
from tools.probing.word_classes import COLOUR, attributes_of_words, class_of

PARTS = ("headwear", "scarf", "top", "outer", "bottom", "shoes", "bag", "item", "eyewear")
FEWEST_PIXELS = 12  # of a part that is worth pointing at
KINDS = ("noun", "color")
DEFAULT = "attention x gradient, phrases share"


class Named(NamedTuple):
    """A phrase that names a part of the person in a picture.

    caption: row among the chosen; tokens: places of its tokens; noun, color: those of its words
    that name the thing and its color; covered: float [patches], the share of each that the part
    covers.
    """

    caption: int
    tokens: np.ndarray
    noun: np.ndarray
    color: np.ndarray
    covered: np.ndarray


def named_parts(subject: Subject) -> Iterator[Named]:
    """The phrases of the chosen captions that name one part which shows."""
    split, config = subject.split, subject.retriever.config
    settings = people.VARIANTS[config.data.variant or people.DEMO.name]
    persons = people.make_identities(settings, split.name)
    first, of_word = settings.first_pid(split.name), attributes_of_words()
    grid, patch = patch_grid(config.model.image), config.model.image.patch
    tokenizer = subject.retriever.tokenizer
    for row, caption in enumerate(subject.chosen):
        image = split.caption_image[caption]
        number = int(split.image_pids[image]) - first
        path = pathlib.PurePath(split.image_paths[image])
        person, place = persons[number], int(path.stem[-2:]) - 1
        shot, _ = people.make_captions(settings, split.name, person, number, place)
        words = np.array(tokenizer.tokens(split.token_ids[caption]), object)
        phrases = split.phrase_ids[caption]
        for phrase in range(1, phrases.max() + 1):
            tokens = np.flatnonzero(phrases == phrase)
            told = np.array([of_word.get(word) for word in words[tokens]], object)
            named = {part for part in told if part in PARTS}
            if "hair_style" in told or len(named) != 1:
                continue
            part = named.pop()
            mask = part_mask(person, shot, part, settings.world.look)
            if mask.sum() < FEWEST_PIXELS:
                continue
            covered = mask.reshape(grid[0], patch[0], grid[1], patch[1]).mean(axis=(1, 3))
            colors = [class_of(word, True) == COLOUR for word in words[tokens]]
            yield Named(row, tokens, tokens[told == part], tokens[colors], covered.reshape(-1))


def maps_of(seen: Associations, named: Named) -> dict[str, np.ndarray]:
    """A map for each token of a caption by each way that the decoder's one pass allows: [L,S-1]."""
    weights = seen.weights[:, named.caption, :, :, 1:]
    relevance = seen.relevance[named.caption, :, 1:]
    mean = weights.mean(axis=(0, 1))

    def shared(maps):
        """The tokens of the phrase with their mean."""
        maps = maps.copy()
        maps[named.tokens] = maps[named.tokens].mean(axis=0)
        return maps

    found = {
        DEFAULT: shared(relevance),
        "attention x gradient": relevance,
        "attention, mean": mean,
        "attention, mean, phrases share": shared(mean),
    }
    if seen.gates is not None:
        gates = seen.gates[:, named.caption]
        share = (gates / np.maximum(gates.sum(axis=0), 1e-12))[..., None]
        found["attention, weighted by gates"] = (weights.mean(axis=1) * share).sum(axis=0)
    for layer, of_layer in enumerate(weights):
        found[f"attention, layer {layer}"] = of_layer.mean(axis=0)
        for head, of_head in enumerate(of_layer):
            found[f"attention, layer {layer}, head {head}"] = of_head
    return found


def points(weights: np.ndarray, covered: np.ndarray) -> tuple[float, float]:
    """(hit, inside) of one map, float [patches]; what is negative counts as 0."""
    belongs = covered >= covered.max() / 2
    weights = np.maximum(weights, 0.0)
    if not weights.any():  # nothing lights up: as good as random
        return float(belongs.mean()), float(covered.mean())
    share = weights / weights.sum()
    return float(belongs[weights.argmax()]), float(share @ covered)


def measure(subject: Subject) -> dict[str, Any]:
    """Figures in percent of every way, by the kind of word: {way: {kind: (hit, inside)}}."""
    split = subject.split
    images = [Image.open(io.BytesIO(split.images[i])).convert("RGB") for i in subject.right]
    pixels = np.stack([np.asarray(image) for image in images])
    seen = associations(subject.retriever, pixels, subject.token_ids)
    parts = list(named_parts(subject))
    found: Mapping = defaultdict(lambda: defaultdict(list))
    for named in parts:
        for kind, tokens in zip(KINDS, (named.noun, named.color), strict=True):
            if not len(tokens):
                continue
            even = np.full_like(named.covered, 1.0)
            belongs = (named.covered >= named.covered.max() / 2).mean()
            found["random"][kind].append((belongs, points(even, named.covered)[1]))
            for way, maps in maps_of(seen, named).items():
                found[way][kind].append(points(maps[tokens].mean(axis=0), named.covered))
    ways = {
        way: {kind: (100 * np.mean(values, axis=0)).tolist() for kind, values in kinds.items()}
        for way, kinds in found.items()
    }
    return {"model": subject.name, "phrases": len(parts), "ways": ways}


def table(found: Sequence[dict[str, Any]]) -> str:
    """The figures of all models as a table of Markdown."""
    lines = ["| map | " + " | ".join(f"{one['model']}: noun, color" for one in found) + " |"]
    lines.append("|---|" + "---|" * len(found))
    for way in found[0]["ways"]:
        cells = []
        for one in found:
            figures = [one["ways"][way][kind] for kind in KINDS]
            cells.append(", ".join(f"{hit:.1f} / {inside:.1f}" for hit, inside in figures))
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, f"\nhit / inside of {found[0]['phrases']} phrases, in percent"])


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit code."""
    parser = model_flags("tools.pointing", __doc__)
    parser.add_argument("--captions", type=int, default=200, help="200 by default")
    parser.add_argument("--out", help="JSON file of all figures")
    flags = parser.flags(argv)
    found = measure_each(flags, measure, flags.captions)
    return show(found, table, flags.out)


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
