"""Reads a folder of numbers obtained from the released PyTorch code, whatever its sizes."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cada_jax.checkpoints.torch.convert import from_torch, to_torch
from cada_jax.checkpoints.torch.sizes import check_sizes, set_sizes
from cada_jax.common.errors import reading
from cada_jax.common.files import read_json
from cada_jax.common.pytrees import flat_arrays
from cada_jax.config import default_config
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models.cada import from_config
from cada_jax.models.preprocess import MEAN, STD
from cada_jax.network import Network

FORMAT = "golden numbers: weights_tiny.npz and .json, a_forward.npz ... g_training.npz"


def as_released(config):
    """Sets, in place, every switch to what the released code computes."""
    config.atp.gate = "off"
    config.atp.negatives = "underflow"
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


def convert(config: ConfigDict, tensors: dict[str, np.ndarray], origin: str) -> dict:
    """PyTorch tensors -> parameters of a config's model; `origin` is what errors call them."""
    leaves, _ = from_torch(tensors, origin)
    check_sizes(config, leaves, origin)
    return unflatten_dict(leaves, sep="/")


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
        self.config = self._config(dtype)
        self.model = from_config(self.config)
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
        path = self.folder / f"{case}.npz"
        # NumPy leaves a file open that it opened itself and could not read.
        with reading(path, FORMAT), path.open("rb") as data, np.load(data) as file:
            return {name: file[name] for name in file.files}

    def extra(self, case: str) -> dict:
        """What `case`.json says besides its arrays; {} if there is none."""
        path = self.folder / f"{case}.json"
        return read_json(path, FORMAT).get("extra") or {} if path.is_file() else {}

    def _config(self, dtype: str):
        config = as_released(default_config())
        extra = self.extra("weights_tiny")
        leaves, _ = from_torch(self.weights, str(self.folder))
        set_sizes(config, leaves)
        image, text = config.model.image, config.model.text
        with reading(self.folder / "weights_tiny.json", f"the sizes of the weights; {FORMAT}"):
            image.heads = extra["tiny"]["heads"]
            text.heads = extra["text"]["num_attention_heads"]
            size, tokens = extra["tiny"]["image_size"], extra["tokens"]
        for name in config.model.tokens:
            config.model.tokens[name] = tokens["dec_bos" if name == "dec" else name]
        config.data.image_size = tuple(size) if isinstance(size, list) else (size, size)
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
        return convert(self.config, tensors, str(self.folder))

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
