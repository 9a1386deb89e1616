"""A configuration, and rows of the table."""

import pytest

from cada_jax.config import load_config
from tools.ablation import rows


@pytest.fixture
def base():
    return load_config("synthetic:tiny")


@pytest.fixture
def chosen():
    return rows.choose("global,atp")
