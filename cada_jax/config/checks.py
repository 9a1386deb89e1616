"""Whether a configuration can be run: every field by the table, then the fields together."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from cada_jax.common.errors import UsageError, shown
from cada_jax.config.fields import BY_NAME, FIELDS, Field, Same
from cada_jax.config.kinds import spelled

LIST_COMMAND = "`python -m cada_jax.config` lists all fields"
TOKENS = ("pad", "cls", "sep", "mask", "dec", "enc")
MOST_PATCHES = 2**16
AXES = ("data", "fsdp", "tensor")
_NETWORK = ("data.max_length", "atp.gate", "atp.groups", "atp.group_pool", "ara.causal")
Values = dict[str, Any]  # dotted name -> value


def validate(config: ConfigDict, *, training: bool = True) -> None:
    """Checks everything that can be known without data and devices.

    Args:
      training: whether it is to be trained. Combinations that only training needs are left out
        when a trained run is scored: `eval.rerank_top_k=0` scores by similarity alone.

    Raises:
      UsageError: the first thing that is wrong, on one line: the field, what is allowed, what was
        given.
    """
    for name in flat(config):
        if name not in BY_NAME:
            raise UsageError(f"config.{name[:50]}: there is no such field; {suggestion(name)}.")
    values = _values(config, list(BY_NAME))
    for check in (_network, _tokens, _data, _scoring):
        check(values)
    if training:
        _training(values)


def check_fields(config: ConfigDict, *names: str) -> None:
    """Checks single fields of a configuration, for functions that read only these.

    Raises:
      UsageError: a value is not allowed; one line, as `validate`.
    """
    _values(config, list(names))


def check_network(config: ConfigDict) -> None:
    """Checks the fields that the network is built from, one by one and together.

    Raises:
      UsageError: the first thing that is wrong, on one line, as `validate`.
    """
    names = [field.name for field in FIELDS if field.name.startswith(("model.", "mesh."))]
    _network(_values(config, [*names, *_NETWORK]))


def refusal(field: Field, given: Any) -> UsageError:
    """One line on a value that a field does not allow."""
    example = "" if isinstance(field.default, Same) else spelled(field.default)
    hint = f" Write for example --config.{field.name}={example}." if example else ""
    said = f"config.{field.name} is {shown(given)}; allowed: {field.kind.allowed}.{hint}"
    return UsageError(said)


def suggestion(name: str) -> str:
    """The field that was probably meant, or where all of them are listed."""
    near = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.75)
    same_key = [known for known in BY_NAME if known.rpartition(".")[2] == name.rpartition(".")[2]]
    meant = same_key if len(same_key) == 1 else near
    return f"did you mean config.{meant[0]}? {LIST_COMMAND}" if meant else LIST_COMMAND


def flat(values: Mapping, prefix: str = "") -> Values:
    """The leaves of nested mappings: dotted key -> value."""
    leaves: Values = {}
    for key in values:
        name = f"{prefix}{key}"
        value = values[key]
        below = isinstance(value, Mapping | ConfigDict | FrozenConfigDict) and name not in BY_NAME
        leaves |= flat(value, f"{name}.") if below else {name: value}
    return leaves


def _values(config: ConfigDict, names: list[str]) -> Values:
    """The values of fields, each allowed by the table."""
    found, values = flat(config), {}
    for name in names:
        if name not in found:
            raise UsageError(
                f"config.{name} is missing; start from cada_jax.config.default_config(), which "
                "has every field."
            )
        values[name] = found[name]
        if not BY_NAME[name].kind.accepts(found[name]):
            raise refusal(BY_NAME[name], found[name])
    return values


def _need(fulfilled: Any, values: Values, name: str, allowed: str) -> None:
    if not fulfilled:
        raise UsageError(f"config.{name} is {values[name]!r}; allowed: {allowed}.")


def _network(v: Values) -> None:
    """Sizes that must divide or contain each other."""
    for side in ("image", "text"):
        width, heads = v[f"model.{side}.width"], f"model.{side}.heads"
        _need(width % v[heads] == 0, v, heads, f"a divisor of config.model.{side}.width = {width}")
        tensor = v["mesh.tensor"]
        fits = tensor == -1 or v[heads] % tensor == 0
        _need(fits, v, "mesh.tensor", f"a divisor of config.{heads}, which is {v[heads]}")
    size, patch = v["model.image.size"], v["model.image.patch"]
    for pixels, step in zip(size, patch, strict=True):
        _need(pixels % step == 0, v, "model.image.patch", f"divisors of the image's size, {size}")
    patches = (size[0] // patch[0]) * (size[1] // patch[1])
    most = f"a size that gives at most {MOST_PATCHES} patches, not {patches}"
    _need(patches <= MOST_PATCHES, v, "model.image.patch", most)
    if v["model.image.stem"] == "conv":
        with_conv = "multiples of 4 with config.model.image.stem='conv', which halves twice"
        _need(not any(n % 4 for n in patch), v, "model.image.patch", with_conv)
        _need(v["model.image.width"] % 4 == 0, v, "model.image.width", with_conv)
    length = v["data.max_length"]
    enough = f"at least config.data.max_length, which is {length}"
    _need(length <= v["model.text.max_positions"], v, "model.text.max_positions", enough)
    if v["atp.groups"] == "phrases":
        phrases = "'valid' with config.atp.groups='phrases', which hold no padding"
        _need(v["atp.group_pool"] == "valid", v, "atp.group_pool", phrases)
    else:
        divisor = f"a divisor of {length - 1}, config.data.max_length without [CLS]"
        _need((length - 1) % v["atp.groups"] == 0, v, "atp.groups", divisor)


def _tokens(v: Values) -> None:
    """The ids of the special tokens: all different, all in the vocabulary."""
    size = v["model.text.vocab_size"]
    ids = [v[f"model.tokens.{token}"] for token in TOKENS]
    for token, index in zip(TOKENS, ids, strict=True):
        own = index < size and ids.count(index) == 1
        allowed = f"an id of its own below config.model.text.vocab_size, which is {size}"
        _need(own, v, f"model.tokens.{token}", allowed)


def _data(v: Values) -> None:
    """Image sizes, settings of the generated people, and the axes of the mesh."""
    same = f"the same as config.data.image_size, which is {v['data.image_size']}: set that alone"
    _need(v["model.image.size"] == v["data.image_size"], v, "model.image.size", same)
    listed = ",".join((v["data.name"], v["train.datasets"], v["eval.datasets"]))
    if "synthetic" in {label.partition("/")[0].strip() for label in listed.split(",")}:
        for name, refused in (("data.tagger", "nltk"), ("data.tag_unit", "wordpiece")):
            _need(v[name] != refused, v, name, "another one with the data set 'synthetic'")
    shorter = min(v["data.image_size"])
    padded = f"less than the shorter side of an image, which is {shorter} pixels"
    _need(v["augment.pad"] < shorter, v, "augment.pad", padded)
    for axis in (open_axes := [axis for axis in AXES if v[f"mesh.{axis}"] == -1])[1:]:
        _need(False, v, f"mesh.{axis}", f"1 or more, since config.mesh.{open_axes[0]} is -1")


def _scoring(v: Values) -> None:
    """What evaluation needs: something to average over an image and its mirror image."""
    scored = v["eval.rerank_top_k"] or v["eval.image_to_text_top_k"]
    mirrored = "False with config.eval.rerank_top_k=0, since match logits are averaged"
    _need(scored or not v["eval.mirror"], v, "eval.mirror", mirrored)


def _training(v: Values) -> None:
    """What only training needs: a loss, a batch that splits, a schedule, a metric that is there."""
    weights = [v[f"loss.{name}_weight"] for name in ("global", "atp", "ara")]
    above = "a number above 0 where all losses are off"
    _need(any(weights) or v["loss.alignment"] != "off", v, "loss.global_weight", above)
    batch, epochs, end = v["train.batch_size"], v["train.epochs"], v["train.max_steps"]
    divisor = f"a divisor of config.train.batch_size, which is {batch}"
    _need(batch % v["train.accumulation"] == 0, v, "train.accumulation", divisor)
    peak = v["optimizer.learning_rate"]
    low = f"at most config.optimizer.learning_rate, which is {peak!r}"
    _need(v["optimizer.min_learning_rate"] <= peak, v, "optimizer.min_learning_rate", low)
    started = "'all' without config.init_from"
    _need(v["init_from"] or v["init_parts"] == "all", v, "init_parts", started)
    within = f"at most config.train.epochs, which is {epochs}, or 0 (at the end alone)"
    _need(end or v["train.eval_every"] <= epochs, v, "train.eval_every", within)
    before = f"at most config.train.max_steps, which is {end}, or -1 (never)"
    _need(not end or v["train.profile_start"] <= end, v, "train.profile_start", before)
    figure = v["eval.select_metric"].removeprefix("global/").rpartition("/")
    for name in ("eval.rerank_top_k", "loss.atp_weight") if figure[1] else ():
        one = f"a metric of stage one, as 'global/{figure[2]}', with config.{name}=0"
        _need(v[name], v, "eval.select_metric", one)
