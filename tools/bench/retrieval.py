"""Times an evaluation: encode images and texts, stage one, re-ranking; needs no data.

    python -m tools.bench.retrieval --against=torch        full size, this CPU
    python -m tools.bench.retrieval --gpu                  ICFG-PEDES's size, one accelerator
    python -m tools.bench.retrieval --plot=cost.svg        three sizes: the cost must grow linearly
    python -m tools.bench.retrieval --size=small           seconds, to see that it works

Images are noise, parameters random, and each text's k images are drawn at random: trained models
agree more on which images are wanted, and sharing them is what makes re-ranking cheap. By default
32 texts want each image, as on average where there are as many texts as images and k = 32. PyTorch
runs Hugging Face's BLIP with the same parameters as the released CADA code does, text by text; its
scores must be ours within 1e-5, else the exit status is 1. The last line is a JSON object.
"""

import pathlib
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from cada_jax.common.command_line import run_command
from tools.arguments import drawing, integer
from tools.bench import flops, plot, report
from tools.bench.side import Side
from tools.bench.work import make_config

TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2}  # of the scores, relative to the largest
HEADER = ("stage", "s", "torch s", "ratio", "rows/s", "GFLOP", "MFU %")


def draw_indices(queries: int, gallery: int, k: int) -> np.ndarray:
    """The k images of each text, int [Q,k], all different."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(gallery)[:k] for _ in range(queries)])


def evaluate_once(flags, ours: Side, queries: int, gallery: int, repeats: int) -> dict:
    """Seconds of each stage, after one run that compiles; and the scores."""
    indices = draw_indices(queries, gallery, flags.topk)
    ours.call("embed", queries, gallery, flags.encode_batch)
    embed = ours.call("embed", queries, gallery, flags.encode_batch)
    ours.call("topk", flags.topk)
    first, logits = ours.call("rerank", indices, flags.batch)
    seconds = [ours.call("rerank", indices, flags.batch)[0] for _ in range(repeats)]
    return {
        "image": embed["image"],
        "text": embed["token_ids"],
        "topk": ours.call("topk", flags.topk),
        "rerank": report.median(seconds),
        "first": first,
        "logits": logits,
        "indices": indices,
    }


def race_torch(flags, ours: Side, theirs: Side, indices: np.ndarray, logits: np.ndarray) -> dict:
    """Re-ranks in turn on both sides, a text of PyTorch's and all of ours.

    Args:
      flags: from the command line.
      ours: our process, with an encoded gallery.
      theirs: PyTorch's; it takes our parameters.
      indices: the images of each text, int [Q,k].
      logits: our scores of them, float [Q,k].

    Returns:
      "ours": seconds of all texts, each turn; "torch": seconds of a text, each turn; "difference":
      the largest of the scores, relative to the largest score.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "weights.npz")
        ours.call("save_torch", path)
        theirs.call("load", path)
    captions, differences = ours.call("captions"), []
    seconds = {"ours": [], "torch": []}
    for turn in range(-1, flags.repeats):  # the first one only warms up
        query = turn % flags.queries
        tokens = ours.call("gallery_tokens", indices[query])
        once, scores = theirs.call("rerank", captions[query], tokens)
        differences.append(np.abs(logits[query] - scores).max() / np.abs(scores).max())
        if turn >= 0:
            seconds["torch"].append(once)
            seconds["ours"].append(ours.call("rerank", indices, flags.batch)[0])
    return {**seconds, "difference": float(max(differences))}


def table_rows(flags, m: dict, per_query: float, other: float | None, mfu: float) -> list[tuple]:
    """The stages, as `HEADER` has them.

    Args:
      flags: from the command line.
      m: from `evaluate_once`, with "gflop" a query.
      per_query: seconds of re-ranking a text.
      other: PyTorch's, if it was asked.
      mfu: of re-ranking, in percent.
    """
    config = make_config(report.settings_of(flags))
    full, k = config.data.max_length, flags.topk
    images = flops.encode_image(config, flags.gallery) / 1e9
    texts = flops.encode_text(config, flags.queries, full) / 1e9
    total = m["image"] + m["text"] + m["topk"] + per_query * flags.queries
    none = None, None
    return [
        ("encode images", m["image"], *none, flags.gallery / m["image"], images, None),
        ("encode texts", m["text"], *none, flags.queries / m["text"], texts, None),
        ("top k", m["topk"], *none, flags.queries / m["topk"], *none),
        ("re-rank, a query", per_query, other, other and other / per_query, k / per_query)
        + (m["gflop"], mfu),
        ("all of it", total, *none, flags.queries / total, *none),
    ]


def describe(flags, m: dict, products: tuple, device: str, peak: int) -> str:
    """Where this ran, on what work, and what the ceilings are."""
    of_torch = f" (torch {products[1] / 1e9:.0f})" if products[1] else ""
    return (
        f"{report.machine(flags, device)}; {flags.size} size, {flags.queries} texts of "
        f"{flags.words[0]} to {flags.words[1]} words x {flags.gallery} images, k = {flags.topk}, "
        f"up to {flags.batch} texts at once; peak memory {peak / 2**30:.2f} GiB\n"
        f"Large matrix product: {products[0] / 1e9:.0f} GFLOP/s{of_torch}; the released "
        f"schedule's re-ranking takes {m['released_gflop']:.3g} GFLOP a query; the first run, "
        f"which compiles, took {m['first']:.1f} s\n"
    )


