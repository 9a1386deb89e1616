"""The real programs, described for devices that are not here: nothing is allocated, nothing runs.

train: the training step. encode: the encoders of images and of captions. rerank: the decoder over
packed pairs, in the blocks that most of an evaluation's pairs take. search: a block of queries
compared with the whole gallery, which lies on the device, and the best of it.
"""

import collections
import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from tools.bench import flops as flops_lib

PROGRAMS = ("train", "encode", "rerank", "search")


@dataclasses.dataclass(frozen=True)
class Program:
    """One program on its mesh.

    Attributes:
      name: "train", "encode images", "encode captions", "rerank" or "search".
      config: full config, with the mesh.
      mesh: `jax.sharding.Mesh`.
      lower: -> `jax.stages.Lowered`.
      flops: that the model asks of one run over all devices, see `tools.bench.flops`; what is
        padding, or computed a second time, is the program's own business.
      items: how many units one run handles over all devices.
      unit: "pairs", "images", "captions" or "queries".
    """

    name: str
    config: ConfigDict
    mesh: Any
    lower: Callable[[], Any]
    flops: float
    items: float
    unit: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation's size: images, captions, images re-ranked for each, tokens of a caption."""

    gallery: int = 19848
    queries: int = 19848
    rerank: int = 32
    caption_tokens: int = 40

    def runs_over(self, program: Program) -> float:
        """How often a program runs in it."""
        each = {"images": self.gallery, "captions": self.queries, "queries": self.queries}
        return each.get(program.unit, self.queries * self.rerank) / program.items


def describe(
    name: str, config: ConfigDict, devices: list | None, size: Evaluation | None = None
) -> list[Program]:
    """The programs of that name on a mesh of these devices.

    Args:
      name: one of `PROGRAMS`.
      config: full config; `config.mesh` fits the devices.
      devices: all that JAX has if None.
      size: what an evaluation's batches are planned for, see `rerank_program`.

    Raises:
      UsageError: the mesh does not fit the devices or the batch.
    """
    size = size or Evaluation()
    if name == "train":
        return [train_program(config, devices)]
    if name == "encode":
        return encode_programs(config, devices)
    if name == "search":
        return [search_program(config, devices, size)]
    return [rerank_program(config, devices, size)]


def abstract_batch(config: ConfigDict) -> dict:
    """Shapes of a training batch."""
    import jax
    import numpy as np

    rows, length = config.train.batch_size, config.data.max_length
    shapes = {
        "image": ((rows, *config.data.image_size, 3), np.uint8),
        "token_ids": ((rows, length), np.int32),
        "phrase_ids": ((rows, length), np.int32),
        "attribute_mask": ((rows, length), np.bool_),
        "pid": ((rows,), np.int32),
    }
    return {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}


def train_program(config: ConfigDict, devices: list | None = None) -> Program:
    """The training step; arguments and errors as of `describe`."""
    import jax

    from cada_jax.objective.losses import MASKED_CHUNK
    from cada_jax.training import train_step
    from cada_jax.training.setup import make_setup

    setup = make_setup(config, steps_per_epoch=100, devices=devices)
    state = train_step.abstract_state(setup)

    def lower():
        step: Any = train_step.make_train_step(setup)  # jitted, which its type does not say
        key = jax.eval_shape(lambda: jax.random.key(0))
        return step.lower(state, abstract_batch(config), key)

    pairs = config.train.batch_size
    # Words are predicted some masked places at a time; few captions have more than one lot.
    places = pairs * min(MASKED_CHUNK, config.data.max_length)
    flops = flops_lib.train_step(config, pairs, config.data.max_length, logits=places)
    return Program("train", config, setup.network.mesh, lower, flops, pairs, "pairs")


def _network(config: ConfigDict, devices: list | None) -> Any:
    from cada_jax.network import abstract_network

    return abstract_network(config, devices)


