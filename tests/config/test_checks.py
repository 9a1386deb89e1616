"""Fields that do not go together."""

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError
from tests.config.values import refusal, with_values
from tests.conftest import tiny_config_of_runs, tiny_config_of_steps

IMPOSSIBLE = [
    ({"model.image.heads": 5}, "model.image.heads"),
    ({"model.image.patch": (16, 15)}, "model.image.patch"),
    ({"model.image.stem": "conv", "model.image.patch": (14, 14)}, "model.image.patch"),
    ({"data.image_size": (8192, 8192), "model.image.patch": (1, 1)}, "model.image.patch"),
    ({"atp.groups": 5}, "atp.groups"),
    ({"data.max_length": 74}, "atp.groups"),
    ({"atp.groups": "phrases", "atp.group_pool": "all"}, "atp.group_pool"),
    ({"data.max_length": 601}, "model.text.max_positions"),
    ({"model.tokens.dec": 30523}, "model.tokens.dec"),
    ({"model.text.vocab_size": 30522}, "model.tokens.dec"),
    ({"data.name": "synthetic", "data.tagger": "nltk"}, "data.tagger"),
    ({"train.datasets": "rstp,synthetic", "data.tag_unit": "wordpiece"}, "data.tag_unit"),
    ({"augment.pad": 224}, "augment.pad"),
    ({"augment.erase": 1.0, "augment.erase_area": (1.0, 1.0)}, "augment.erase_area"),
    ({"mesh.fsdp": -1}, "mesh.fsdp"),
    ({"mesh.tensor": 65536}, "mesh.tensor"),
    ({"train.accumulation": 7}, "train.accumulation"),
    ({"train.epochs": 2, "train.eval_every": 5}, "train.eval_every"),
    ({"optimizer.weight_decay": 100.0}, "optimizer.weight_decay"),
    ({"optimizer.min_learning_rate": 1e-3}, "optimizer.min_learning_rate"),
    ({"train.max_steps": 10, "train.profile_start": 11}, "train.profile_start"),
    ({"eval.rerank_top_k": 0}, "eval.select_metric"),
    (
        {"eval.mirror": True, "eval.rerank_top_k": 0, "eval.select_metric": "global/R1"},
        "eval.mirror",
    ),
    ({"loss.atp_weight": 0.0}, "eval.select_metric"),
    (
        {"loss.global_weight": 0.0, "loss.atp_weight": 0.0, "loss.ara_weight": 0.0},
        "loss.global_weight",
    ),
    ({"init_parts": "encoders"}, "init_parts"),
    ({"train.datasets": "rstp,rstp"}, "train.datasets"),
    ({"eval.datasets": "rstp/../x"}, "eval.datasets"),
    ({"data.variant": "../other"}, "data.variant"),
]


@pytest.mark.parametrize(("values", "field"), IMPOSSIBLE)
def test_fields_that_do_not_go_together_are_refused(values, field):
    text = refusal(with_values(values))
    assert text and text.startswith(f"config.{field} is ") and "; allowed: " in text


POSSIBLE = [
    {"model.image.stem": "conv", "model.image.patch": (16, 8)},
    {"eval.rerank_top_k": 0, "eval.select_metric": "global/mAP"},
    {"train.datasets": "cuhk, rstp/grammar-word-73", "eval.datasets": "icfg,rstp"},
    {"mesh.data": 2, "mesh.fsdp": -1, "mesh.tensor": 4},
    {"atp.groups": "phrases", "data.max_length": 74},
    {
        "loss.global_weight": 0.0,
        "loss.atp_weight": 0.0,
        "loss.ara_weight": 0.0,
        "loss.alignment": "quota_transport",
        "eval.select_metric": "global/R1",
    },
    {"augment.erase_area": (0.1, 0.1), "augment.pad": 0},
    {"train.epochs": 2, "train.eval_every": 0, "train.checkpoint_every": 0},
    {"init_parts": "encoders", "init_from": "../lr[1e-3]/model"},
]


@pytest.mark.parametrize("values", POSSIBLE)
def test_what_goes_together_is_accepted(values):
    assert refusal(with_values(values)) is None


def test_scoring_alone_needs_nothing_that_only_training_needs():
    config = with_values({"eval.rerank_top_k": 0})
    assert refusal(config) and refusal(config, training=False) is None


def test_every_configuration_of_the_project_is_valid(load_config):
    from configs import synthetic, variants

    names = [("default", ""), *(("synthetic", name) for name in ("", *synthetic.VARIANTS))]
    names += [(name, v) for name in ("rstp", "cuhk", "icfg") for v in ("", *variants.VARIANTS)]
    for name, variant in names:
        assert refusal(load_config(name, variant)) is None, (name, variant)
    assert refusal(tiny_config_of_steps()) is None and refusal(tiny_config_of_runs()) is None


def test_the_network_alone_is_checked_without_the_rest():
    config = config_lib.default_config()
    config.train.batch_size = 1
    config_lib.check_network(config)
    config.atp.gate = "on"
    with pytest.raises(UsageError, match="config.atp.gate is 'on'; allowed: 'token' or 'off'"):
        config_lib.check_network(config)
