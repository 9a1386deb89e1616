"""Golden case of a whole training: 30 steps of the released code, with its flaw and without.

The network is that of configs/synthetic.py. Dropout and augmentation are off, the masked tokens are
given, so that nothing is random. Every loss, gradient norm and negative of every step is compared.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cada_jax.config import load_config
from cada_jax.distributed.batch import to_global
from cada_jax.training.setup import make_setup
from cada_jax.training.train_step import TrainState, make_train_step
from tools.parity.golden import Golden, as_released, convert
from tools.parity.network_cases import negatives_of
from tools.parity.table import Table


class Run(NamedTuple):
    """One training of the reference.

    Attributes:
      negatives: `config.atp.negatives` that computes the same.
      stems: whether the encoders have convolutional stems.
      kind: of bound, see `table.TOLERANCES`. The released run's reference is float32; from random
        weights, as in the third, rounding grows.
      steps: after which float32 decides between two negatives whose scores tie.
    """

    negatives: str
    stems: bool
    kind: str
    steps: int | None = None


RUNS = {
    "released": Run("underflow", True, "loss"),
    "masked64": Run("hardest", True, "step"),
    "plain64": Run("hardest", False, "loss", 19),
}
SCALARS = {"glob": "global", "ara": "ara", "total": "total", "grad_norm": "grad_norm"}
TIE = "two negatives tie at step 20: float32 may take the other one"
Curves = dict[str, np.ndarray]  # name of a scalar -> float64 [steps]


def compare(golden: Golden, table: Table, runs: Sequence[str] = tuple(RUNS), steps: int = 30):
    """Adds a row for every loss, the gradient norm and the negatives of each run.

    Args:
      golden: the folder.
      table: to add to.
      runs: some of `RUNS`.
      steps: of each run, at most.
    """
    if table.dtype != "float32":
        table.absent("g_training", "a whole training is compared in float32 alone")
        return
    arrays = golden.arrays("g_training")
    images = decoded_images(arrays)
    for name in runs:
        run = RUNS[name]
        curves, chosen = train(arrays, images, run, min(steps, len(arrays[f"{name}_total"])))
        ours = curves | {"neg_i": chosen[:, 0], "neg_t": chosen[:, 1]}
        for what, values in ours.items():
            _compare_steps(table, f"{name} {what}", values, arrays[f"{name}_{what}"], run)


def _compare_steps(table, quantity, ours, reference, run: Run) -> None:
    """Every step by itself, relative to its own value; negatives have to be equal."""
    integers = reference.dtype.kind == "i"
    wanted = reference[: len(ours)] if integers else np.ones(len(ours))
    got = ours if integers else ours / reference[: len(ours)]
    until = min(run.steps or len(got), len(got))
    kind = "exact" if integers else run.kind
    label = f"{quantity}, {until} steps"
    table.compare("g_training", label, got[:until], wanted[:until], kind)
    if until < len(got) and not np.array_equal(got[until:], wanted[until:]):
        label = f"{quantity}, the {len(got) - until} steps after"
        table.differs("g_training", label, got[until:], wanted[until:], TIE)


def decoded_images(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The images of all steps, uint8 [steps,B,H,W,3], decoded by the fast DCT as the reference."""
    import tensorflow as tf

    files = np.split(arrays["jpeg"], arrays["jpeg_end"][:-1])
    decode = functools.partial(tf.io.decode_jpeg, channels=3, dct_method="INTEGER_FAST")
    return np.stack([decode(file.tobytes()).numpy() for file in files])[arrays["image"]]


def network_config(run: Run) -> ConfigDict:
    """The demo's network and losses as the reference trains them."""
    config = as_released(load_config("synthetic"))
    config.atp.negatives = run.negatives
    if not run.stems:
        config.model.image.stem, config.model.text.stem = "patch", "embed"
    config.loss.atp_weight, config.loss.ara_weight = 1.0, 0.1
    config.optimizer.update(learning_rate=1e-3, warmup_steps=0, clip_norm=0.0)
    return config


def train(
    arrays: dict[str, np.ndarray], images: np.ndarray, run: Run, steps: int
) -> tuple[Curves, np.ndarray]:
    """Runs our train step over the golden batches.

    Args:
      arrays: of the case.
      images: uint8 [steps,B,H,W,3].
      run: which.
      steps: how many.

    Returns:
      The scalars of `SCALARS` and "loc", float64 [steps] by the reference's names, `ara` with its
      weight; negatives int [steps,2,B], images for texts and texts for images.
    """
    config = network_config(run)
    setup = make_setup(config, 10**6, jax.devices()[:1])  # one epoch: a constant rate
    step, mesh = make_train_step(setup), setup.network.mesh
    start = "start/" if run.stems else "plain_start/"
    weights = {n.removeprefix(start): x for n, x in arrays.items() if n.startswith(start)}
    model = setup.network.model
    params = jax.tree.map(jnp.array, convert(config, weights, "g_training"))
    state = TrainState(jnp.zeros((), jnp.int32), params, setup.tx.init(params))
    choose = negatives_of(model, config)
    curves: dict[str, list] = {name: [] for name in (*SCALARS, "loc")}
    chosen = []
    for i in range(steps):
        batch = _batch(arrays, images, i)
        chosen.append(np.stack(choose(state.params, batch)[:2]))
        state, terms = step(state, to_global(mesh, batch), jax.random.key(0))
        terms = {name: float(x) for name, x in terms.items()}
        for name, ours in SCALARS.items():
            curves[name].append(terms[ours] * (config.loss.ara_weight if name == "ara" else 1.0))
        curves["loc"].append(terms["match"] + terms["group"])
    return {name: np.asarray(x) for name, x in curves.items()}, np.stack(chosen)


def _batch(arrays: dict[str, np.ndarray], images: np.ndarray, i: int) -> dict[str, Any]:
    token_ids = arrays["token_ids"][i]
    return {
        "image": images[i],
        "token_ids": token_ids,
        "phrase_ids": np.zeros_like(token_ids),
        "attribute_mask": arrays["mask"][i],
        "pid": arrays["pid"][i],
    }


def draw(folder: str, path: str | os.PathLike) -> None:
    """Draws the total loss as released and without the flaw, and how far ours is from it.

    Args:
      folder: of the golden numbers.
      path: of the picture, its kind by its suffix.
    """
    from matplotlib.figure import Figure

    arrays = Golden(folder).arrays("g_training")
    images = decoded_images(arrays)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, differences = figure.subplots(1, 2)
    for name, title in (("released", "as released"), ("masked64", "without the flaw")):
        reference = arrays[f"{name}_total"]
        ours = train(arrays, images, RUNS[name], len(reference))[0]["total"]
        steps = np.arange(1, len(reference) + 1)
        line = losses.plot(steps, reference, label=f"released code, {title}")[0]
        colour = line.get_color()
        losses.plot(
            steps, ours, "o", ms=3, color=colour, label=f"this code, {RUNS[name].negatives}"
        )
        differences.semilogy(steps, np.abs(ours / reference - 1), color=colour)
    losses.set(title="total loss", xlabel="step")
    losses.legend()
    differences.set(title="relative difference", xlabel="step")
    figure.savefig(path)
