"""What each part of the method does in a trained model, measured.

    python -m tools.probe --model=pretrained:synthetic --out=runs/probe
    python -m tools.probe --model=runs/a/model --model=runs/b/model --out=runs/probe [--limit=500]

Five parts are measured on one split of a prepared set; the generated people are drawn first if they
are missing:

- the ATP gate by class of word and layer, beside the right image and another person's; then the
  re-ranking again with every gate at its layer's mean, and at 1;
- ARA's masked words: accuracy with the right image, another person's, and the mean of the split's
  image tokens (no image);
- negatives: how near those are that are drawn in batches, whether the match head refuses them, and
  how many rows would take batch row 0 in the released code, whose softmax underflows;
- re-ranking: the queries that it puts right and wrong, and, for the generated people, what the
  wrongly preferred images have to do with the captions;
- gradients: what each loss, with its weight, has to say about each part of the network.

--model may be given several times: models stand side by side, as the start and the end of a run.
The folder gets probe.json and probe.md. Every draw has a fixed seed.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from cada_jax.common.console import say
from cada_jax.common.files import write_text
from cada_jax.retrieval.ranking import rank
from tools.arguments import command, folder_to_make
from tools.measuring import measure_each, model_flags
from tools.probing import (
    gate,
    gradients,
    masked_words,
    negatives,
    report,
    reranking,
    word_classes,
)
from tools.probing.subject import SEED, Subject


def measure(subject: Subject) -> dict[str, Any]:
    """All measurements of one model: model, captions, images, and an entry for each part."""
    split, chosen = subject.split, subject.chosen
    attribute = (split.phrase_ids[chosen] > 0) | split.attribute_mask[chosen]
    tokenizer = subject.retriever.tokenizer
    words = word_classes.classify_tokens(subject.texts, tokenizer, subject.token_ids, attribute)
    found: dict[str, Any] = {
        "model": subject.name,
        "dataset": split.dataset,
        "split": split.name,
        "seed": SEED,
        "captions": len(chosen),
        "images": split.num_images,
        "gate": gate.measure_gate(subject, words),
        "masked_words": masked_words.measure_masked(subject, words),
        "negatives": negatives.measure_negatives(subject),
        "gradients": gradients.measure_gradients(subject),
    }
    queries = reranking.encode_captions(subject)
    k = subject.retriever.config.eval.rerank_top_k
    ranking = rank(subject.retriever, queries, subject.gallery, k)
    found["reranking"] = reranking.measure_reranking(subject, ranking)
    found["gate_worth"] = None
    if found["gate"]:
        found["gate_worth"] = gate.measure_worth(subject, queries, ranking, found["gate"])
    return found


def write(folder: pathlib.Path, found: list[dict[str, Any]]) -> str:
    """Writes both files into the folder; returns the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "probe.json", json.dumps(found, indent=1) + "\n")
    one, tables = found[0], report.make_tables(found)
    about = (
        f"# What each part does\n\n{one['dataset']}, {one['split']}: {one['captions']:,} captions, "
        f"{one['images']:,} images, seed {one['seed']}."
    )
    text = "\n\n".join([about, *(table.markdown() for table in tables)])
    write_text(folder / "probe.md", text + "\n")
    return text


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit code."""
    parser = model_flags("tools.probe", __doc__)
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--out", type=folder_to_make, required=True, help="folder to make")
    parser.add_argument("--limit", type=int, help="so many captions, drawn; all by default")
    flags = parser.flags(argv)
    print(write(flags.out, measure_each(flags, measure, flags.limit, flags.split)))
    say(f"Written: {flags.out / 'probe.json'}, probe.md")
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
