"""Which loss moves which part."""

import dataclasses

from tests.conftest import _load_config
from tools.probing import (
    gradients,
)


def test_a_loss_moves_what_it_reads_and_nothing_else(one):
    norms = gradients.measure_gradients(one)["norms"]
    moved = {
        name: {part for part, of_part in norms.items() if of_part[name] > 0}
        for name in ("global_weight", "atp_weight", "ara_weight")
    }
    heads = {"itm_head", "itm_local_head"}
    assert moved["global_weight"] == {"image_encoder", "text_encoder", "vision_proj", "text_proj"}
    assert moved["atp_weight"] == {"image_encoder", "text_encoder"} | heads
    assert moved["ara_weight"] == {"image_encoder", "attribute_decoder"}


def test_a_large_network_gets_fewer_pairs_than_a_batch(one):
    small, full = one.retriever.config, _load_config("rstp")
    assert gradients.batch_size(small) == small.train.batch_size
    assert 16 <= gradients.batch_size(full) < full.train.batch_size


def test_less_than_a_batch_has_no_gradients(one):
    config = one.retriever.config.copy_and_resolve_references()
    config.train.batch_size = one.split.num_captions + 1
    retriever = dataclasses.replace(one.retriever, config=config)
    assert gradients.measure_gradients(dataclasses.replace(one, retriever=retriever)) is None
