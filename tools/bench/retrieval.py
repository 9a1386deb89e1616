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

import numpy as np

from tools.bench import flops, report, work

TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2}  # of the scores, relative to the largest


def draw_indices(queries: int, gallery: int, k: int) -> np.ndarray:
    """The k images of each text, int [Q,k], all different."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(gallery)[:k] for _ in range(queries)])


def evaluate_once(flags, ours, queries: int, gallery: int, repeats: int) -> dict:
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


def run(flags, ours, theirs) -> tuple[dict, int]:
    """Measures, prints the table; returns the JSON object and the exit status."""
    config = work.make_config(flags.size, "float32", flags.depth)
    ceiling = ours.call("product")
    repeats = flags.repeats if not theirs else 1
    m = evaluate_once(flags, ours, flags.queries, flags.gallery, repeats)
    per_query, other, status, difference = m["rerank"] / flags.queries, None, 0, None
    ours_seconds, torch_seconds = [], []
    ceiling_torch = None
    if theirs:
        ceiling_torch = theirs.call("product")
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "weights.npz")
            ours.call("save_torch", path)
            theirs.call("load", path)
        captions, differences = ours.call("captions"), []
        for i in range(-1, flags.repeats):  # the first one only warms up
            query = i % flags.queries
            rows = m["indices"][query]
            seconds, logits = theirs.call(
                "rerank", captions[query], ours.call("gallery_tokens", rows)
            )
            mine = m["logits"][query]
            differences.append(np.abs(mine - logits).max() / np.abs(logits).max())
            if i >= 0:
                torch_seconds.append(seconds)
                ours_seconds.append(ours.call("rerank", m["indices"], flags.batch)[0])
        per_query = report.median(ours_seconds) / flags.queries
        other, difference = report.median(torch_seconds), float(max(differences))
        allowed = TOLERANCE[flags.dtype or ("bfloat16" if flags.gpu else "float32")]
        status = 0 if difference <= allowed else 1
    k, full = flags.topk, config.data.max_length
    done = ours.call("rerank_flops", m["indices"], flags.batch)
    plain = flags.queries * flops.decode(config, k, full, k)
    total = m["image"] + m["text"] + m["topk"] + per_query * flags.queries
    encode = (
        flops.encode_image(config, flags.gallery),
        flops.encode_text(config, flags.queries, full),
    )
    gflop, mfu = done / flags.queries / 1e9, 100 * done / flags.queries / per_query / ceiling
    none = None, None
    rows = [
        ("encode images", m["image"], *none, flags.gallery / m["image"], encode[0] / 1e9, None),
        ("encode texts", m["text"], *none, flags.queries / m["text"], encode[1] / 1e9, None),
        ("top k", m["topk"], *none, flags.queries / m["topk"], *none),
        ("re-rank, a query", per_query, other, other and other / per_query, k / per_query)
        + (gflop, mfu),
        ("all of it", total, *none, flags.queries / total, *none),
    ]
    device, peak = ours.call("device"), ours.call("peak") / 2**30
    print(
        f"{report.machine(flags, device)}; {flags.size} size, {flags.queries} texts of "
        f"{flags.words[0]} to {flags.words[1]} words x {flags.gallery} images, k = {k}, "
        f"up to {flags.batch} texts at once; peak memory {peak:.2f} GiB"
    )
    of_torch = f" (torch {ceiling_torch / 1e9:.0f})" if theirs else ""
    print(
        f"Large matrix product: {ceiling / 1e9:.0f} GFLOP/s{of_torch}; the released schedule's "
        f"re-ranking takes {plain / flags.queries / 1e9:.3g} GFLOP a query; the first run, which "
        f"compiles, took {m['first']:.1f} s\n"
    )
    header = ("stage", "s", "torch s", "ratio", "rows/s", "GFLOP", "MFU %")
    print(report.table(header, rows))
    result = {
        "ratio": {"rerank": round(other / per_query, 3)} if theirs else {},
        "seconds": {name: m[name] for name in ("image", "text", "topk")}
        | {"rerank": per_query * flags.queries, "all": total},
        "rerank_seconds_per_query": per_query,
        "torch_seconds_per_query": other,
        "gflop_per_query": done / flags.queries / 1e9,
        "released_gflop_per_query": plain / flags.queries / 1e9,
        "score_difference": difference,
        "device": device,
    }
    if status:
        print(f"FAIL: scores differ from PyTorch's by {difference:.1e} of the largest")
    elif theirs:
        print(f"Scores are PyTorch's within {difference:.1e} of the largest")
    return result, status


def run_plot(flags, ours) -> dict:
    """Measures three sizes and draws them; the cost a pair and an image must not grow."""
    pairs, images, rows = [], [], []
    for factor in (1, 2, 4):
        queries, gallery = factor * flags.queries, factor * flags.gallery
        m = evaluate_once(flags, ours, queries, gallery, 1)
        pairs.append((queries * flags.topk, m["rerank"] + m["topk"] + m["text"]))
        images.append((gallery, m["image"]))
        each = 1e3 * m["image"] / gallery, 1e3 * m["rerank"] / (queries * flags.topk)
        rows.append((queries, gallery, m["image"], m["text"], m["topk"], m["rerank"], *each))
    series = {f"texts x {flags.topk} pairs, ranked": pairs, "images, encoded": images}
    report.plot(flags.plot, f"Cost of an evaluation, {flags.size} size", series)
    header = ("queries", "gallery", "images s", "texts s", "top k s", "re-rank s")
    print(report.table(header + ("ms an image", "ms a pair"), rows))
    print(f"Drawn in {flags.plot}")
    return {"pairs": pairs, "images": images}


def main() -> int:
    """Parses the flags, prints table and JSON; returns the exit status."""
    parser = report.common_flags(__doc__)
    add = parser.add_argument
    add("--queries", type=int, help="texts (32; 19,848 with --gpu)")
    add("--gallery", type=int, help="images (32; 19,848 with --gpu)")
    add("--topk", type=int, default=32, help="images of each text that are re-ranked")
    add("--batch", type=int, help="longest texts decoded at once (64; 2048 with --gpu)")
    add("--encode_batch", type=int, help="images or texts encoded at once (16; 512 with --gpu)")
    add("--plot", metavar="FILE.svg", help="measure three sizes and draw them")
    flags = parser.parse_args()
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

    def measure(ours, theirs):
        if flags.gpu and ours.call("device") == "cpu":
            print(f"No accelerator here. With one this would score {flags.queries} texts x "
                  f"{flags.gallery} images, k = {flags.topk}, in {flags.dtype or 'bfloat16'}; "
                  "target: under 60 s")  # fmt: skip
            return None
        return (run_plot(flags, ours), 0) if flags.plot else run(flags, ours, theirs)

    return report.race(flags, 1, 1, measure)


if __name__ == "__main__":
    sys.exit(main())
