"""Which loss moves which part."""

import dataclasses

import pytest

from tests.conftest import _load_config
from tools.probing import (
    gradients,
)


@pytest.fixture(scope="module")
def norms(one) -> dict:
    return gradients.measure_gradients(one)["norms"]


def test_a_loss_moves_what_it_reads_and_nothing_else(norms):
    moved = {
        name: {part for part, of_part in norms.items() if of_part[name] > 0}
        for name in ("global_weight", "atp_weight", "ara_weight")
    }
    heads = {"itm_head", "itm_local_head"}
    assert moved["global_weight"] == {"image_encoder", "text_encoder", "vision_proj", "text_proj"}
    assert moved["atp_weight"] == {"image_encoder", "text_encoder"} | heads
    assert moved["ara_weight"] == {"image_encoder", "attribute_decoder"}


def test_a_norm_is_of_the_weighted_loss_and_of_what_the_config_switches_on(one, norms):
    config = one.retriever.config.copy_and_resolve_references()
    config.loss.ara_weight *= 3
    config.loss.atp_weight = 0.0
    config.loss.alignment = "quota_transport"
    retriever = dataclasses.replace(one.retriever, config=config)
    found = gradients.measure_gradients(dataclasses.replace(one, retriever=retriever))["norms"]
    here = found["image_encoder"]
    assert set(here) == {"global_weight", "ara_weight", "alignment_weight"}
    assert here["ara_weight"] == pytest.approx(3 * norms["image_encoder"]["ara_weight"], rel=1e-4)
    assert here["global_weight"] == pytest.approx(norms["image_encoder"]["global_weight"], rel=1e-4)
    assert here["alignment_weight"] > 0


def test_a_large_network_gets_fewer_pairs_than_a_batch(one):
    small, full = one.retriever.config, _load_config("rstp")
    assert gradients.batch_size(small) == small.train.batch_size
    assert 16 <= gradients.batch_size(full) < full.train.batch_size


def test_less_than_a_batch_has_no_gradients(one):
    config = one.retriever.config.copy_and_resolve_references()
    config.train.batch_size = one.split.num_captions + 1
    retriever = dataclasses.replace(one.retriever, config=config)
    assert gradients.measure_gradients(dataclasses.replace(one, retriever=retriever)) is None
