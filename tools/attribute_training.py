"""Encoders that learn to name attributes, each by itself: labels, classifiers, training, scores.

`tools.pretrain_attributes` is the command.
"""

import io
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from PIL import Image

from cada_jax.common.console import StepProgress
from cada_jax.data.batches import epoch_order
from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.camera import visible
from cada_jax.data.datasets.synthetic.identity import Identity
from cada_jax.data.split import Split, load_split
from cada_jax.models.cada import CADA, from_config, init_params
from cada_jax.models.preprocess import augment, normalize_pixels
from cada_jax.training.optimizer import make_optimizer

ATTRIBUTES = tuple(name for name in Identity._fields if name != "skin")  # never put into words
UNKNOWN = -1
EVAL_BATCH = 100


def true_attributes(variant: str, split: Split) -> tuple[list[dict], list[dict]]:
    """Returns what each image shows and what each caption states: attribute -> value."""
    settings = people.VARIANTS[variant]
    first = settings.first_pid(split.name)
    identities = people.make_identities(settings, split.name)
    shown, stated = [], []
    for path, pid in zip(split.image_paths, split.image_pids, strict=True):
        person = int(pid) - first
        image = int(pathlib.PurePath(path).stem[-2:]) - 1
        identity = identities[person]
        shot, captions = people.make_captions(settings, split.name, identity, person, image)
        shown.append(visible(identity, shot))
        stated += [dict(caption.stated) for caption in captions]
    return shown, stated


def class_table(examples: list[dict]) -> dict[str, list[str]]:
    """Values of each attribute, sorted."""
    return {a: sorted({e[a] for e in examples if a in e}) for a in ATTRIBUTES}


def to_labels(examples: list[dict], classes: dict[str, list[str]]) -> np.ndarray:
    """Numbers of the values, int32 [N, attributes]; UNKNOWN where nothing can be said."""
    number = {a: {value: i for i, value in enumerate(values)} for a, values in classes.items()}
    rows = [
        [number[a].get(e[a], UNKNOWN) if a in e else UNKNOWN for a in ATTRIBUTES] for e in examples
    ]
    return np.array(rows, np.int32)


def init_classifier(key: jax.Array, width: int, classes: dict[str, list[str]]) -> dict:
    """One linear map for all attributes, float32 [width, all classes].

    Not zeros: then nothing reaches the encoder at first, and Adam, which divides by what it has
    seen, blows the first real gradients up. The loss was twice as high after 500 steps.
    """
    total = sum(len(values) for values in classes.values())
    init = jax.nn.initializers.lecun_normal()
    return {"kernel": init(key, (width, total), jnp.float32), "bias": jnp.zeros((total,))}


def attribute_logits(classifier: dict, features: jax.Array, classes: dict) -> list[jax.Array]:
    """Logits of each attribute's classes, float32 [B, classes], from features [B, width]."""
    logits = features @ classifier["kernel"] + classifier["bias"][None]
    ends = np.cumsum([len(classes[a]) for a in ATTRIBUTES])[:-1]
    return jnp.split(logits, ends, axis=1)


def classification_loss(logits: list[jax.Array], labels: jax.Array) -> jax.Array:
    """Cross-entropy summed over what is known, per row and attribute (float32 scalar)."""
    total = jnp.zeros(())
    for i, scores in enumerate(logits):
        known = labels[:, i] != UNKNOWN
        loss = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.maximum(labels[:, i], 0))
        total += jnp.sum(jnp.where(known, loss, 0.0))
    return total / labels.size


def encode(model: CADA, params: dict, images: jax.Array, token_ids: jax.Array):
    """[CLS] of normalised images float [B,H,W,3] and of captions int32 [B,L]: float [B,D] each."""
    variables = {"params": params}
    image: Any = model.apply(variables, images, method="encode_image")
    text: Any = model.apply(variables, token_ids, method="encode_text")
    return image[0], text[0]


