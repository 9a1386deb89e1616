"""Times the encoders, the decoder and a whole training step; needs no TensorFlow and no data.

    python -m tools.bench.train --against=torch            full size, batch 4, this CPU
    python -m tools.bench.train --against=torch --gpu      batch 120 in bfloat16, one accelerator
    python -m tools.bench.train --size=small               seconds, to see that it works
    python -m tools.bench.train --data=synthetic           steps on prepared data and without

PyTorch runs Hugging Face's BLIP classes on the schedule of the released CADA code. Both sides take
turns in processes of their own. The last line is a JSON object; its "ratio" is PyTorch's seconds
over ours.
"""

import sys
from collections.abc import Sequence

from cada_jax.common.command_line import run_command
from cada_jax.config import load_config
from tools.arguments import Parser, integer
from tools.bench import flops, report, work
from tools.bench.side import Side

PARTS = ("vit", "text", "decoder", "train_step")
REMATS = ("off", "light", "full")  # as in models.layers, which imports JAX
HEADER = ("part", "ms", "torch ms", "ratio", "rows/s", "GFLOP", "released", "MFU %")
HEADER += ("torch %", "peak GiB", "torch GiB", "compile s", "cached s")


def count(settings: work.Settings, part: str, length: int) -> tuple[int, int]:
    """Operations of a part (ours, the released schedule's).

    Args:
      settings: of the work.
      part: one of `PARTS`.
      length: tokens of a caption in our training step, padding included.
    """
    config = work.make_config(settings)
    full, forward, batch = config.data.max_length, settings.forward, settings.batch
    if part == "vit":
        return (flops.encode_image(config, forward),) * 2
    if part == "text":
        return (flops.encode_text(config, forward, full),) * 2
    if part == "decoder":
        return (flops.decode(config, forward, full, forward),) * 2
    from cada_jax.objective.losses import MASKED_CHUNK  # imports JAX

    masked = (work.make_train_batch(config, batch, settings.words)["phrase_ids"] > 0).sum(1).max()
    logits = min(length, -(-int(masked) // MASKED_CHUNK) * MASKED_CHUNK) * batch
    return (
        flops.train_step(config, batch, length, shared=True, logits=logits),
        flops.train_step(config, batch, full, shared=False),
    )


def steady(side: Side) -> float:
    """Seconds of the second of two runs.

    A training run's steps follow one another. Memory that a side gave back before it waited for
    the other one has to be handed out again: on a virtual machine whose host takes it back
    meanwhile, that made a step of 4.6 s one of 6.7.
    """
    side.call("run")
    return side.call("run")


def time_part(part: str, repeats: int, ours: Side, theirs: Side | None) -> dict:
    """Runs a part on both sides in turn."""
    out = {"ours": [], "torch": [], **ours.call("prepare", part)}
    if theirs:
        theirs.call("prepare", part)
    for _ in range(repeats):
        out["ours"].append(steady(ours))
        if theirs:
            out["torch"].append(steady(theirs))
    out["ours_peak"] = ours.call("peak")
    out["torch_peak"] = theirs.call("peak") if theirs else None
    return out


def describe(flags, settings: work.Settings, device: str, full: int, length: int) -> str:
    """Where this ran, and on what work."""
    remat = f"remat {settings.remat}; " if settings.remat != "off" else ""
    return (
        f"{report.machine(flags, device)}; {settings.size} size; {remat}train batch "
        f"{settings.batch}, captions of {settings.words[0]} to {settings.words[1]} words cut to "
        f"{length} tokens (torch: {full}); forward parts {settings.forward} rows of {full}"
    )


def figures_of(part: str, settings: work.Settings, timed: dict, length: int, products) -> dict:
    """What the JSON line holds of a part.

    Args:
      part: one of `PARTS`.
      settings: of the work.
      timed: from `time_part`.
      length: tokens of a caption in our training step.
      products: (ours, PyTorch's or None), FLOP/s of a large matrix product.
    """
    done, plain = count(settings, part, length)
    mine = report.median(timed["ours"])
    other = report.median(timed["torch"]) if timed["torch"] else None
    rows = settings.batch if part == "train_step" else settings.forward
    return {
        "seconds": mine,
        "torch_seconds": other,
        "per_second": rows / mine,
        "gflop": done / 1e9,
        "released_gflop": plain / 1e9,
        "mfu": done / mine / products[0],
        "torch_mfu": plain / other / products[1] if other else None,
        "peak_gib": timed["ours_peak"] / 2**30,
        "torch_peak_gib": timed["torch_peak"] / 2**30 if other else None,
        "compile_seconds": timed["compile"],
        "compile_from_cache_seconds": timed["from_cache"],
    }


def row_of(part: str, f: dict, ratio: float | None) -> tuple:
    """A row of the table, as `HEADER` has it."""
    other = f["torch_seconds"]
    return (
        (part, 1e3 * f["seconds"], other and 1e3 * other, ratio, f["per_second"], f["gflop"])
        + (f["released_gflop"], 100 * f["mfu"], other and 100 * f["torch_mfu"])
        + (f["peak_gib"], f["torch_peak_gib"])
        + (f["compile_seconds"], f["compile_from_cache_seconds"])
    )


def run(flags, ours: Side, theirs: Side | None, settings: work.Settings) -> dict:
    """Measures every part asked for, prints the table; returns what the JSON line holds."""
    length, full = ours.call("length"), work.make_config(settings).data.max_length
    products = ours.call("product"), theirs.call("product") if theirs else None
    rows, ratio, figures = [], {}, {}
    for part in flags.parts:
        timed = time_part(part, flags.repeats, ours, theirs)
        found = figures[part] = figures_of(part, settings, timed, length, products)
        if theirs:
            ratio[part] = round(found["torch_seconds"] / found["seconds"], 3)
        rows.append(row_of(part, found, ratio.get(part)))
    device = ours.call("device")
    print(describe(flags, settings, device, full, length))
    of_torch = f" (torch {products[1] / 1e9:.0f})" if products[1] else ""
    print(
        f"Large matrix product: {products[0] / 1e9:.0f} GFLOP/s{of_torch}; MFU is against each "
        "side's own\n"
    )
    print(report.table(HEADER, rows))
    return {"ratio": ratio, "parts": figures, "product_flops": products[0], "device": device}


def run_data(flags, ours: Side) -> dict:
    """Steps on one batch again and again, and on batches read and decoded from disk."""
    seconds = ours.call("data_steps", flags.data, flags.steps)
    fake, real = report.median(seconds["fake"]), report.median(seconds["real"])
    print(report.machine(flags, ours.call("device")))
    print(f"{flags.data}: {1e3 * fake:.1f} ms a step on one batch, {1e3 * real:.1f} ms on batches "
          f"read from disk: {100 * max(0.0, real / fake - 1):.1f} % of waiting")  # fmt: skip
    return {"fake_seconds": fake, "real_seconds": real}


def _no_accelerator(flags, batch: int) -> str:
    return (
        f"No accelerator here. With one this would time {', '.join(flags.parts)} at full "
        f"size, batch {batch}, in {flags.dtype}, against {flags.against} "
        "(torch.compile, fused attention); target: MFU of 50 %, 1.2 times PyTorch"
    )


def make_parser() -> Parser:
    """The flags."""
    parser = report.common_flags("tools.bench.train", __doc__)
    add = parser.add_argument
    add("--batch", type=integer(2), help="pairs of a training step (4; 120 with --gpu)")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--remat", choices=REMATS, default="off",
        help="what our backward pass computes again: config.model.remat")  # fmt: skip
    add("--data", metavar="CONFIG", help="time steps on prepared data instead")
    add("--steps", type=integer(1), default=20, help="with --data")
    return parser


def work_of(argv: Sequence[str] | None) -> int:
    """Reads the flags, measures, prints table and JSON; returns the exit code."""
    parser = make_parser()
    flags = report.read_flags(parser, argv)
    batch = flags.batch or (120 if flags.gpu else 4)
    forward = 120 if flags.gpu else 8
    if flags.data:
        if flags.remat != "off":
            parser.error("--remat goes without --data: the configuration has its own model.remat")
        load_config(flags.data)  # refused before a process starts

    def measure(ours, theirs):
        if flags.gpu and ours.call("device") == "cpu":
            print(_no_accelerator(flags, batch))
            return None
        if flags.data:
            return run_data(flags, ours), 0
        return run(flags, ours, theirs, settings), 0

    settings = report.settings_of(flags, batch, forward)
    return report.race(flags, settings, measure)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: work_of(argv))


if __name__ == "__main__":
    sys.exit(main())
