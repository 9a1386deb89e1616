"""Fields that do not go together."""

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError
from tests.config.test_fields import refusal
from tests.conftest import tiny_config_of_runs, tiny_config_of_steps


def with_values(values):
    config = config_lib.default_config()
    config.update_from_flattened_dict(values)
    return config


IMPOSSIBLE = [
    ({"model.image.heads": 5}, "config.model.image.heads is 5", "768"),
    ({"model.text.heads": 7}, "config.model.text.heads is 7", "768"),
    ({"model.image.patch": (17, 16)}, "config.model.image.patch is (17, 16)", "224"),
    ({"model.image.patch": (16, 15)}, "config.model.image.patch is (16, 15)", "width"),
    (
        {"model.image.stem": "conv", "model.image.patch": (14, 14)},
        "config.model.image.patch is (14, 14)",
        "multiples of 4",
    ),
    (
        {"model.image.stem": "conv", "model.image.width": 6, "model.image.heads": 2},
        "config.model.image.width is 6",
        "multiple of 4",
    ),
    (
        {"data.image_size": (8192, 8192), "model.image.patch": (1, 1)},
        "config.model.image.patch is (1, 1)",
        "at most 65536 patches",
    ),
    ({"atp.groups": 5}, "config.atp.groups is 5", "divisor of 72"),
    ({"atp.groups": 144}, "config.atp.groups is 144", "divisor of 72"),
    ({"data.max_length": 74}, "config.atp.groups is 2", "config.data.max_length to 75"),
    (
        {"atp.groups": "phrases", "atp.group_pool": "all"},
        "config.atp.group_pool is 'all'",
        "config.atp.groups='phrases'",
    ),
    ({"data.max_length": 601}, "config.model.text.max_positions is 512", "601"),
    ({"model.tokens.dec": 30523}, "config.model.tokens.enc is 30523", "config.model.tokens.dec"),
    ({"model.tokens.cls": 0}, "config.model.tokens.cls is 0", "config.model.tokens.pad"),
    ({"model.tokens.enc": 30524}, "config.model.tokens.enc is 30524", "30524"),
    ({"model.text.vocab_size": 30522}, "config.model.tokens.dec is 30522", "vocab_size"),
    ({"data.name": "synthetic", "data.tagger": "nltk"}, "config.data.tagger is 'nltk'", "pattern"),
    (
        {"train.datasets": "rstp,synthetic", "data.tag_unit": "wordpiece"},
        "config.data.tag_unit",
        "",
    ),
    ({"augment.pad": 224}, "config.augment.pad is 224", "shorter side"),
    ({"augment.erase_area": (0.4, 0.02)}, "config.augment.erase_area is (0.4, 0.02)", "smallest"),
    ({"augment.erase_ratio": (3.0, 0.3)}, "config.augment.erase_ratio is (3.0, 0.3)", "smallest"),
    ({"mesh.fsdp": -1}, "config.mesh.fsdp is -1", "config.mesh.data"),
    ({"train.batch_size": 1}, "config.train.batch_size is 1", "from 2"),
    ({"train.accumulation": 7}, "config.train.accumulation is 7", "120"),
    ({"optimizer.min_learning_rate": 1e-3}, "config.optimizer.min_learning_rate is 0.001", "1e-05"),
    (
        {"train.max_steps": 10, "train.profile_start": 11},
        "config.train.profile_start is 11",
        "config.train.max_steps",
    ),
    ({"eval.rerank_top_k": 0}, "config.eval.select_metric is 'reranked/R1'", "global/R1"),
    ({"loss.atp_weight": 0.0}, "config.eval.select_metric is 'reranked/R1'", "global/R1"),
    (
        {"loss.global_weight": 0.0, "loss.atp_weight": 0.0, "loss.ara_weight": 0.0},
        "config.loss.global_weight is 0.0",
        "Nothing would be trained",
    ),
    ({"train.datasets": "rstp,rstp"}, "config.train.datasets is 'rstp,rstp'", "different"),
    ({"train.datasets": "rstp,prcc"}, "config.train.datasets is 'rstp,prcc'", "icfg"),
    ({"eval.datasets": "rstp/"}, "config.eval.datasets is 'rstp/'", "NAME/VARIANT"),
    ({"eval.datasets": "rstp/../x"}, "config.eval.datasets is 'rstp/../x'", "NAME/VARIANT"),
    ({"eval.datasets": ",rstp"}, "config.eval.datasets is ',rstp'", "NAME/VARIANT"),
    ({"data.variant": "../other"}, "config.data.variant is '../other'", "None or a name"),
]


