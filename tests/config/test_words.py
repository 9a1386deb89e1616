"""The words of the table are those that the code knows, no more and no fewer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError
from cada_jax.config.checks import AXES
from cada_jax.config.fields import BY_NAME, FIGURES
from cada_jax.distributed import mesh
from cada_jax.models.layers import REMATS
from cada_jax.objective import losses, phrase_masking
from cada_jax.retrieval.metrics import RankMetrics
from cada_jax.text.attribute_phrases import TAG_UNITS
from cada_jax.text.taggers import TAGGERS


@pytest.mark.parametrize(
    ("name", "words"),
    [("model.remat", REMATS), ("data.tagger", TAGGERS), ("data.tag_unit", TAG_UNITS)],
)
def test_the_words_are_those_of_the_module_that_reads_them(name, words):
    assert set(BY_NAME[name].kind.words) == set(words)


def test_every_word_for_masking_and_negatives_is_known_to_the_losses():
    key, ids = jax.random.key(0), jnp.ones((2, 3), jnp.int32)
    for word in BY_NAME["ara.masking"].kind.words:
        assert phrase_masking.draw_mask(key, word, ids, ids > 0).shape == (2, 3)
    for word in BY_NAME["atp.negatives"].kind.words:
        features = jnp.eye(2, 4)
        chosen = losses.choose_negatives(features, features, jnp.arange(2), word, key=key)
        assert chosen.weight.tolist() == [1.0, 1.0]


def test_the_figures_are_those_of_an_evaluation():
    metrics = RankMetrics()
    metrics.add(np.array([[0.9, 0.1]]), np.array([[True, False]]))
    assert set(metrics.result()) == set(FIGURES)


def test_the_axes_are_those_of_the_mesh():
    assert AXES == mesh.AXES


def test_a_function_that_reads_single_fields_refuses_them_by_the_table():
    config = config_lib.default_config()
    config.optimizer.decay = "none"
    with pytest.raises(UsageError, match="config.optimizer.decay is 'none'; allowed: 'all' or"):
        config_lib.check_fields(config, "optimizer.schedule", "optimizer.decay")
