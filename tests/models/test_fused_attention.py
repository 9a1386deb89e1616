"""The TPU's attention kernel, interpreted, equals the plain form; dropout draws what it says."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.common.pytrees import tree_paths  # noqa: F401
from cada_jax.distributed.mesh import make_mesh
from cada_jax.models import attention, bert, dropout, fused_attention, layers, random_bits, vit