@pytest.mark.parametrize(("values", "field", "part"), IMPOSSIBLE)
def test_fields_that_do_not_go_together_are_refused(values, field, part):
    text = refusal(with_values(values))
    assert text and text.startswith(field) and "; allowed: " in text and part in text


POSSIBLE = [
    {"model.image.stem": "conv", "model.image.patch": (16, 8)},
    {"eval.rerank_top_k": 0, "eval.select_metric": "global/mAP"},
    {"loss.atp_weight": 0.0, "eval.select_metric": "global/R1", "eval.rerank_top_k": 0},
    {"eval.select_metric": "match_only/mINP"},
    {"train.datasets": "cuhk, rstp/pattern-word-73", "eval.datasets": "icfg,rstp"},
    {"mesh.data": 2, "mesh.fsdp": -1},
    {"atp.groups": "phrases", "data.max_length": 74},
    {"atp.groups": 3, "loss.global": "tal", "eval.mirror": True},
    {
        "loss.global_weight": 0.0,
        "loss.atp_weight": 0.0,
        "loss.ara_weight": 0.0,
        "loss.alignment": "quota_transport",
        "eval.select_metric": "global/R1",
    },
    {"augment.erase_area": (0.1, 0.1), "augment.pad": 0},
    {"train.max_steps": 2, "optimizer.warmup_steps": 50, "train.profile_start": 2},
    {"train.eval_every": 0, "train.checkpoint_every": 0},
    {"data.data_dir": "~/cada_data", "init_from": "../lr[1e-3]/model"},
]


@pytest.mark.parametrize("values", POSSIBLE)
def test_what_goes_together_is_accepted(values):
    assert refusal(with_values(values)) is None


def test_scoring_alone_needs_nothing_that_only_training_needs():
    config = with_values({"eval.rerank_top_k": 0})
    assert refusal(config) and refusal(config, training=False) is None


def test_a_size_of_the_model_that_left_the_datas_is_refused():
    config = config_lib.default_config().copy_and_resolve_references()
    config.data.image_size = (384, 128)
    assert "Set config.data.image_size alone" in refusal(config)


def test_the_configurations_of_the_tests_are_valid():
    assert refusal(tiny_config_of_steps()) is None and refusal(tiny_config_of_runs()) is None


@pytest.mark.parametrize(
    ("name", "variants"),
    [(name, ["", "released", "large", "384x128"]) for name in ("rstp", "cuhk", "icfg")]
    + [("default", [])],
)
def test_every_benchmark_and_variant_is_valid(load_config, name, variants):
    assert refusal(load_config(name)) is None
    for variant in variants:
        assert refusal(load_config(name, variant)) is None, variant


def test_the_demo_and_its_variants_are_valid(load_config):
    from configs.synthetic import VARIANTS

    for variant in ("", *VARIANTS):
        assert refusal(load_config("synthetic", variant)) is None, variant


def test_the_network_alone_is_checked_without_the_rest():
    config = config_lib.default_config()
    config.train.batch_size = 1
    config_lib.check_network(config)
    config.atp.gate = "on"
    with pytest.raises(UsageError, match="config.atp.gate is 'on'; allowed: 'token' or 'off'"):
        config_lib.check_network(config)
