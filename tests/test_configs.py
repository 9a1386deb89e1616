"""The benchmark configs: deltas that name real fields, variants that set what they promise."""

import pytest

from cada_jax.common.errors import UsageError

BENCHMARKS = ("rstp", "cuhk", "icfg")


def flat(config, prefix=""):
    fields = {}
    for key, value in config.items():
        if hasattr(value, "items"):
            fields |= flat(value, f"{prefix}{key}.")
        else:
            fields[prefix + key] = value
    return fields


def changes(config, base):
    config, base = flat(config), flat(base)
    assert config.keys() == base.keys(), "a delta adds a field that configs/default.py lacks"
    return {key: config[key] for key in config if config[key] != base[key]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rstp", {}),
        ("cuhk", {"data.name": "cuhk", "eval.rerank_top_k": 32}),
        ("icfg", {"data.name": "icfg", "eval.rerank_top_k": 32, "eval.select_on": "test"}),
    ],
)
def test_a_benchmark_changes_only_what_is_its_own(load_config, name, expected):
    assert changes(load_config(name), load_config("default")) == expected


@pytest.mark.parametrize("name", BENCHMARKS)
def test_released_sets_every_switch_of_the_method_page(load_config, name):
    config = flat(load_config(name, "released"))
    expected = {
        "atp.gate": "off",
        "atp.negatives": "underflow",
        "atp.group_pool": "all",
        "ara.masking": "token",
        "ara.token_rate": 0.4,
        "ara.causal": True,
        "data.captions": "first2",
        "data.tagger": "nltk",
        "data.tag_unit": "wordpiece",
        "eval.select_on": "test",
        "eval.rerank_top_k": 128 if name == "rstp" else 32,
        "optimizer.schedule": "epoch",
        "optimizer.decay": "all",
        "optimizer.learning_rate": 1e-5,
        "optimizer.weight_decay": 0.05,
        "optimizer.warmup_steps": 0,
        "optimizer.clip_norm": 0.0,
        "train.batch_size": 120,
        "train.epochs": 30,
        "loss.scale": 50.0,
        "loss.global_weight": 1.0,
        "loss.atp_weight": 1.0,
        "loss.ara_weight": 0.1,
        "augment.erase_area": (0.02, 0.4),
        "model.image.drop_path": 0.0,
    }
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("name", BENCHMARKS)
def test_large_is_vit_large(load_config, name):
    image = load_config(name, "large").model.image
    assert (image.depth, image.width, image.heads, image.mlp_dim) == (24, 1024, 16, 4096)
    assert image.drop_path == 0.1
    assert load_config(name, "large").model.text == load_config(name).model.text


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_unknown_variant_lists_the_known_ones(load_config, name):
    with pytest.raises(UsageError, match=rf"'relaesed'.*{name}\.py.*released, large, 384x128"):
        load_config(name, "relaesed")
