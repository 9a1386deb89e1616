"""What `tools.bench.versions` times in this package, and the work: all from one seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

WORDS = (15, 30)  # of a caption, least and most


def make_images(config: ConfigDict, rows: int) -> np.ndarray:
    """Noise, uint8 [rows,H,W,3]."""
    shape = (rows, *config.model.image.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def make_captions(config: ConfigDict, rows: int) -> np.ndarray:
    """Token ids int32 [rows,L] of captions of `WORDS` words, a token each."""
    rng = np.random.default_rng(0)
    length, tokens = config.data.max_length, config.model.tokens
    ids = rng.integers(200, config.model.text.vocab_size - 10, (rows, length)).astype(np.int32)
    ends = 1 + np.minimum(rng.integers(WORDS[0], WORDS[1] + 1, rows), length - 2)
    ids[np.arange(length)[None] > ends[:, None]] = tokens.pad
    ids[np.arange(rows), ends] = tokens.sep
    ids[:, 0] = tokens.cls
    return ids


def make_train_batch(config: ConfigDict, rows: int) -> dict[str, np.ndarray]:
    """A batch as `data.batches.train_batches` yields it: two captions a person.

    Half of the words belong to attribute phrases of three tokens, much as in the benchmarks.
    """
    token_ids, tokens = make_captions(config, rows), config.model.tokens
    real = (token_ids != tokens.pad) & (token_ids != tokens.sep)
    place = np.arange(token_ids.shape[1], dtype=np.int32)[None]
    inside = real & (place > 0) & (place // 3 % 2 == 1)
    return {
        "image": make_images(config, rows),
        "token_ids": token_ids,
        "phrase_ids": np.where(inside, 1 + place // 3, 0).astype(np.int32),
        "attribute_mask": inside,
        "pid": (np.arange(rows) // 2).astype(np.int32),
    }


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
    batch = to_global(network.mesh, make_train_batch(config, config.train.batch_size))
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

    from cada_jax.models.cada import init_params
    from cada_jax.network import abstract_network
    from cada_jax.retrieval import encode, rerank
    from cada_jax.retrieval.mirror import match_both, mirrored

    network = abstract_network(config, jax.devices()[:1])
    init = jax.jit(lambda key: init_params(network.model, config, key))
    network = network.with_params(init(jax.random.key(0)))
    images = make_images(config, rows)
    batch = {"image": images, "pid": np.arange(rows), "valid": np.ones(rows, bool)}
    texts = make_captions(config, rows)
    text, image = (index.reshape(-1) for index in np.indices((rows, rows)))

    def run():
        gallery = encode.encode_gallery(network, [batch], rows)
        match = rerank.match_pairs
        if mirror:
            match = match_both(encode.encode_gallery(network, mirrored([batch]), rows).tokens)
        return match(network, rerank.Pairs(texts, gallery.tokens, text, image)), gallery.tokens

    return run, run()[1].nbytes * (1 + mirror)
