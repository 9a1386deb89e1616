"""Times the encoders, the decoder and a whole training step; needs no TensorFlow and no data.

    python -m tools.bench.train --against=torch            full size, batch 4, this CPU
    python -m tools.bench.train --against=torch --gpu      batch 120 in bfloat16, one accelerator
    python -m tools.bench.train --size=small               seconds, to see that it works
    python -m tools.bench.train --data=synthetic      steps on prepared data and without

PyTorch runs Hugging Face's BLIP classes on the schedule of the released CADA code. Both sides take
turns in processes of their own. The last line is a JSON object; its "ratio" is PyTorch's seconds
over ours.
"""

import sys

from cada_jax.objective.losses import MASKED_CHUNK
from tools.bench import flops, report, work

PARTS = ("vit", "text", "decoder", "train_step")


def count(config, part: str, batch: int, forward: int, length: int, words) -> tuple[int, int]:
    """Operations of a part (ours, the released schedule's)."""
    full = config.data.max_length
    if part == "vit":
        return (flops.encode_image(config, forward),) * 2
    if part == "text":
        return (flops.encode_text(config, forward, full),) * 2
    if part == "decoder":
        return (flops.decode(config, forward, full, forward),) * 2
    masked = (work.make_train_batch(config, batch, words)["phrase_ids"] > 0).sum(1).max()
    logits = min(length, -(-int(masked) // MASKED_CHUNK) * MASKED_CHUNK) * batch
    return (
        flops.train_step(config, batch, length, shared=True, logits=logits),
        flops.train_step(config, batch, full, shared=False),
    )


def steady(side) -> float:
    """Seconds of the second of two runs.

    A training run's steps follow one another. Memory that a side gave back before it waited for
    the other one has to be handed out again: on a virtual machine whose host takes it back
    meanwhile, that made a step of 4.6 s one of 6.7.
    """
    side.call("run")
    return side.call("run")


def time_part(part: str, repeats: int, ours, theirs) -> dict:
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


def run(flags, ours, theirs, batch: int, forward: int) -> dict:
    """Measures every part asked for, prints the table; returns what the JSON line holds."""
    config = work.make_config(flags.size, "float32", flags.depth)
    length = ours.call("length")
    ceiling = ours.call("product")
    ceiling_torch = theirs.call("product") if theirs else None
    rows, ratio, figures = [], {}, {}
    for part in flags.parts:
        m = time_part(part, flags.repeats, ours, theirs)
        done, plain = count(config, part, batch, forward, length, flags.words)
        mine = report.median(m["ours"])
        other = report.median(m["torch"]) if theirs else None
        per_second = (batch if part == "train_step" else forward) / mine
        if theirs:
            ratio[part] = round(other / mine, 3)
        figures[part] = {
            "seconds": mine,
            "torch_seconds": other,
            "per_second": per_second,
            "gflop": done / 1e9,
            "released_gflop": plain / 1e9,
            "mfu": done / mine / ceiling,
            "torch_mfu": plain / other / ceiling_torch if theirs else None,
            "peak_gib": m["ours_peak"] / 2**30,
            "torch_peak_gib": m["torch_peak"] / 2**30 if theirs else None,
            "compile_seconds": m["compile"],
            "compile_from_cache_seconds": m["from_cache"],
        }
        f = figures[part]
        rows.append(
            (part, 1e3 * mine, other and 1e3 * other, ratio.get(part), per_second, f["gflop"])
            + (f["released_gflop"], 100 * f["mfu"], other and 100 * f["torch_mfu"])
            + (f["peak_gib"], f["torch_peak_gib"], m["compile"], m["from_cache"])
        )
    header = ("part", "ms", "torch ms", "ratio", "rows/s", "GFLOP", "released", "MFU %")
    header += ("torch %", "peak GiB", "torch GiB", "compile s", "cached s")
    device = ours.call("device")
    print(
        f"{report.machine(flags, device)}; {flags.size} size; train batch {batch}, captions of "
        f"{flags.words[0]} to {flags.words[1]} words cut to {length} tokens (torch: "
        f"{config.data.max_length}); forward parts {forward} rows of {config.data.max_length}"
    )
    ceilings = f"{ceiling / 1e9:.0f} GFLOP/s" + (
        f" (torch {ceiling_torch / 1e9:.0f})" if theirs else ""
    )
    print(f"Large matrix product: {ceilings}; MFU is against each side's own\n")
    print(report.table(header, rows))
    return {"ratio": ratio, "parts": figures, "product_flops": ceiling, "device": device}


def run_data(flags, ours) -> dict:
    """Steps on one batch again and again, and on batches read and decoded from disk."""
    seconds = ours.call("data_steps", flags.data, flags.steps)
    fake, real = report.median(seconds["fake"]), report.median(seconds["real"])
    print(report.machine(flags, ours.call("device")))
    print(f"{flags.data}: {1e3 * fake:.1f} ms a step on one batch, {1e3 * real:.1f} ms on batches "
          f"read from disk: {100 * max(0.0, real / fake - 1):.1f} % of waiting")  # fmt: skip
    return {"fake_seconds": fake, "real_seconds": real}


def main() -> int:
    """Parses the flags, prints table and JSON; returns the exit status."""
    parser = report.common_flags(__doc__)
    parser.add_argument("--batch", type=int, help="pairs of a training step (4; 120 with --gpu)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", metavar="CONFIG", help="time steps on prepared data instead")
    parser.add_argument("--steps", type=int, default=20, help="with --data")
    flags = parser.parse_args()
    batch = flags.batch or (120 if flags.gpu else 4)
    forward = 120 if flags.gpu else 8

    def measure(ours, theirs):
        if flags.gpu and ours.call("device") == "cpu":
            print(
                f"No accelerator here. With one this would time {', '.join(flags.parts)} at full "
                f"size, batch {batch}, in {flags.dtype or 'bfloat16'}, against {flags.against} "
                "(torch.compile, fused attention); target: MFU of 50 %, 1.2 times PyTorch"
            )
            return None
        if flags.data:
            return run_data(flags, ours), 0
        return run(flags, ours, theirs, batch, forward), 0

    return report.race(flags, batch, forward, measure)


if __name__ == "__main__":
    sys.exit(main())
