"""The network on its devices: what every function of this package computes with."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import abstract_arrays
from cada_jax.common.shapes import Int32
from cada_jax.distributed.mesh import check_heads, make_mesh
from cada_jax.distributed.partitioning import param_shardings
from cada_jax.models import cada
from cada_jax.text.attribute_phrases import caption_problem
from cada_jax.text.query_words import Understood, understand
from cada_jax.text.tokenizer import Tokenizer, clean_caption

# Dense layers of the transformers. They compute in the model's dtype, and nothing else reads them.
LAYERS, DENSE = ("blocks", "layers"), ("query", "key", "value", "out", "fc1", "fc2")


def _as_computed(params: Any, dtype: jnp.dtype) -> Any:
    """The parameters with the kernels of the layers in the dtype that they are multiplied in."""

    def convert(path, leaf):
        names = [getattr(key, "key", None) for key in path]
        of_layers = any(name in names for name in LAYERS)
        if of_layers and names[-1] == "kernel" and names[-2] in DENSE:
            return leaf.astype(dtype)
        return leaf

    return jax.tree_util.tree_map_with_path(convert, params)


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, its parameters, and the devices that hold them.

    Attributes:
      config: full config.
      mesh: from `distributed.mesh.make_mesh`.
      model: from `models.cada.from_config`.
      params: nested dict of arrays on the mesh, or of their shapes (`jax.ShapeDtypeStruct` with
        shardings) where they have not been read yet.
    """

    config: ConfigDict
    mesh: Mesh
    model: cada.CADA
    params: Any

    def with_params(self, params: Any) -> "Network":
        """The same with parameters, on the mesh or on the host, placed on the mesh."""
        placed = jax.device_put(params, param_shardings(self.mesh, params))
        return dataclasses.replace(self, params=placed)

    @functools.cached_property
    def computed_params(self) -> Any:
        """`params` with the layers' kernels in `config.model.dtype`: the same results, sooner.

        A batch would otherwise convert them again: two fifths of what a TPU's compiler estimates
        for the re-ranking of a batch in bfloat16. They take half the memory of `params` more.
        """
        dtype = jnp.dtype(self.config.model.dtype)
        if dtype == jnp.float32:
            return self.params
        convert = functools.partial(_as_computed, dtype=dtype)
        shapes = jax.eval_shape(convert, self.params)
        shardings = param_shardings(self.mesh, shapes)
        if isinstance(jax.tree.leaves(self.params)[0], jax.ShapeDtypeStruct):
            return abstract_arrays(shapes, shardings)
        return jax.jit(convert, out_shardings=shardings)(self.params)

    def run(self, program: Callable, *inputs) -> Any:
        """`program(model, computed_params, *inputs)` with the mesh in JAX's context.

        Args:
          program: jitted, with the model static.
        """
        with jax.set_mesh(self.mesh):
            return program(self.model, self.computed_params, *inputs)


@dataclasses.dataclass(frozen=True)
class TextNetwork(Network):
    """A network with the vocabulary that it reads.

    Attributes:
      tokenizer: its token ids are those that the model was trained with.
    """

    tokenizer: Tokenizer

    def token_ids(self, texts: Sequence[str]) -> Int32[np.ndarray, "Q L"]:
        """Descriptions as token ids, cleaned as those that the model was trained with.

        Args:
          texts: what exceeds L = `config.data.max_length` tokens is cut off.

        Raises:
          UsageError: there is no text, or one has no word, or none that the vocabulary has.
        """
        if not texts:
            raise UsageError("texts is empty: expected at least one description")
        if problem := next(filter(None, map(caption_problem, texts)), None):
            raise UsageError(f"a text cannot be searched for: {problem}")
        length = self.config.data.max_length
        for text in texts:
            if not (understood := self.understood(text)).says_something:
                raise UsageError(
                    f"a text cannot be searched for: {text[:80]!r} has no word that the model "
                    f"knows ({'; '.join(understood.notes())})"
                )
        return np.stack([self.tokenizer.encode(clean_caption(text), length)[0] for text in texts])

    def understood(self, text: str) -> Understood:
        """Which words of a description the model can know, and where it is cut off."""
        return understand(text, self.tokenizer, self.config.data.max_length)


def abstract_network(config: ConfigDict, devices: list | None = None) -> Network:
    """The network that a config describes, with shapes for parameters.

    Args:
      config: full config, valid by `cada_jax.config.validate`.
      devices: of the mesh; all there are if None.

    Raises:
      UsageError: `config.mesh` does not fit the devices or the heads.
    """
    try:
        mesh = make_mesh(config.mesh, devices)
        for part in ("image", "text"):
            check_heads(mesh, config.model[part].heads, f"config.model.{part}.heads")
        model = cada.from_config(config)
    except ValueError as e:  # these check what they read of the config, and name the field
        raise UsageError(str(e)) from e
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda key: cada.init_params(model, config, key), key)
    return Network(config, mesh, model, abstract_arrays(shapes, param_shardings(mesh, shapes)))
