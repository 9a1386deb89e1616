"""What the switches that are off by default cost, side by side: a training step, and a re-ranking.

    python -m tools.bench.addons                           the demo's small model, batch 64
    python -m tools.bench.addons --config=rstp --batch=4   full size

Every switch is compiled beside the step without any; the programs take turns. Bytes are what the
compiler reserves for the step's temporary arrays. The last line is a JSON object.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.command_line import DONE, run_command
from cada_jax.config import load_config, validate
from tools.arguments import Parser, integer
from tools.bench import report, work
from tools.bench.side import stopwatch

STEPS: dict[str, dict[str, Any]] = {
    "none": {},
    "loss.global=tal": {"loss.global": "tal"},
    "loss.alignment=quota_transport": {"loss.alignment": "quota_transport"},
    "atp.groups=phrases": {"atp.groups": "phrases"},
}
WORDS = (15, 30)
HEADER = ("switch", "ms", "times", "MiB", "times")


def changed(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    """A copy with these fields changed."""
    config = ConfigDict(config.to_dict())
    with config.ignore_type():
        config.update_from_flattened_dict(values)
    return config


def compiled_step(config: ConfigDict) -> tuple[Callable[[], Any], int]:
    """(a call that trains one step, bytes of its temporary arrays)."""
    import jax
    import optax

    from cada_jax.distributed.batch import to_global
    from cada_jax.network import abstract_network
    from cada_jax.training.setup import TrainSetup
    from cada_jax.training.train_step import init_state, make_train_step

    network = abstract_network(config, jax.devices()[:1])
    setup = TrainSetup(network, optax.adamw(1e-5), lambda step: 1e-5, steps_per_epoch=1)
    batch = to_global(network.mesh, work.make_train_batch(config, config.train.batch_size, WORDS))
    key, state = jax.random.key(0), init_state(setup)
    step: Any = make_train_step(setup)
    program = step.lower(state, batch, key).compile()

    def run():
        nonlocal state
        state, metrics = program(state, batch, key)
        return jax.block_until_ready(metrics)

    return run, program.memory_analysis().temp_size_in_bytes


def reranking(config: ConfigDict, mirror: bool, rows: int) -> tuple[Callable[[], Any], int]:
    """(a call that encodes images and scores every text with every one, bytes of its tokens)."""
    import jax
    import numpy as np

    from cada_jax.models.cada import init_params
    from cada_jax.network import abstract_network
    from cada_jax.retrieval import encode, rerank
    from cada_jax.retrieval.mirror import match_both, mirrored

    network = abstract_network(config, jax.devices()[:1])
    init = jax.jit(lambda key: init_params(network.model, config, key))
    network = network.with_params(init(jax.random.key(0)))
    images = work.make_images(config, rows)
    batch = {"image": images, "pid": np.arange(rows), "valid": np.ones(rows, bool)}
    texts = work.make_captions(config, rows, WORDS)
    text, image = (index.reshape(-1) for index in np.indices((rows, rows)))

    def run():
        gallery = encode.encode_gallery(network, [batch], rows)
        match = rerank.match_pairs
        if mirror:
            match = match_both(encode.encode_gallery(network, mirrored([batch]), rows).tokens)
        return match(network, rerank.Pairs(texts, gallery.tokens, text, image)), gallery.tokens

    return run, run()[1].nbytes * (1 + mirror)


def take_turns(
    programs: dict[str, tuple[Callable[[], Any], int]], repeats: int, clock: str
) -> Iterator[dict[str, Any]]:
    """A line for each program: median seconds of its calls, bytes, both over the first one's."""
    now, seconds = stopwatch(clock), {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, (run, _) in programs.items():
            start = now()
            run()
            if turn:  # the first call of each warms up
                seconds[name].append(now() - start)
    first = next(iter(programs))
    for name, (_, size) in programs.items():
        median = report.median(seconds[name])
        yield {
            "switch": name,
            "seconds": median,
            "times": median / report.median(seconds[first]),
            "bytes": size,
            "bytes_times": size / programs[first][1],
        }


def measure(config: ConfigDict, repeats: int, clock: str, rows: int) -> dict[str, list]:
    """The lines of training steps and of re-rankings.

    Args:
      config: full config, without any of the switches.
      repeats: calls of each program that count.
      clock: "wall" or "cpu", see `side.stopwatch`.
      rows: images, and texts, of a re-ranking.
    """
    steps = {name: compiled_step(changed(config, values)) for name, values in STEPS.items()}
    found = {"step": list(take_turns(steps, repeats, clock))}
    del steps
    pairs = {f"eval.mirror={on}": reranking(config, on, rows) for on in (False, True)}
    return found | {"rerank": list(take_turns(pairs, repeats, clock))}


def work_of(argv: Sequence[str] | None) -> int:
    """Reads the flags, measures, prints tables and JSON; returns the exit code."""
    parser = Parser("tools.bench.addons", __doc__)
    add = parser.add_argument
    add("--config", default="synthetic", help="configuration file")
    add("--batch", type=integer(2), help="pairs of a training step; the configuration's")
    add("--rows", type=integer(1), default=32, help="images, and texts, of a re-ranking")
    add("--repeats", type=integer(1, 10_000), default=10, help="calls of each, in turn")
    add("--clock", choices=("wall", "cpu"), default="wall",
        help="cpu counts processor seconds, for a busy machine")  # fmt: skip
    flags = parser.flags(argv)
    config = load_config(flags.config)
    config.train.batch_size = flags.batch or config.train.batch_size
    validate(config)
    found = measure(config, flags.repeats, flags.clock, flags.rows)
    for part, lines in found.items():
        print(f"\n{part}, {flags.clock} time\n")
        rows = [(x["switch"], 1e3 * x["seconds"], x["times"], x["bytes"] / 2**20, x["bytes_times"])
                for x in lines]  # fmt: skip
        print(report.table(HEADER, rows))
    print(json.dumps(found))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: work_of(argv))


if __name__ == "__main__":
    sys.exit(main())
