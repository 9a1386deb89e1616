"""What every parameter is called here and in PyTorch: one table, used in both directions.

It knows three sets of names: ours, those of the authors' CADA (which are BLIP's), and those of
Hugging Face's BLIP classes. It is data; `convert` does the work.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

Dialect = Literal["cada", "hf"]


class Rule(NamedTuple):
    """One tensor of PyTorch and what it is here; "{i}" stands for the layer.

    Attributes:
      ours: leaf paths; several when PyTorch concatenates them along its first axis. Where the
        PyTorch name has a "{i}", ours are stacked over layers along a new first axis.
      kind: "same", "dense" ([out,in] there, [in,out] here) or
        "conv" ([out,in,h,w] there, [h,w,in,out] here).
      cada: the name in the authors' and BLIP's checkpoints.
      hf: the name in Hugging Face's BLIP.
    """

    ours: tuple[str, ...]
    kind: str
    cada: str
    hf: str


_IMAGE = (
    # ours, parameters, CADA, Hugging Face
    ("cls_token", "value", "cls_token", "embeddings.class_embedding"),
    ("pos_embed", "value", "pos_embed", "embeddings.position_embedding"),
    ("patch_embed", "conv", "patch_embed.proj", "embeddings.patch_embedding"),
    ("blocks/norm1", "norm", "blocks.{i}.norm1", "encoder.layers.{i}.layer_norm1"),
    ("blocks/attn/query+key+value", "dense", "blocks.{i}.attn.qkv",
     "encoder.layers.{i}.self_attn.qkv"),
    ("blocks/attn/out", "dense", "blocks.{i}.attn.proj", "encoder.layers.{i}.self_attn.projection"),
    ("blocks/norm2", "norm", "blocks.{i}.norm2", "encoder.layers.{i}.layer_norm2"),
    ("blocks/mlp/fc1", "dense", "blocks.{i}.mlp.fc1", "encoder.layers.{i}.mlp.fc1"),
    ("blocks/mlp/fc2", "dense", "blocks.{i}.mlp.fc2", "encoder.layers.{i}.mlp.fc2"),
    ("norm", "norm", "norm", "post_layernorm"),
)  # fmt: skip

_BERT = (
    # ours, parameters, CADA and Hugging Face alike
    ("word_embed", "embedding", "embeddings.word_embeddings"),
    ("pos_embed", "embedding", "embeddings.position_embeddings"),
    ("embed_norm", "norm", "embeddings.LayerNorm"),
    ("layers/attn/query", "dense", "encoder.layer.{i}.attention.self.query"),
    ("layers/attn/key", "dense", "encoder.layer.{i}.attention.self.key"),
    ("layers/attn/value", "dense", "encoder.layer.{i}.attention.self.value"),
    ("layers/attn/out", "dense", "encoder.layer.{i}.attention.output.dense"),
    ("layers/attn_norm", "norm", "encoder.layer.{i}.attention.output.LayerNorm"),
    ("layers/cross/query", "dense", "encoder.layer.{i}.crossattention.self.query"),
    ("layers/cross/key", "dense", "encoder.layer.{i}.crossattention.self.key"),
    ("layers/cross/value", "dense", "encoder.layer.{i}.crossattention.self.value"),
    ("layers/cross/out", "dense", "encoder.layer.{i}.crossattention.output.dense"),
    ("layers/cross_norm", "norm", "encoder.layer.{i}.crossattention.output.LayerNorm"),
    ("layers/mlp/fc1", "dense", "encoder.layer.{i}.intermediate.dense"),
    ("layers/mlp/fc2", "dense", "encoder.layer.{i}.output.dense"),
    ("layers/mlp_norm", "norm", "encoder.layer.{i}.output.LayerNorm"),
)

_HEADS = (
    ("attribute_decoder/head", "bias", "text_decoder.cls.predictions"),
    ("attribute_decoder/head/dense", "dense", "text_decoder.cls.predictions.transform.dense"),
    ("attribute_decoder/head/norm", "norm", "text_decoder.cls.predictions.transform.LayerNorm"),
    ("vision_proj", "dense", "vision_proj"),
    ("text_proj", "dense", "text_proj"),
    ("itm_head", "dense", "itm_head"),
    ("itm_local_head", "dense", "itm_local_head"),
)

# Ours alone. They travel under these names when asked for; the authors' code refuses them.
_OURS_ONLY = (
    ("text_encoder/layers/gate", "dense", "text_encoder.encoder.layer.{i}.crossattention.gate"),
    ("image_encoder/stem/conv0", "conv", "visual_encoder.stem.conv0"),
    ("image_encoder/stem/conv1", "conv", "visual_encoder.stem.conv1"),
    ("text_encoder/conv_stem/conv", "conv", "text_encoder.conv_stem.conv"),
    ("attribute_decoder/bert/conv_stem/conv", "conv", "text_decoder.bert.conv_stem.conv"),
)

# Kind of module -> its parameters: (ours, theirs, how the array differs).
_PARAMETERS = {
    "dense": (("kernel", "weight", "dense"), ("bias", "bias", "same")),
    "conv": (("kernel", "weight", "conv"), ("bias", "bias", "same")),
    "norm": (("scale", "weight", "same"), ("bias", "bias", "same")),
    "embedding": (("embedding", "weight", "same"),),
    "bias": (("bias", "bias", "same"),),
}


def _rules(ours: str, parameters: str, cada: str, hf: str) -> Iterator[Rule]:
    if parameters == "value":  # the module is itself the parameter
        yield Rule((ours,), "same", cada, hf)
        return
    parent, _, last = ours.rpartition("/")
    modules = [f"{parent}/{name}".lstrip("/") for name in last.split("+")]
    for mine, theirs, kind in _PARAMETERS[parameters]:
        leaves = tuple(f"{module}/{mine}" for module in modules)
        yield Rule(leaves, kind, f"{cada}.{theirs}", f"{hf}.{theirs}")


def _table() -> tuple[Rule, ...]:
    rows = [
        (f"image_encoder/{ours}", kind, f"visual_encoder.{cada}", f"vision_model.{hf}")
        for ours, kind, cada, hf in _IMAGE
    ]
    for mine, theirs in (
        ("text_encoder", "text_encoder"),
        ("attribute_decoder/bert", "text_decoder.bert"),
    ):
        names = [(f"{mine}/{ours}", kind, f"{theirs}.{name}") for ours, kind, name in _BERT]
        rows += [(ours, kind, name, name) for ours, kind, name in names]
    rows += [(ours, kind, name, name) for ours, kind, name in (*_HEADS, *_OURS_ONLY)]
    return tuple(itertools.chain.from_iterable(_rules(*row) for row in rows))


TABLE: tuple[Rule, ...] = _table()

# PyTorch stores a tied parameter under both names: copy -> original.
TIED = {
    "text_decoder.cls.predictions.decoder.weight": (
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ),
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
# Buffers with 0, 1, 2 ...: older PyTorch code stores them, newer does not.
POSITION_IDS = (
    "text_encoder.embeddings.position_ids",
    "text_decoder.bert.embeddings.position_ids",
)
# Only pretraining uses these: momentum copies, queues of negatives, learned temperatures.
LEFT_OUT = (
    (re.compile(r"(^|\.)\w+_m\."), "momentum copy"),
    (re.compile(r"(^|\.)((image|text|idx|ptr)_queue|queue_ptr)$"), "queue"),
    (re.compile(r"(^|\.)(temp|logit_scale)$"), "temperature"),
    (re.compile(r"(^|\.)position_ids$"), "buffer"),
)
# What wraps a module in PyTorch and stands inside the names of its parameters.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
# Without any of these nothing can be retrieved; the others serve training alone.
RETRIEVAL_PARTS = ("image_encoder", "text_encoder", "vision_proj", "text_proj", "itm_head")
GATE = "text_encoder/layers/gate/"  # new ones are 0, and the gate they give is exactly 1
OURS_ONLY = (
    GATE,
    "image_encoder/stem/",
    "text_encoder/conv_stem/",
    "attribute_decoder/bert/conv_stem/",
)

_LAYER = re.compile(r"\.(\d+)\.")


def dialect_of(names: Iterator[str] | Mapping) -> Dialect:
    """Hugging Face's BLIP calls the image encoder `vision_model`, everybody else does not."""
    return "hf" if any(name.startswith("vision_model.") for name in names) else "cada"


