"""A small run's folder with all that a run saves, and the ways to read each of it."""

import collections
import pathlib
import random

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.checkpoints import inspect, model, run
from cada_jax.common import pytrees
from cada_jax.common.errors import UsageError

INFO = {"step": 2, "split": "val", "metric": "reranked/R1", "value": 71.25}


def state(step: int = 2) -> dict:
    """Parameters of a few shapes and types, and their moments."""
    rng = np.random.default_rng(step)
    kernel = jnp.asarray(rng.normal(size=(64, 96)), jnp.float32)
    params = {
        "image": {"kernel": kernel, "bias": jnp.zeros((96,))},
        "text": {"table": jnp.asarray(rng.normal(size=(50, 16)), jnp.bfloat16)},
    }
    moments = jax.tree.map(lambda x: 0.5 * x, params)
    return {"step": jnp.asarray(step, jnp.int32), "params": params, "moments": moments}


def abstract(tree, sharding=None):
    """What `restore` is asked for, on one device unless a sharding is given."""
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return pytrees.abstract_arrays(tree, jax.tree.map(lambda _: sharding, tree))


def save_run(root: pathlib.Path, config, steps=(1, 2)) -> None:
    """Writes checkpoints, the best parameters and the model."""
    with run.Checkpoints(root, keep=2, provenance={"data_digest": "aa"}) as saved:
        for step in steps:
            saved.save(step, state(step))
        saved.save_best(steps[-1], state(steps[-1])["params"], INFO)
    vocab = root / "words.txt"
    vocab.write_text("[PAD]\nred\n")
    model.save_model(root / "model", state(steps[-1])["params"], config, vocab)


def read_states(root: pathlib.Path):
    """As a run that is continued."""
    with run.Checkpoints(root, read_only=True) as saved:
        return saved.restore(abstract(state()))


def read_best(root: pathlib.Path):
    """As a run at its end: the parameters, and what was said of them."""
    with run.Checkpoints(root, read_only=True) as saved:
        return saved.restore_best(abstract(state()["params"])), saved.best_info()


def read_model(root: pathlib.Path):
    """As `init_from`: parameters, configuration, vocabulary."""
    found = model.load_model(root / "model")
    return found.params, found.config.to_json(), found.vocab_path.read_bytes()


READERS = {"checkpoints": read_states, "best": read_best, "model": read_model}


def fingerprint(read) -> str:
    """The digest of the arrays in what a reader returned, and the rest of it as text."""
    arrays = {n: x for n, x in pytrees.flat_arrays(read).items() if hasattr(x, "shape")}
    rest = {n: x for n, x in pytrees.flat_arrays(read).items() if not hasattr(x, "shape")}
    return f"{inspect.digest(arrays)} {rest}"


def flip_bytes(root: pathlib.Path, flips: int, seed: int) -> collections.Counter:
    """Changes one byte at a time, reads, and puts it back.

    Half of the bytes are drawn by file, so that small ones have their turn, half by size.

    Returns:
      How often each came of it: "refused", "harmless" (what was read is what was written) or
      "silent" (it is not, and nobody said so).
    """
    draw, outcomes = random.Random(seed), collections.Counter()
    before = {name: fingerprint(read(root)) for name, read in READERS.items()}
    for number in range(flips):
        name = ("checkpoints", "best", "model")[number % 3]
        folder = root / "checkpoints" / "2" if name == "checkpoints" else root / name
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size]
        weights = [p.stat().st_size for p in files] if number % 2 else None
        file = draw.choices(files, weights)[0]
        whole = file.read_bytes()
        place = draw.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= draw.randrange(1, 256)
        file.write_bytes(bytes(changed))
        try:
            came = fingerprint(READERS[name](root))
            outcome = "harmless" if came == before[name] else "silent"
        except UsageError as e:
            assert len(str(e).splitlines()) <= 5 and "\n\n" not in str(e), str(e)
            outcome = "refused"
        if outcome == "silent":
            print(f"silent: {file.relative_to(root)}, byte {place}")
        outcomes[outcome] += 1
        file.write_bytes(whole)
    return outcomes
