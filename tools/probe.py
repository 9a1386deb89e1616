"""What each part of the method does in a trained model, measured.

    python -m tools.probe --model=pretrained:synthetic --out=runs/probe
    python -m tools.probe --model=runs/a/model --model=runs/b/model --out=runs/probe [--limit=500]

Six parts are measured on one split of a prepared set; the generated people are drawn first if they
are missing:

- the ATP gate by class of word and layer, beside the right image and another person's; then the
  re-ranking again with every gate at its layer's mean, and at 1;
- ARA's masked words: accuracy with the right image, another person's, and the mean of the split's
  image tokens (no image);
- negatives: how near those are that are drawn in batches, whether the match head refuses them, and
  how many rows would take batch row 0 in the released code, whose softmax underflows;
- re-ranking: the queries that it puts right and wrong, and, for the generated people, what the
  wrongly preferred images have to do with the captions;
- gradients: what each loss, with its weight, has to say about each part of the network;
- for the generated people, which attributes a linear map reads from the images' embeddings and
  tokens; it is fitted on the train split.

--model may be given several times: models stand side by side, as the start and the end of a run.
The folder gets probe.json, probe.md and, for each model, two pictures. Every draw has a fixed seed.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from cada_jax.checkpoints.model import resolve_model
from cada_jax.common.command_line import run_command
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import say
from cada_jax.common.files import write_text
from cada_jax.retrieval.ranking import rank
from tools.arguments import Parser, folder_to_make, integer
from tools.probing import (
    gate,
    gradients,
    masked_words,
    negatives,
    pictures,
    readout,
    report,
    reranking,
    word_classes,
)
from tools.probing.subject import SEED, Subject, load_subject

DIGITS = 5


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
        "readout": readout.measure_readout(subject),
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
    """Writes everything into the folder; returns the tables as plain text."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "probe.json", json.dumps(rounded(found), indent=1) + "\n")
    tables = report.make_tables(found)
    one = found[0]
    about = (
        f"# What each part does\n\n{one['dataset']}, {one['split']}: {one['captions']:,} captions, "
        f"{one['images']:,} images, seed {one['seed']}."
    )
    shown = []
    for number, one in enumerate(found):
        name = "" if len(found) == 1 else f"-{number + 1}"
        if one["gate"]:
            pictures.draw_gates(folder / f"gate{name}.svg", one["gate"])
            shown.append(f"![Gate, {one['model']}](gate{name}.svg)")
        if one["masked_words"]["alone"]["classes"]:
            pictures.draw_masked(folder / f"masked{name}.svg", one["masked_words"]["alone"])
            shown.append(f"![Masked words, {one['model']}](masked{name}.svg)")
    text = "\n\n".join([about, *(table.markdown() for table in tables), *shown])
    write_text(folder / "probe.md", text + "\n")
    return "\n\n".join(table.plain() for table in tables)


def rounded(value: Any) -> Any:
    """Lists and dicts with all floats rounded to `DIGITS`."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit code."""
    parser = Parser("tools.probe", __doc__)
    parser.add_argument(
        "--model", action="append", required=True, help="folder of an exported model, or NAME"
    )
    parser.add_argument("--dataset", default="synthetic/demo", help="NAME or NAME/VARIANT")
    parser.add_argument("--data_dir", help="of prepared sets; $CADA_DATA_DIR or ~/cada_data")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--out", type=folder_to_make, required=True, help="folder to make")
    parser.add_argument("--limit", type=integer(2), help="so many captions, drawn; all by default")
    flags = parser.flags(argv)
    for model in flags.model:  # before minutes are spent on the first
        resolve_model(model)
    enable_compilation_cache()
    found = []
    for model in flags.model:
        subject = load_subject(model, flags.dataset, flags.split, flags.limit, flags.data_dir)
        say(f"Measuring {model} on {flags.dataset} {flags.split}.")
        found.append(measure(subject))
    print(write(flags.out, found))
    say(f"Written: {flags.out / 'probe.json'}, probe.md and pictures")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
