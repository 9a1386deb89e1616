"""This implementation's side of the benchmarks; runs in its own process, see `side.Side`."""

import functools
import itertools
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.checkpoints.torch.convert import to_torch
from cada_jax.common.pytrees import flat_arrays
from cada_jax.config import load_config
from cada_jax.distributed import batch as batch_lib
from cada_jax.distributed import mesh
from cada_jax.models.cada import from_config, init_params
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.network import Network
from cada_jax.retrieval import encode as encode_lib
from cada_jax.retrieval import rerank as rerank_lib
from cada_jax.retrieval import search
from cada_jax.text import padding
from cada_jax.training import train_step
from cada_jax.training.setup import make_setup
from tools.bench import flops, work
from tools.bench.side import forget_peak_memory, peak_memory, stopwatch


class Ours:
    """Prepares parts, then runs one at a time.

    Args:
      settings: of the work; `threads` is not read, XLA's flags say it.
    """

    def __init__(self, settings: work.Settings):
        # What is compiled goes to a fresh folder: the first time is a cold start, the next a warm.
        jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(prefix="bench_cache_"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        self.config = work.make_config(settings)
        self.model = from_config(self.config)
        # One device: figures are per chip.
        self.mesh = mesh.make_mesh(self.config.mesh, jax.devices()[:1])
        self.forward, self.words = settings.forward, settings.words
        self.now = stopwatch(settings.clock)
        self._params = None
        self._run = None

    def device(self) -> str:
        """The accelerator's name, or "cpu"."""
        return jax.devices()[0].device_kind

    def product(self) -> float:
        """FLOP/s of a large square matrix product in the benchmark's type, the best of ten."""
        size = 2048 if jax.default_backend() == "cpu" else 8192
        square = jnp.ones((size, size), self.config.model.dtype)
        multiply = jax.jit(jnp.matmul)
        return 2 * size**3 / min(self._time(lambda: multiply(square, square)) for _ in range(10))

    def _time(self, run) -> float:
        start = self.now()
        jax.block_until_ready(run())
        return self.now() - start

    def params(self):
        """Random parameters, made once."""
        if self._params is None:
            init = functools.partial(init_params, self.model, self.config)
            self._params = jax.block_until_ready(jax.jit(init)(jax.random.key(0)))
        return self._params

    def network(self) -> Network:
        """The network with these parameters on its device."""
        return Network(self.config, self.mesh, self.model, self.params())

    def save_torch(self, path: str) -> None:
        """Writes the parameters under Hugging Face's names, for the other side to load."""
        leaves = {k: np.asarray(v) for k, v in flat_arrays(self.params()).items()}
        np.savez(path, allow_pickle=False, **to_torch(leaves, dialect="hf"))

    def prepare(self, part: str) -> dict:
        """Compiles a part twice, the second time from the cache on disk, and runs it once."""
        self._run = None
        program, args = self._train_step() if part == "train_step" else self._forward_part(part)
        seconds = []
        for _ in range(2):
            jax.clear_caches()
            start = time.perf_counter()
            compiled = program.lower(*args).compile()
            seconds.append(time.perf_counter() - start)
        if part == "train_step":
            holder = list(args)
            del args

            def run():
                holder[0], metrics = compiled(*holder)
                return metrics

            self._run = run
        else:
            self._run = lambda: compiled(*args)
        jax.block_until_ready(self._run())
        forget_peak_memory()
        return {"compile": seconds[0], "from_cache": seconds[1]}

    def _forward_part(self, part: str) -> tuple[Any, tuple]:
        params, forward = self.params(), self.forward
        captions = jnp.asarray(work.make_captions(self.config, forward, (72, 72)))
        if part == "vit":
            inputs = (jnp.asarray(work.make_images(self.config, forward)),)
        elif part == "text":
            inputs = (captions,)
        else:
            shape = (forward, flops.image_tokens(self.config), self.config.model.image.width)
            tokens = jax.random.normal(jax.random.key(1), shape, self.config.model.dtype)
            inputs = captions, tokens

        def forward_pass(params, first, *rest):
            if part == "vit":
                first = normalize_pixels(first)
            method = {"vit": "encode_image", "text": "encode_text", "decoder": "decode"}[part]
            with mesh.traced_on(self.mesh):  # as the programs that are measured
                return self.model.apply({"params": params}, first, *rest, method=method)

        return jax.jit(forward_pass), (params, *inputs)

    def _train_step(self) -> tuple[Any, tuple]:
        self._params = None
        setup = make_setup(self.config, 1000, jax.devices()[:1])
        state = train_step.init_state(setup)
        batch = batch_lib.to_global(self.mesh, self.train_batch())
        return train_step.make_train_step(setup), (state, batch, jax.random.key(0))

    def train_batch(self) -> dict:
        """The batch of the training step, cut to the length it needs."""
        batch = work.make_train_batch(self.config, self.config.train.batch_size, self.words)
        return padding.cut_batch(batch, padding.batch_length(batch["token_ids"], self.config))

    def length(self) -> int:
        """Tokens of a caption in the training step, padding included."""
        return self.train_batch()["token_ids"].shape[1]

    def run(self) -> float:
        """Seconds of one run of the part prepared last."""
        return self._time(self._run)

    def peak(self) -> int:
        """Bytes held at most since the part was prepared; on the accelerator where there is one."""
        stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
        return stats["peak_bytes_in_use"] if stats else peak_memory()

    def data_steps(self, name: str, steps: int) -> dict:
        """Seconds of training steps on one batch again and again, and on batches read from disk.

        Args:
          name: configuration file of a prepared data set, "synthetic" for one.
          steps: of each kind, after the first two of each.
        """
        from cada_jax.data import batches as batches_lib
        from cada_jax.data import split as split_lib
        from cada_jax.training import loop

        config = load_config(name)
        split = split_lib.load_split(config, "train")
        setup = make_setup(config, 1000, jax.devices()[:1])
        holder = [train_step.init_state(setup)]
        step = train_step.make_train_step(setup)

        def batches():
            read = batches_lib.train_batches(split, config, 0)
            return loop.device_batches(read, self.mesh)

        def timed(source):
            seconds = []
            for _ in range(steps + 2):
                start = time.perf_counter()
                holder[0], metrics = step(holder[0], next(source), jax.random.key(0))
                jax.block_until_ready(metrics)
                seconds.append(time.perf_counter() - start)
            return seconds[2:]

        one = next(batches())
        return {"fake": timed(itertools.repeat(one)), "real": timed(batches())}

    # What follows is for `tools.bench.retrieval`.

    def embed(self, queries: int, gallery: int, batch: int) -> dict:
        """Encodes noise images and random captions; seconds of each."""
        self.token_ids = work.make_captions(self.config, queries, self.words)
        images = work.make_images(self.config, gallery)

        def batches(name, rows):
            for i in range(0, len(rows), batch):
                part = np.resize(rows[i : i + batch], (batch, *rows.shape[1:]))
                valid = np.arange(i, i + batch) < len(rows)
                yield {name: part, "pid": np.zeros(batch, np.int32), "valid": valid}

        def embed(encode, name, rows):
            start = self.now()
            made = encode(self.network(), batches(name, rows), len(rows))
            return made, self.now() - start

        self.gallery, of_images = embed(encode_lib.encode_gallery, "image", images)
        self.queries, of_texts = embed(encode_lib.encode_queries, "token_ids", self.token_ids)
        return {"image": of_images, "token_ids": of_texts}

    def topk(self, k: int) -> float:
        """Seconds of stage one."""
        start = self.now()
        search.global_topk(self.queries.embeddings, self.gallery.embeddings, k, self.mesh)
        return self.now() - start

    def rerank(self, indices: np.ndarray, batch: int) -> tuple[float, np.ndarray]:
        """(seconds, match logits [Q,k]) of stage two over given images."""
        start = self.now()
        logits = rerank_lib.match_pairs(self.network(), self._pairs(indices), batch)
        logits = logits.reshape(indices.shape)
        return self.now() - start, logits

    def _pairs(self, indices: np.ndarray) -> rerank_lib.Pairs:
        """Every text with its own images."""
        text = np.repeat(np.arange(len(indices)), indices.shape[1])
        return rerank_lib.Pairs(self.token_ids, self.gallery.tokens, text, indices.reshape(-1))

    def rerank_flops(self, indices: np.ndarray, batch: int) -> int:
        """Operations of `rerank` as it is batched, rows that only fill a batch up included."""
        planned = rerank_lib.plan_batches(self.network(), self._pairs(indices), batch)
        return sum(
            flops.decode_packed(
                self.config,
                len(part.image) * part.shape.rows,
                part.shape.length,
                part.shape.texts,
                len(part.image),
            )
            for part in planned
        )

    def captions(self) -> np.ndarray:
        """Token ids of the queries."""
        return self.token_ids

    def gallery_tokens(self, rows: np.ndarray) -> np.ndarray:
        """Image tokens float32 of some gallery images."""
        return np.asarray(self.gallery.tokens[rows], np.float32)