def _rows(network: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    import jax

    from cada_jax.distributed.partitioning import data_sharding

    return jax.ShapeDtypeStruct(shape, dtype, sharding=data_sharding(network.mesh))


def _lower(network: Any, function: Any, *inputs: Any) -> Callable[[], Any]:
    """`Network.run`, lowered."""
    import jax

    def lower():
        with jax.set_mesh(network.mesh):
            return function.lower(network.model, network.computed_params, *inputs)

    return lower


def encode_programs(config: ConfigDict, devices: list | None = None) -> list[Program]:
    """The encoders of images and of captions at `config.eval.batch_size`, padded to the mesh."""
    import numpy as np

    from cada_jax.distributed.mesh import batch_divisor
    from cada_jax.retrieval import encode

    network = _network(config, devices)
    shards = batch_divisor(network.mesh)
    rows = math.ceil(config.eval.batch_size / shards) * shards
    images = _rows(network, (rows, *config.data.image_size, 3), np.uint8)
    captions = _rows(network, (rows, config.data.max_length), np.int32)
    common = (config, network.mesh)
    return [
        Program(
            "encode images",
            *common,
            _lower(network, encode._encode_images, images),
            flops_lib.encode_image(config, rows),
            rows,
            "images",
        ),
        Program(
            "encode captions",
            *common,
            _lower(network, encode._encode_texts, captions),
            flops_lib.encode_text(config, rows, config.data.max_length),
            rows,
            "captions",
        ),
    ]


def _plan(network: Any, size: Evaluation) -> Any:
    """(the batch that most pairs are decoded in, pairs of it on average) of an evaluation."""
    import numpy as np

    from cada_jax.retrieval import rerank

    config = network.config
    # Enough images that the commonest batch is full on any mesh; more would only take longer.
    images = min(size.gallery, max(2048, 64 * network.mesh.size))
    rng = np.random.default_rng(0)
    low, high = size.caption_tokens // 2, size.caption_tokens * 3 // 2
    lengths = np.minimum(rng.integers(low, high + 1, size.queries), config.data.max_length)
    filled = np.arange(config.data.max_length) < lengths[:, None]
    pad = network.model.config.tokens.pad
    token_ids = np.where(filled, pad + 1, pad).astype(np.int32)
    each = max(1, round(images * size.queries * size.rerank / size.gallery))
    pairs = rerank.Pairs(
        token_ids,
        np.zeros((images, flops_lib.image_tokens(config), 1), np.float32),
        rng.integers(size.queries, size=each),
        rng.integers(images, size=each),
    )
    batches = rerank.plan_batches(network, pairs)
    scored = collections.Counter()
    for batch in batches:
        scored[batch.pair.shape] += int((batch.pair >= 0).sum())
    shape, most = scored.most_common(1)[0]
    alike = [batch for batch in batches if batch.pair.shape == shape]
    return alike[0], most / len(alike)


def rerank_program(config: ConfigDict, devices: list | None, size: Evaluation) -> Program:
    """The decoder over the batch of packed pairs that is commonest in an evaluation.

    Args:
      config: full config.
      devices: of the mesh, all that JAX has if None.
      size: queries, images and lengths for which pairs are packed as `rerank.match_pairs` packs
        them; captions have from half to one and a half of `size.caption_tokens` tokens.
    """
    import jax.numpy as jnp
    import numpy as np

    from cada_jax.retrieval import rerank

    network = _network(config, devices)
    batch, pairs = _plan(network, size)
    blocks, rows, texts = batch.pair.shape
    packed, length = blocks * rows, batch.shape.length
    tokens, dtype = flops_lib.image_tokens(config), jnp.dtype(config.model.dtype)
    inputs = [_rows(network, (packed, length), np.int32) for _ in range(3)]
    inputs.append(_rows(network, (packed, texts), np.int32))
    inputs.append(_rows(network, (blocks, tokens, config.model.image.width), dtype))
    flops = pairs * flops_lib.decode(config, 1, size.caption_tokens, 0)
    flops += flops_lib.decode(config, 0, 0, blocks)  # an image's keys and values, once a block
    lower = _lower(network, rerank._match_logits, *inputs)
    return Program("rerank", config, network.mesh, lower, flops, pairs, "pairs")


def search_program(config: ConfigDict, devices: list | None, size: Evaluation) -> Program:
    """One block of queries against a whole gallery; arguments as of `describe`."""
    import jax
    import numpy as np

    from cada_jax.distributed.partitioning import replicated
    from cada_jax.retrieval import search

    network, width = _network(config, devices), config.model.embed_dim
    block = min(search.QUERY_BLOCK, size.queries)
    queries = _rows(network, (block, width), np.float32)
    place = replicated(network.mesh)
    gallery = jax.ShapeDtypeStruct((size.gallery, width), np.float32, sharding=place)

    def best(queries, gallery):
        return search._top_k(search._similarity(queries, gallery), size.rerank)

    def lower():
        return jax.jit(best).lower(queries, gallery)

    flops = 2.0 * block * size.gallery * width
    return Program("search", config, network.mesh, lower, flops, block, "queries")