def template_of(name: str) -> str:
    """A tensor's name with its layer number replaced by "{i}"."""
    return _LAYER.sub(".{i}.", name)


@functools.cache
def _rules_of(dialect: Dialect) -> dict[str, Rule]:
    return {getattr(rule, dialect): rule for rule in TABLE}


@functools.cache
def _known() -> frozenset[str]:
    return frozenset({*_rules_of("cada"), *_rules_of("hf"), *TIED, *POSITION_IDS})


def known_name(name: str) -> str | None:
    """The name that CADA's or BLIP's code gives a tensor, without what wraps it.

    Wrappers are modules inside the name ("_orig_mod") and anything in front of it ("model.",
    "state_dict.ema."). None: neither code has a tensor of that name.
    """
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    ends = (".".join(parts[first:]) for first in range(len(parts)))
    return next((end for end in ends if template_of(end) in _known()), None)


def missing_for_retrieval(leaves: Iterable[str]) -> list[str]:
    """The parts that retrieval needs and that some of these new leaves belong to."""
    parts = {leaf.split("/")[0] for leaf in leaves if not leaf.startswith(GATE)}
    return [part for part in RETRIEVAL_PARTS if part in parts]


def translate(name: str, source: Dialect, target: Dialect) -> str | None:
    """The name of the tensor `name` in another set of names, None if the table lacks it."""
    rule = _rules_of(source).get(template_of(name))
    if rule is None:
        return None
    layer = _LAYER.search(name)
    return getattr(rule, target).replace("{i}", layer.group(1) if layer else "")
