"""Reads a folder of numbers obtained from the released PyTorch code, whatever its sizes."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.sizes import infer_sizes
from cada_jax.checkpoints.torch.to_torch import to_torch
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.pytrees import flat_arrays
from cada_jax.config import default_config
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models.cada import from_config, init_params
from cada_jax.models.position_embedding import patch_grid
from cada_jax.models.preprocess import MEAN, STD
from cada_jax.retrieval.network import Network

FORMAT = "expected weights_tiny.npz and weights_tiny.json, and a_forward.npz ... f_world2.npz"


def as_released(config):
    """Sets, in place, every switch to what the released code computes."""
    config.atp.gate = "off"
    config.atp.negatives = "hardest"
    config.atp.group_pool = "all"
    config.ara.masking = "token"
    config.ara.token_rate = 1.0  # the folder says which tokens are masked: mask all of those
    config.ara.causal = True
    config.model.text.dropout = 0.0
    config.model.image.drop_path = 0.0
    config.augment.flip = config.augment.erase = 0.0
    config.augment.pad = 0
    config.optimizer.schedule = "epoch"
    config.optimizer.decay = "all"
    return config


def build_model(config):
    """`models.cada.from_config`, whose refusal is the user's to mend here.

    Raises:
      UsageError: the config describes no model.
    """
    try:
        return from_config(config)
    except (ValueError, ZeroDivisionError) as err:
        raise UsageError(f"the sizes found describe no model: {err}") from err


class Golden:
    """One folder: its weights, its config, its cases.

    Attributes:
      weights: PyTorch names -> arrays.
      config: full ConfigDict with the folder's sizes and the released code's switches.
      params: the weights as our parameters.
    """

    def __init__(self, folder: str, dtype: str = "float32"):
        """Reads the weights; cases are read when asked for.

        Raises:
          MissingFileError: there are no weights.
          UsageError: a file cannot be read, or the weights are no CADA model.
        """
        self.folder = pathlib.Path(os.path.expanduser(folder))
        self.weights = self.arrays("weights_tiny")
        try:
            self.config = self._config(dtype)
        except (KeyError, IndexError, TypeError, ValueError) as err:
            if isinstance(err, UsageError):
                raise
            raise UsageError(
                f"{self.folder / 'weights_tiny.npz'} and .json do not describe a model "
                f"({type(err).__name__}: {err}): {FORMAT}"
            ) from err
        self.model = build_model(self.config)
        self.params = self.convert(self.weights)

    def network(self, config, devices: int = 1) -> Network:
        """The weights in the network of a config, on the first `devices` devices."""
        mesh = make_mesh(config.mesh, jax.devices()[:devices])
        return Network(config, mesh, self.model, None).with_params(self.params)

    def has(self, case: str) -> bool:
        """Whether the folder has the numbers of `case`."""
        return (self.folder / f"{case}.npz").is_file()

    def arrays(self, case: str) -> dict[str, np.ndarray]:
        """Every array of a case by name.

        Raises:
          MissingFileError: the folder lacks it.
          UsageError: it cannot be read.
        """
        if not self.has(case):
            raise MissingFileError(f"--golden={self.folder} holds no {case}.npz: {FORMAT}")
        try:
            # NumPy leaves a file open that it opened itself and could not read.
            with (self.folder / f"{case}.npz").open("rb") as data, np.load(data) as file:
                return {name: file[name] for name in file.files}
        except Exception as err:  # zipfile, zlib and NumPy raise some ten types for damaged files
            raise UsageError(
                f"{self.folder / case}.npz is truncated, or no file of numpy.savez: {err}"
            ) from err

    def json(self, name: str) -> dict:
        """The JSON object in a file of the folder.

        Raises:
          UsageError: it cannot be read, or is no object.
        """
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as err:
            raise UsageError(f"{path} is no readable JSON: {err}") from err
        if not isinstance(content, dict):
            raise UsageError(f"{path} holds a {type(content).__name__}, expected a JSON object")
        return content

    def extra(self, case: str) -> dict:
        """What `case`.json says besides its arrays; {} if it says nothing."""
        if not (self.folder / f"{case}.json").is_file():
            return {}
        extra = self.json(f"{case}.json").get("extra") or {}
        if not isinstance(extra, dict):
            raise UsageError(f'"extra" of {self.folder / case}.json is no JSON object')
        return extra

    def _config(self, dtype: str):
        config = as_released(default_config())
        extra = self.extra("weights_tiny")
        infer_sizes(self.weights, config)
        image, text = config.model.image, config.model.text
        try:
            image.heads = extra["tiny"]["heads"]
            text.heads = extra["text"]["num_attention_heads"]
            size, tokens = extra["tiny"]["image_size"], extra["tokens"]
            names = {"dec": "dec_bos"}
            for name in config.model.tokens:
                config.model.tokens[name] = tokens[names.get(name, name)]
        except KeyError as err:
            raise UsageError(
                f"{self.folder / 'weights_tiny.json'} lacks extra/.../{err.args[0]}: {FORMAT}"
            ) from err
        config.data.image_size = tuple(size) if isinstance(size, list) else (size, size)
        image.patch = self.weights["visual_encoder.patch_embed.proj.weight"].shape[2:]
        words = self.weights["text_encoder.embeddings.word_embeddings.weight"]
        positions = self.weights["text_encoder.embeddings.position_embeddings.weight"]
        text.vocab_size, text.max_positions = len(words), len(positions)
        for case in ("a_forward", "b_losses", "d_eval"):
            if self.has(case):
                config.data.max_length = self.arrays(case)["input_ids"].shape[1]
                break
        forward = self.arrays("a_forward") if self.has("a_forward") else {}
        if "local_logits" in forward:
            config.atp.groups = len(forward["local_logits"]) // len(forward["input_ids"])
        config.model.dtype = dtype
        return config

    def convert(self, tensors: dict[str, np.ndarray]) -> dict:
        """PyTorch tensors -> our nested parameters."""
        key = jax.random.key(0)
        shapes = jax.eval_shape(lambda k: init_params(self.model, self.config, k), key)
        shapes = {path: leaf.shape for path, leaf in flat_arrays(shapes).items()}
        grid = patch_grid(self.config.model.image)
        leaves, _ = from_torch(tensors, shapes, grid, origin=str(self.folder))
        return unflatten_dict(leaves, sep="/")

    @staticmethod
    def back(tree: dict) -> dict[str, np.ndarray]:
        """Nested parameters, or gradients shaped like them, -> PyTorch names."""
        return to_torch(flat_arrays(jax.device_get(tree)))

    @staticmethod
    def batch(arrays: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, jax.Array]:
        """A train batch of already normalised images, in which exactly `mask` gets masked."""
        token_ids = arrays["input_ids"].astype(np.int32)
        batch = {
            "image": channels_last(arrays["images"]),
            "token_ids": token_ids,
            "phrase_ids": np.zeros_like(token_ids),
            "attribute_mask": mask,
            "pid": arrays["pids"].astype(np.int32),
        }
        return {name: jnp.asarray(array) for name, array in batch.items()}

    def effective(self, mask_raw: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
        """The released code's rule: [CLS] and padding are never masked, [SEP] may be."""
        tokens = self.config.model.tokens
        return mask_raw & (input_ids != tokens.pad) & (input_ids != tokens.cls)


def channels_last(images: np.ndarray) -> np.ndarray:
    """[..., C,H,W] -> [..., H,W,C]."""
    return np.moveaxis(images, -3, -1)


def before_normalising(images: np.ndarray) -> np.ndarray:
    """Float images [...,H,W,3] in [0,255] that `augment.normalize` maps to `images`.

    The public entry points take what a camera gives; the golden images are normalised ones.
    """
    return ((images.astype(np.float64) * STD + MEAN) * 255).astype(np.float32)