def result_of(m: dict, per_query: float, queries: int, raced: dict | None, device: str) -> dict:
    """What the JSON line holds; arguments as in `run`."""
    other = report.median(raced["torch"]) if raced else None
    stages = {name: m[name] for name in ("image", "text", "topk")}
    stages["rerank"] = per_query * queries
    return {
        "ratio": {"rerank": round(other / per_query, 3)} if other else {},
        "seconds": stages | {"all": sum(stages.values())},
        "rerank_seconds_per_query": per_query,
        "torch_seconds_per_query": other,
        "gflop_per_query": m["gflop"],
        "released_gflop_per_query": m["released_gflop"],
        "score_difference": raced["difference"] if raced else None,
        "device": device,
    }


def run(flags, ours: Side, theirs: Side | None) -> tuple[dict, int]:
    """Measures, prints the table; returns the JSON object and the exit code."""
    config = make_config(report.settings_of(flags))
    products = ours.call("product"), theirs.call("product") if theirs else None
    repeats = 1 if theirs else flags.repeats
    m = evaluate_once(flags, ours, flags.queries, flags.gallery, repeats)
    raced = race_torch(flags, ours, theirs, m["indices"], m["logits"]) if theirs else None
    seconds = report.median(raced["ours"]) if raced else m["rerank"]
    per_query = seconds / flags.queries
    other = report.median(raced["torch"]) if raced else None
    done = ours.call("rerank_flops", m["indices"], flags.batch) / flags.queries
    m["gflop"] = done / 1e9
    m["released_gflop"] = flops.decode(config, flags.topk, config.data.max_length, flags.topk) / 1e9
    device = ours.call("device")
    print(describe(flags, m, products, device, ours.call("peak")))
    mfu = 100 * done / per_query / products[0]
    print(report.table(HEADER, table_rows(flags, m, per_query, other, mfu)))
    result = result_of(m, per_query, flags.queries, raced, device)
    if raced is None:
        return result, 0
    difference = raced["difference"]
    if not difference <= TOLERANCE[flags.dtype]:  # nor if it is no number
        print(f"FAIL: scores differ from PyTorch's by {difference:.1e} of the largest")
        return result, 1
    print(f"Scores are PyTorch's within {difference:.1e} of the largest")
    return result, 0


def run_plot(flags, ours: Side) -> dict:
    """Measures three sizes and draws them; the cost a pair and an image must not grow."""
    pairs, images, rows = [], [], []
    for factor in (1, 2, 4):
        queries, gallery = factor * flags.queries, factor * flags.gallery
        m = evaluate_once(flags, ours, queries, gallery, 1)
        pairs.append((queries * flags.topk, m["rerank"] + m["topk"] + m["text"]))
        images.append((gallery, m["image"]))
        each = 1e3 * m["image"] / gallery, 1e3 * m["rerank"] / (queries * flags.topk)
        rows.append((queries, gallery, m["image"], m["text"], m["topk"], m["rerank"], *each))
    series: dict[str, plot.Points] = {
        f"texts x {flags.topk} pairs, ranked": pairs,
        "images, encoded": images,
    }
    header = ("queries", "gallery", "images s", "texts s", "top k s", "re-rank s")
    print(report.table(header + ("ms an image", "ms a pair"), rows))
    plot.plot(flags.plot, f"Cost of an evaluation, {flags.size} size", series)
    print(f"Drawn in {flags.plot}")
    return {"pairs": pairs, "images": images}


def read_flags(argv: Sequence[str] | None):
    """The flags, with the sizes filled in."""
    parser = report.common_flags("tools.bench.retrieval", __doc__)
    add = parser.add_argument
    add("--queries", type=integer(1), help="texts (32; 19,848 with --gpu)")
    add("--gallery", type=integer(1), help="images (32; 19,848 with --gpu)")
    add("--topk", type=integer(1), default=32, help="images of each text that are re-ranked")
    add("--batch", type=integer(1), help="longest texts decoded at once (64; 2048 with --gpu)")
    add("--encode_batch", type=integer(1),
        help="images or texts encoded at once (16; 512 with --gpu)")  # fmt: skip
    add("--plot", metavar="FILE.svg", type=drawing(plot.MARK),
        help="measure three sizes and draw them")  # fmt: skip
    flags = report.read_flags(parser, argv)
    for name, small, large in (
        ("queries", 32, 19848),
        ("gallery", 32, 19848),
        ("batch", 64, 2048),
        ("encode_batch", 16, 512),
    ):
        if getattr(flags, name) is None:
            setattr(flags, name, large if flags.gpu else small)
    if flags.topk > flags.gallery:
        parser.error(f"--topk={flags.topk} exceeds --gallery={flags.gallery}")
    if flags.plot and flags.against != "none":
        parser.error("--plot measures our side alone: leave --against out")
    return flags


def work_of(argv: Sequence[str] | None) -> int:
    """Reads the flags, measures, prints table and JSON; returns the exit code."""
    flags = read_flags(argv)

    def measure(ours, theirs):
        if flags.gpu and ours.call("device") == "cpu":
            print(
                f"No accelerator here. With one this would score {flags.queries} texts x "
                f"{flags.gallery} images, k = {flags.topk}, in {flags.dtype}; target: under 60 s"
            )
            return None
        return (run_plot(flags, ours), 0) if flags.plot else run(flags, ours, theirs)

    return report.race(flags, report.settings_of(flags), measure)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: work_of(argv))


if __name__ == "__main__":
    sys.exit(main())
