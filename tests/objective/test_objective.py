"""Losses that are switched on and off: what each changes, and what it leaves as it is."""

import jax
import numpy as np
import pytest

from cada_jax.models import cada
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.objective import alignment, objective
from tests.conftest import tiny_config_of_steps
from tests.distributed.test_sharding import batch_for

ADDONS = {
    "tal": {"loss.global": "tal"},
    "quota_transport": {"loss.alignment": "quota_transport"},
    "phrases": {"atp.groups": "phrases"},
}
# Of the tiny configuration, from the commit before there was any addon.
PINNED = {
    "ara": 5.302816390991211,
    "ara_accuracy": 0.042553190141916275,
    "global": 7.99411678314209,
    "group": 0.7009686827659607,
    "masked_tokens": 5.875,
    "match": 0.6303209662437439,
    "match_accuracy": 0.6666666865348816,
    "total": 9.855688095092773,
}


def small_config(**changes):
    """One layer of each part, no dropout."""
    config = tiny_config_of_steps()
    config.model.image.depth = config.model.text.depth = 1
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def params():
    config = small_config()
    model = cada.from_config(config)
    return jax.jit(lambda key: cada.init_params(model, config, key))(jax.random.key(1))


def terms_of(config, params, batch=None):
    """The terms and the gradient of one batch."""
    model = cada.from_config(config)
    batch = batch or batch_for(config)

    def total(params, batch):
        batch = batch | {"image": normalize_pixels(batch["image"])}
        return objective.loss_terms(model, config, params, batch, jax.random.key(3))

    found = jax.jit(jax.value_and_grad(total, has_aux=True))(params, batch)
    (_, terms), gradient = jax.device_get(found)
    return terms, gradient


@pytest.fixture(scope="module")
def plain(params):
    return terms_of(small_config(), params)


def test_with_every_addon_off_the_losses_are_those_of_before_there_were_any(plain):
    """Numbers of the version before, on two layers; a device's rounding is left to them."""
    config = tiny_config_of_steps()
    model = cada.from_config(config)
    params = jax.jit(lambda key: cada.init_params(model, config, key))(jax.random.key(1))
    terms, _ = terms_of(config, params)
    assert terms.keys() == plain[0].keys() == PINNED.keys()
    for name, value in PINNED.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)


def test_what_is_off_is_not_even_asked(params, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("an addon that is off was called")

    for place, name in (
        (objective, "tal"),
        (alignment, "quota_transport"),
    ):
        monkeypatch.setattr(place, name, refuse)
    terms_of(small_config(), params)
    for name in ("tal", "quota_transport"):
        with pytest.raises(AssertionError, match="an addon"):
            terms_of(small_config(**ADDONS[name]), params)


@pytest.mark.parametrize("name", ADDONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_addon_changes_its_own_term_alone(name, dtype, params, plain):
    terms, gradient = terms_of(small_config(**ADDONS[name], **{"model.dtype": dtype}), params)
    own = {"tal": "global", "quota_transport": "alignment", "phrases": "group"}[name]
    assert terms.keys() == plain[0].keys() | {own}
    close = {"float32": dict(rtol=1e-6), "bfloat16": dict(rtol=0.05, atol=0.05)}[dtype]
    for other in terms.keys() - {own, "total", "match_accuracy", "ara_accuracy"}:
        np.testing.assert_allclose(terms[other], plain[0][other], **close)
    assert terms[own] != plain[0].get(own)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))
    assert all(np.any(x) for x in jax.tree.leaves(gradient["text_proj"]))


@pytest.mark.parametrize("name", ADDONS)
def test_padding_changes_no_addon(name, params):
    """Captions end at 15 tokens of 21; masks are drawn by shape, so ARA is left out."""
    config = small_config(**ADDONS[name], **{"loss.ara_weight": 0.0})
    batch = batch_for(config)
    cut = {key: batch[key][:, :16] for key in ("token_ids", "phrase_ids", "attribute_mask")}
    whole, of_whole = terms_of(config, params, batch)
    short, of_short = terms_of(config, params, batch | cut)
    for key in whole:
        np.testing.assert_allclose(short[key], whole[key], rtol=1e-5, err_msg=key)
    for a, b in zip(jax.tree.leaves(of_short), jax.tree.leaves(of_whole), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b) + 1e-5


def test_captions_without_words_or_phrases_train_without_nan(params):
    config = small_config(**{k: v for changes in ADDONS.values() for k, v in changes.items()})
    batch = batch_for(config)
    batch["token_ids"][:, 1:] = 0
    batch["token_ids"][:, 1] = config.model.tokens.sep
    batch["phrase_ids"][:] = 0
    batch["attribute_mask"][:] = False
    batch["pid"][:] = 0
    terms, gradient = terms_of(config, params, batch)
    for name in ("global", "alignment", "group", "ara"):
        assert terms[name] == 0.0
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))


def test_phrases_of_another_caption_give_another_loss(params):
    """The negative texts bring their own phrases: those of the rows would be wrong."""
    config = small_config(**ADDONS["phrases"])
    batch = batch_for(config)
    right, _ = terms_of(config, params, batch)
    moved, _ = terms_of(config, params, batch | {"phrase_ids": batch["phrase_ids"][::-1]})
    assert abs(right["group"] - moved["group"]) > 1e-6
    order = np.random.default_rng(0).permutation(len(batch["pid"]))
    shuffled, _ = terms_of(config, params, {name: x[order] for name, x in batch.items()})
    np.testing.assert_allclose(shuffled["group"], right["group"], rtol=1e-5)


def test_the_words_of_a_caption_are_neither_padding_nor_special(params):
    config = small_config()
    tokens = config.model.tokens
    ids = np.array([[tokens.cls, 120, tokens.mask, 130, tokens.sep, tokens.pad]], np.int32)
    words = alignment.is_word(config, ids)
    np.testing.assert_array_equal(words, [[False, True, True, True, False, False]])