def accuracies(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Per cent of the known labels that are right, by attribute; without those never known."""
    scores = {}
    for i, name in enumerate(ATTRIBUTES):
        known = labels[:, i] != UNKNOWN
        if known.any():
            scores[name] = round(100 * float((predicted == labels)[known, i].mean()), 1)
    return scores


def decode_all(split: Split) -> np.ndarray:
    """The images, uint8 [N,H,W,3]."""
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in split.images])


class Task(NamedTuple):
    """A network and what it learns to name.

    Attributes:
      model: its encoders are trained.
      config: full config.
      image_classes: values of each attribute that images show.
      text_classes: values of each attribute that captions state.
    """

    model: CADA
    config: ConfigDict
    image_classes: dict[str, list[str]]
    text_classes: dict[str, list[str]]

    def logits(self, params: dict, pixels: jax.Array, token_ids: jax.Array):
        """Logits of what normalised images show, and of what captions state."""
        image, text = encode(self.model, params["model"], pixels, token_ids)
        return (
            attribute_logits(params["image"], image, self.image_classes),
            attribute_logits(params["text"], text, self.text_classes),
        )

    def init(self, keys: jax.Array) -> dict:
        """Random parameters of the network and of both classifiers, from three keys."""
        c = self.config.model
        return {
            "model": init_params(self.model, self.config, keys[0]),
            "image": init_classifier(keys[1], c.image.width, self.image_classes),
            "text": init_classifier(keys[2], c.text.width, self.text_classes),
        }


def make_step(task: Task, optimizer: optax.GradientTransformation, key: jax.Array):
    """The jitted update.

    Args:
      task: what is learned.
      optimizer: of all parameters.
      key: of the augmentation, folded with the step.

    Returns:
      (params, state, step, pixels uint8 [B,H,W,3], token_ids int32 [B,L], labels of both) ->
      (params, state, losses by side).
    """

    def loss_fn(params, key, pixels, token_ids, labels):
        pixels = jnp.asarray(augment(pixels, key, task.config.augment))
        of_image, of_text = task.logits(params, pixels, token_ids)
        parts = {
            "image": classification_loss(of_image, labels[0]),
            "text": classification_loss(of_text, labels[1]),
        }
        return parts["image"] + parts["text"], parts

    @jax.jit
    def step_fn(params, state, step, pixels, token_ids, labels):
        at = jax.random.fold_in(key, step)
        grads, parts = jax.grad(loss_fn, has_aux=True)(params, at, pixels, token_ids, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, parts

    return step_fn


def train_task(task: Task, train: Split, labels: tuple[np.ndarray, np.ndarray], steps: int) -> dict:
    """Trains from random parameters.

    Args:
      task: what is learned.
      train: the split to learn from.
      labels: of its images and of its captions, see `to_labels`.
      steps: updates.

    Returns:
      The parameters, as `Task.init` has them.
    """
    config, images = task.config, decode_all(train)
    batch, seed = config.train.batch_size, config.seed
    steps_per_epoch = train.num_captions // batch
    optimizer = make_optimizer(config, steps_per_epoch)
    keys = jax.random.split(jax.random.key(seed), 4)
    params = task.init(keys)
    state = optimizer.init(params)
    step_fn = make_step(task, optimizer, keys[3])
    progress, recent = StepProgress(0, steps, steps_per_epoch, batch), []
    for step in range(steps):
        epoch, position = divmod(step, steps_per_epoch)
        chosen = epoch_order(train.num_captions, seed, epoch)[position * batch :][:batch]
        rows = train.caption_image[chosen]
        known = labels[0][rows], labels[1][chosen]
        inputs = images[rows], train.token_ids[chosen], known
        params, state, parts = step_fn(params, state, step, *inputs)
        recent.append(parts)
        progress.tick(step + 1)
        if (step + 1) % config.train.log_every == 0 or step + 1 == steps:
            means = jax.tree.map(lambda *x: float(np.mean(x)), *jax.device_get(recent))
            progress.report(step + 1, means)
            recent = []
    return params


def score(task: Task, params: dict, val: Split, labels: tuple[np.ndarray, np.ndarray]) -> dict:
    """{"image": accuracies, "text": accuracies} on a split; labels as in `train_task`."""

    @jax.jit
    def predict(params, pixels, token_ids):
        logits = task.logits(params, jnp.asarray(normalize_pixels(pixels)), token_ids)
        return [jnp.stack([x.argmax(1) for x in of], 1) for of in logits]

    pixels, token_ids = decode_all(val)[val.caption_image], val.token_ids
    predicted = [
        predict(params, pixels[i : i + EVAL_BATCH], token_ids[i : i + EVAL_BATCH])
        for i in range(0, val.num_captions, EVAL_BATCH)
    ]
    of_image, of_text = (np.concatenate(p) for p in zip(*predicted, strict=True))
    return {
        "image": accuracies(of_image, labels[0][val.caption_image]),
        "text": accuracies(of_text, labels[1]),
    }


def pretrain(config: ConfigDict, variant: str, steps: int) -> tuple[dict, dict, pathlib.Path]:
    """Trains both encoders; returns (params of the whole model, accuracies on val, vocabulary)."""
    train, val = load_split(config, "train"), load_split(config, "val")
    config.train.max_steps = steps
    truth = {split.name: true_attributes(variant, split) for split in (train, val)}
    of_image, of_text = (class_table(examples) for examples in truth["train"])
    labels = {
        name: (to_labels(shown, of_image), to_labels(stated, of_text))
        for name, (shown, stated) in truth.items()
    }
    task = Task(from_config(config), config, of_image, of_text)
    params = train_task(task, train, labels["train"], steps)
    scores = score(task, params, val, labels["val"])
    return jax.device_get(params["model"]), scores, train.vocab_path
