"""What fields must fulfil together. Each single one is allowed by the table already.

`values` maps dotted names to values. Every function raises UsageError with one line on the first
thing that is wrong.
"""

from typing import Any, NoReturn

from cada_jax.common.errors import UsageError

TOKENS = ("pad", "cls", "sep", "mask", "dec", "enc")
MOST_PATCHES = 2**16
AXES = ("data", "fsdp", "tensor")


def _refuse(values: dict[str, Any], name: str, allowed: str, step: str) -> NoReturn:
    raise UsageError(f"config.{name} is {values[name]!r}; allowed: {allowed}. {step}.")


def check_network(values: dict[str, Any]) -> None:
    """Sizes that must divide or contain each other."""
    for side in ("image", "text"):
        width, heads = values[f"model.{side}.width"], values[f"model.{side}.heads"]
        if width % heads:
            _refuse(
                values,
                f"model.{side}.heads",
                f"a divisor of config.model.{side}.width, which is {width}",
                "A head takes an equal share of the width",
            )
    _check_patches(values)
    _check_groups(values)
    length = values["data.max_length"]
    if length > values["model.text.max_positions"]:
        _refuse(
            values,
            "model.text.max_positions",
            f"at least config.data.max_length, which is {length}",
            "Every token needs a position embedding",
        )


def _check_groups(values: dict[str, Any]) -> None:
    length, groups = values["data.max_length"], values["atp.groups"]
    if groups == "phrases":
        if values["atp.group_pool"] == "all":
            _refuse(
                values,
                "atp.group_pool",
                "'valid' with config.atp.groups='phrases'",
                "A phrase holds no padding",
            )
    elif (length - 1) % groups:
        _refuse(
            values,
            "atp.groups",
            f"a divisor of {length - 1}, the positions after [CLS] (config.data.max_length - 1)",
            f"Change it, or config.data.max_length to {1 + groups * (-(-(length - 1) // groups))}",
        )


def _check_patches(values: dict[str, Any]) -> None:
    size, patch = values["model.image.size"], values["model.image.patch"]
    conv = values["model.image.stem"] == "conv"
    for axis, pixels, step in zip(("height", "width"), size, patch, strict=True):
        if pixels % step:
            _refuse(
                values,
                "model.image.patch",
                f"a divisor of the image's {axis}, which is {pixels} pixels",
                "Change it or config.data.image_size",
            )
        if conv and step % 4:
            _refuse(
                values,
                "model.image.patch",
                "multiples of 4 with config.model.image.stem='conv'",
                "The convolutions halve the image twice",
            )
    patches = (size[0] // patch[0]) * (size[1] // patch[1])
    if patches > MOST_PATCHES:
        _refuse(
            values,
            "model.image.patch",
            f"a size that gives at most {MOST_PATCHES} patches, not {patches}",
            "Attention compares every patch with every other: take a larger patch or a smaller "
            "config.data.image_size",
        )
    if conv and values["model.image.width"] % 4:
        _refuse(
            values,
            "model.image.width",
            "a multiple of 4 with config.model.image.stem='conv'",
            "The convolutions have a quarter and a half of it",
        )


def check_tokens(values: dict[str, Any]) -> None:
    """The ids of the special tokens: all different, all in the vocabulary."""
    size, seen = values["model.text.vocab_size"], {}
    for token in TOKENS:
        name = f"model.tokens.{token}"
        if values[name] >= size:
            _refuse(
                values,
                name,
                f"an id below config.model.text.vocab_size, which is {size}",
                "Take the ids from the vocabulary of the data",
            )
        if values[name] in seen:
            other = seen[values[name]]
            _refuse(
                values,
                name,
                f"an id of its own, but config.{other} is the same",
                "Take the ids from the vocabulary of the data",
            )
        seen[values[name]] = name


def check_data(values: dict[str, Any]) -> None:
    """Image sizes, settings of the generated people, and the axes of the mesh."""
    if tuple(values["model.image.size"]) != tuple(values["data.image_size"]):
        _refuse(
            values,
            "model.image.size",
            f"the same as config.data.image_size, which is {values['data.image_size']}",
            "Set config.data.image_size alone, which it follows",
        )
    fixed = {"data.tagger": "pattern", "data.tag_unit": "word"}
    listed = ",".join((values["data.name"], values["train.datasets"], values["eval.datasets"]))
    sets = {label.partition("/")[0].strip() for label in listed.split(",")}
    for name, only in fixed.items():
        if "synthetic" in sets and values[name] != only:
            _refuse(
                values,
                name,
                f"{only!r} with the data set 'synthetic'",
                "The generated people are tagged in one way",
            )
    shorter = min(values["data.image_size"])
    if values["augment.pad"] >= shorter:
        _refuse(
            values,
            "augment.pad",
            f"less than the shorter side of an image, which is {shorter} pixels",
            "A crop would otherwise hold padding alone",
        )
    open_axes = [axis for axis in AXES if values[f"mesh.{axis}"] == -1]
    if len(open_axes) > 1:
        _refuse(
            values,
            f"mesh.{open_axes[1]}",
            f"1 or more, since config.mesh.{open_axes[0]} is -1",
            "One axis at most takes all devices that remain",
        )


def check_scoring(values: dict[str, Any]) -> None:
    """What evaluation needs: something to average over an image and its mirror image."""
    tops = ("eval.rerank_top_k", "eval.image_to_text_top_k")
    if values["eval.mirror"] and not any(values[name] for name in tops):
        _refuse(
            values,
            "eval.mirror",
            "False with config.eval.rerank_top_k=0",
            "Match logits are averaged, and there are none",
        )


def check_training(values: dict[str, Any]) -> None:
    """What only training needs: a loss, a batch that splits, a schedule, a metric that is there."""
    weights = ("loss.global_weight", "loss.atp_weight", "loss.ara_weight")
    trained = any(values[name] for name in weights) or values["loss.alignment"] != "off"
    if not trained:
        _refuse(
            values,
            weights[0],
            "a number above 0 where the other weights of config.loss are 0",
            "Nothing would be trained",
        )
    batch = values["train.batch_size"]
    if batch % values["train.accumulation"]:
        _refuse(
            values,
            "train.accumulation",
            f"a divisor of config.train.batch_size, which is {batch}",
            "All chunks are of one size",
        )
    if values["optimizer.min_learning_rate"] > values["optimizer.learning_rate"]:
        _refuse(
            values,
            "optimizer.min_learning_rate",
            "at most config.optimizer.learning_rate, which is "
            f"{values['optimizer.learning_rate']!r}",
            "The cosine falls from the one to the other",
        )
    if values["init_parts"] != "all" and not values["init_from"]:
        _refuse(
            values,
            "init_parts",
            "'all' without config.init_from",
            "Name a model to take the encoders of",
        )
    end = values["train.max_steps"]
    if end and values["train.profile_start"] > end:
        _refuse(
            values,
            "train.profile_start",
            f"at most config.train.max_steps, which is {end}, or -1 (never)",
            "The run ends before the profile begins",
        )
    _check_metric(values)


def _check_metric(values: dict[str, Any]) -> None:
    stage, _, figure = values["eval.select_metric"].partition("/")
    if stage == "global":
        return
    for name in ("eval.rerank_top_k", "loss.atp_weight"):
        if not values[name]:
            _refuse(
                values,
                "eval.select_metric",
                f"a metric of stage one, such as 'global/{figure}', with config.{name}=0",
                f"Add --config.eval.select_metric=global/{figure}",
            )
