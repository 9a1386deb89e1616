"""Annotations of arrays hold: they are checked in tests, and cost a user nothing."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from cada_jax.models.layers import Attention
from cada_jax.objective import losses
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.packing import lay_out
from tests.conftest import REPOSITORY


def _ndf(rows, width, pids, dtype=np.float32):
    ones = np.ones((3, 4), np.float32)
    return losses.ndf(ones, np.ones((rows, width), dtype), np.arange(pids))


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: _ndf(2, 4, 3), "text_features"),
        (lambda: _ndf(3, 5, 3), "text_features"),
        (lambda: _ndf(3, 4, 2), "pids"),
        (lambda: _ndf(3, 4, 3, np.float64), "text_features"),
        (lambda: jax.jit(lambda x: losses.ndf(x, x[:2], jnp.arange(3)))(jnp.ones((3, 4))), "text_"),
        (
            lambda: EncodedImages(np.ones((3, 4), np.float32), np.ones((3, 2), np.float32), [1]),
            "tokens",
        ),
        (lambda: lay_out(*4 * [np.zeros((2, 2), int)], length=2, pad=0), "lengths"),
    ],
)
def test_an_array_of_a_wrong_shape_or_dtype_is_refused(call, what):
    with pytest.raises(TypeCheckError, match=what):
        call()


def test_what_fits_is_taken():
    assert _ndf(3, 4, 3).shape == ()


def test_methods_of_flax_modules_are_checked():
    layer, x = Attention(2), jnp.ones((3, 5, 8))
    (branch, _), _ = layer.init_with_output(jax.random.key(0), x, x)
    assert branch.shape == x.shape
    with pytest.raises(TypeCheckError, match="seen"):
        layer.init(jax.random.key(0), x, x[0])


WITHOUT = """
import sys
for name in ("jaxtyping", "beartype"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy as np
import cada_jax.retriever, cada_jax.objective.accumulation, cada_jax.training.train_step
from cada_jax.objective import losses
print(losses.ndf(np.ones((3, 4), np.float32), np.ones((3, 4), np.float32), np.arange(3)).shape)
"""


def test_without_jaxtyping_everything_imports_and_computes():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "()"), done.stderr
