"""Draws which patches of a picture made every word of a description match, for papers.

    python -m cada_jax maps --model=runs/demo/model --image=photo.jpg "a man in red" --out=maps.pdf
    python -m cada_jax maps --model=DIR --image=photo.jpg "a man in red" --out=maps.png --per_layer
    python -m cada_jax maps --model=DIR --image=photo.jpg "a man in red" --out=maps.npz

A map is attention times gradient: the decoder's cross-attention of a word, each weight times what
the match logit gains by it. The words of one attribute phrase, as "red coat", share their map.
--layer and --head, counted from 0, choose the bare attention of one of them; --per_layer draws a
row for each layer. The number behind a word is its gate: 1 is neutral, 0 lets nothing of the
picture in, 2 the most.

The .npz file holds words [W], maps [W,rows,columns], weights [W,layers,heads,rows,columns],
gates [W,layers] and the caption. PNG and PDF need matplotlib: pip install 'cada_jax[search]'.

The exit status is 0, or 2 if nothing could be drawn.
"""

import argparse
from typing import TYPE_CHECKING

from cada_jax.common.command_line import DONE, Flags, run_command

if TYPE_CHECKING:
    from cada_jax.retriever import Retriever


def main(argv: list[str] | None = None, retriever: "Retriever | None" = None) -> int:
    """Parses the flags and draws; returns the exit status.

    Args:
      argv: the arguments; those of the process if None.
      retriever: the model, loaded from --model if None.
    """
    return run_command(lambda: _draw(_parse(argv), retriever))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Flags("cada_jax maps", __doc__)
    add = parser.add_argument
    add("text", metavar="TEXT", help="the description")
    add("--model", required=True, help="a model folder or pretrained:NAME")
    add("--image", required=True, help="the picture")
    add("--out", required=True, metavar="FILE", help="maps.png, maps.pdf or maps.npz")
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument("--layer", type=int, help="of the decoder, from 0; all if not given")
    layers.add_argument("--per_layer", action="store_true", help="a row for each layer")
    add("--head", type=int, help="of the cross-attention, from 0; all if not given")
    return parser.parse_args(argv)


def _draw(flags: argparse.Namespace, retriever: "Retriever | None") -> int:
    import dataclasses

    from PIL import Image

    from cada_jax.common.errors import UsageError
    from cada_jax.common.images import read_rgb
    from cada_jax.gallery import maps_figure
    from cada_jax.gallery.results import check_out
    from cada_jax.retrieval.association_maps import word_associations
    from cada_jax.retriever import load_model
    from cada_jax.text.attribute_phrases import caption_problem

    out = check_out(flags.out, (".png", ".pdf", ".npz"))
    if problem := caption_problem(flags.text):
        raise UsageError(problem)
    pixels = read_rgb(flags.image)
    network = retriever or load_model(flags.model)
    seen = word_associations(network, pixels, flags.text, flags.layer, flags.head)
    if out.suffix.lower() == ".npz":
        maps_figure.save_arrays(out, flags.text, seen, network.digest)
        return DONE
    rows = [("", seen)]
    if flags.per_layer:
        layers = range(seen.weights.shape[1])
        rows = [(f"layer {i}", dataclasses.replace(seen, layer=i)) for i in layers]
    maps_figure.save_figure(out, Image.fromarray(pixels), rows)
    return DONE
