"""Configurations that were written before: read, compared, completed."""

import json

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import MissingFileError, UsageError
from tests.config.values import changed


def test_a_run_that_is_continued_may_change_these_and_no_more():
    assert set(config_lib.FREE_KEYS) == {
        "data.data_dir", "eval.baseline", "eval.batch_size", "eval.datasets",
        "eval.image_to_text_top_k", "eval.rerank_batch", "eval.save_queries", "eval.split",
        "mesh.", "model.remat",
        "train.accumulation", "train.checkpoint_every", "train.keep_checkpoints",
        "train.log_every", "train.profile_start", "train.profile_steps",
    }  # fmt: skip


def test_scoring_may_change_everything_but_the_network_and_its_input():
    assert set(config_lib.FREE_KEYS_OF_EVAL) == {
        "augment.", "data.data_dir", "eval.", "init_from", "init_parts",
        "loss.", "mesh.", "model.remat", "optimizer.", "seed", "train.",
    }  # fmt: skip


def written(tmp_path, config):
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    return tmp_path


def test_what_is_written_is_read_back(tmp_path):
    config = config_lib.default_config()
    read = config_lib.read_config(written(tmp_path, config) / "config.json")
    assert read.is_locked and not config_lib.differing_keys(config, read)
    config_lib.validate(read)
    config_lib.check_same_config(tmp_path, config)


def test_a_field_that_is_newer_than_a_run_has_its_default_there(tmp_path):
    config = config_lib.default_config()
    values = json.loads(config_lib.to_json(config))
    del values["mesh"], values["atp"]["gate"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    config_lib.check_same_config(tmp_path, config)


def test_another_configuration_is_refused_key_by_key(tmp_path):
    written(tmp_path, changed("train.epochs", 3))
    with pytest.raises(UsageError, match="config.train.epochs: 3 there, 30 now"):
        config_lib.check_same_config(tmp_path, config_lib.default_config())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"atp": {"former": 1}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json: (expected|config.atp.former is no field)"):
        config_lib.read_config(tmp_path / "config.json")
    (tmp_path / "config.json").unlink()
    with pytest.raises(MissingFileError, match="there is no such file"):
        config_lib.read_config(tmp_path / "config.json")
