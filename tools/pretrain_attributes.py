"""First stage of the small shipped model: each encoder learns to name attributes by itself.

    python -m tools.pretrain_attributes runs/attributes

What labelled images and plain text are to BLIP, whose encoders start from ImageNet and BERT: a
linear classifier on [CLS] names what an image shows, another one what a caption states. Encoders
that start from random weights under the global loss settle on which colours there are, whatever
wears them. The labels are the true attributes of the generated persons of `synthetic/pretrain`;
none of them is in the demo. The classifiers are thrown away; the folder that is written is for
--config.init_from.
"""

import argparse
import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from cada_jax.checkpoints import export
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import Progress, say
from cada_jax.data.batches import epoch_order
from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.camera import visible
from cada_jax.data.datasets.synthetic.identity import Identity
from cada_jax.data.split import Split, load_split
from cada_jax.models.cada import CADA, from_config, init_params
from cada_jax.models.preprocess import augment, normalize_pixels
from cada_jax.training.optimizer import make_optimizer
from tools.config_file import load_config

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
    rows = [[number[a].get(e.get(a), UNKNOWN) for a in ATTRIBUTES] for e in examples]
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
    total = 0.0
    for i, scores in enumerate(logits):
        known = labels[:, i] != UNKNOWN
        loss = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.maximum(labels[:, i], 0))
        total += jnp.sum(jnp.where(known, loss, 0.0))
    return total / labels.size


def encode(model: CADA, params: dict, images: jax.Array, token_ids: jax.Array):
    """[CLS] of normalised images float [B,H,W,3] and of captions int32 [B,L]: float [B,D] each."""
    variables = {"params": params}
    image = model.apply(variables, images, method="encode_image")
    text = model.apply(variables, token_ids, method="encode_text")
    return image[:, 0], text[:, 0]


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


def pretrain(config, variant: str, steps: int) -> tuple[dict, dict, pathlib.Path]:
    """Trains both encoders; returns (params of the whole model, accuracies on val, vocabulary)."""
    train, val = load_split(config, "train"), load_split(config, "val")
    images = decode_all(train)
    shown, stated = true_attributes(variant, train)
    image_classes, text_classes = class_table(shown), class_table(stated)
    image_labels, text_labels = to_labels(shown, image_classes), to_labels(stated, text_classes)
    batch, seed = config.train.batch_size, config.seed
    steps_per_epoch = train.num_captions // batch
    config.train.max_steps = steps
    optimizer = make_optimizer(config, steps_per_epoch)
    model = from_config(config)
    keys = jax.random.split(jax.random.key(seed), 4)
    params = {
        "model": init_params(model, config, keys[0]),
        "image": init_classifier(keys[1], config.model.image.width, image_classes),
        "text": init_classifier(keys[2], config.model.text.width, text_classes),
    }

    def loss_fn(params, key, pixels, token_ids, labels):
        image, text = encode(
            model, params["model"], augment(pixels, key, config.augment), token_ids
        )
        of_image = attribute_logits(params["image"], image, image_classes)
        of_text = attribute_logits(params["text"], text, text_classes)
        parts = {
            "image": classification_loss(of_image, labels[0]),
            "text": classification_loss(of_text, labels[1]),
        }
        return parts["image"] + parts["text"], parts

    @jax.jit
    def step_fn(params, state, step, pixels, token_ids, labels):
        key = jax.random.fold_in(keys[3], step)
        grads, parts = jax.grad(loss_fn, has_aux=True)(params, key, pixels, token_ids, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, parts

    @jax.jit
    def predict(params, pixels, token_ids):
        image, text = encode(model, params["model"], normalize_pixels(pixels), token_ids)
        of_image = attribute_logits(params["image"], image, image_classes)
        of_text = attribute_logits(params["text"], text, text_classes)
        return [jnp.stack([x.argmax(1) for x in of], 1) for of in (of_image, of_text)]

    state = optimizer.init(params)
    progress = Progress(0, steps, steps_per_epoch, batch)
    recent = []
    for step in range(steps):
        epoch, position = divmod(step, steps_per_epoch)
        chosen = epoch_order(train.num_captions, seed, epoch)[position * batch :][:batch]
        rows = train.caption_image[chosen]
        params, state, parts = step_fn(
            params,
            state,
            step,
            images[rows],
            train.token_ids[chosen],
            (image_labels[rows], text_labels[chosen]),
        )
        recent.append(parts)
        progress.tick(step + 1)
        if (step + 1) % config.train.log_every == 0 or step + 1 == steps:
            means = jax.tree.map(lambda *x: float(np.mean(x)), *jax.device_get(recent))
            progress.report(step + 1, means)
            recent = []
    progress.close()

    shown, stated = true_attributes(variant, val)
    labels = to_labels(shown, image_classes), to_labels(stated, text_classes)
    pixels, token_ids = decode_all(val)[val.caption_image], val.token_ids
    predicted = [
        predict(params, pixels[i : i + EVAL_BATCH], token_ids[i : i + EVAL_BATCH])
        for i in range(0, val.num_captions, EVAL_BATCH)
    ]
    of_image, of_text = (np.concatenate(p) for p in zip(*predicted, strict=True))
    scores = {
        "image": accuracies(of_image, labels[0][val.caption_image]),
        "text": accuracies(of_text, labels[1]),
    }
    return jax.device_get(params["model"]), scores, train.vocab_path


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="MODEL", help="model folder to write")
    parser.add_argument("--steps", type=int, default=2500, help="updates (default: %(default)s)")
    parser.add_argument("--variant", default="pretrain", choices=sorted(people.VARIANTS))
    flags = parser.parse_args(argv)
    config = load_config("synthetic:scratch")
    config.data.variant = flags.variant
    enable_compilation_cache()
    params, scores, vocab_path = pretrain(config, flags.variant, flags.steps)
    card = {"what": "encoders that name attributes; decoders are random", "accuracy_on_val": scores}
    path = export.save_model(flags.out, params, config, vocab_path, card)
    say(f"{'attribute':16} image   text  (% right on {flags.variant} val)")
    for name in ATTRIBUTES:
        image, text = (f"{scores[side].get(name, '-'):>5}" for side in ("image", "text"))
        say(f"{name:16} {image}  {text}")
    say(f"Written: {path}")


if __name__ == "__main__":
    main()
