"""Measures what the options of a search do, on generated people whose attributes are known.

    python -m tools.search.quality --model=runs/demo/model
    python -m tools.search.quality --model=pretrained:synthetic --only=attributes

exclude: of ten results for "a woman in a red top", how many show what --not names, how many are the
  people described, and how many are these without what is excluded; then what an exclusion that is
  needless costs a full caption, in R@1.
phrasings: R@1 of one caption of a picture, and of both of its captions as one query.
like: other pictures of a person by words, by a picture, and by both, without the picture itself.
attributes: how often the first or one of the first three answers of the attribute decoder is the
  true one, beside the commonest value and beside the reading of another picture.

A line of JSON for each. The pictures are those of the demo's test split, or of another --variant.
"""

import json
import sys
from collections.abc import Sequence

from cada_jax.data.datasets.synthetic.people import VARIANTS
from cada_jax.retriever import load_model
from tools.arguments import Parser, command
from tools.search import attributes, options
from tools.search.pictures import draw

MEASURES = {
    "exclude": options.measure_exclude,
    "phrasings": options.measure_phrasings,
    "like": options.measure_like,
    "attributes": attributes.measure_attributes,
}


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit status."""
    parser = Parser("tools.search.quality", __doc__)
    parser.add_argument("--model", required=True, help="a model folder or pretrained:NAME")
    parser.add_argument("--variant", choices=VARIANTS, default="demo", help="of generated people")
    parser.add_argument("--only", choices=MEASURES, help="one measure; all if not given")
    parser.add_argument("--queries", type=int, default=400, help="of each measure (400)")
    flags = parser.flags(argv)
    retriever = load_model(flags.model)
    shown = draw(flags.variant, "test")
    for name in [flags.only] if flags.only else MEASURES:
        for line in MEASURES[name](retriever, shown, flags.queries):
            print(json.dumps({"measure": name} | line), flush=True)
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
