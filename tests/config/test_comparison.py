"""Configurations that were written before: read, compared, brought up to date."""

import json

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import MissingFileError, UsageError
from tests.conftest import REPOSITORY

SHIPPED = REPOSITORY / "cada_jax" / "checkpoints" / "pretrained" / "synthetic" / "config.json"


def test_a_run_that_is_continued_may_change_these_and_no_more():
    assert set(config_lib.FREE_KEYS) == {
        "data.data_dir", "eval.batch_size", "eval.datasets", "eval.image_to_text_top_k",
        "eval.rerank_batch", "eval.save_queries", "eval.split", "mesh.", "model.remat",
        "train.accumulation", "train.checkpoint_every", "train.keep_checkpoints",
        "train.log_every", "train.profile_start", "train.profile_steps",
    }  # fmt: skip


def test_scoring_may_change_everything_but_the_network_and_its_input():
    assert set(config_lib.FREE_KEYS_OF_EVAL) == {
        "augment.", "data.data_dir", "eval.", "init_from", "loss.", "mesh.", "model.remat",
        "optimizer.", "seed", "train.",
    }  # fmt: skip


def test_what_is_written_is_read_back(tmp_path):
    config = config_lib.default_config()
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    read = config_lib.read_config(tmp_path / "config.json")
    assert read.is_locked and not config_lib.differing_keys(config, read)
    config_lib.validate(read)
    config_lib.check_same_config(tmp_path, config)


def changed_file(tmp_path, **values):
    """A config.json of an older version: "group.key" -> value, or None to leave the key out."""
    content = json.loads(config_lib.to_json(config_lib.default_config()))
    for name, value in values.items():
        *groups, key = name.split("__")
        group = content
        for part in groups:
            group = group[part]
        if value is None:
            del group[key]
        else:
            group[key] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    "old",
    [
        {"model__remat": False},
        {"eval__save_queries": None},
        {"eval__mirror": None, "loss__alignment": None, "loss__global": None},
        {"mesh": None},
        {"atp__gate": None},  # newer than the run: it has its default there
        {"atp__former": 1},
    ],
)
def test_an_older_run_that_differs_in_free_or_new_fields_is_continued(tmp_path, old):
    config_lib.check_same_config(changed_file(tmp_path, **old), config_lib.default_config())


@pytest.mark.parametrize(
    ("old", "line"),
    [
        ({"train__epochs": 3}, "config.train.epochs: 3 there, 30 now"),
        ({"atp__gate": "off"}, 'config.atp.gate: "off" there, "token" now'),
    ],
)
def test_another_configuration_is_refused_key_by_key(tmp_path, old, line):
    with pytest.raises(UsageError, match="was written by another configuration") as error:
        config_lib.check_same_config(changed_file(tmp_path, **old), config_lib.default_config())
    assert line in str(error.value)


def test_a_model_folder_of_an_older_version_is_brought_up_to_date(tmp_path):
    read = config_lib.read_config(SHIPPED)
    new = config_lib.upgraded(read)
    config_lib.validate(new)
    assert new.is_locked and new.model.image.depth == 3 and new.data.image_size == (96, 48)
    assert all(theirs == "absent" for _, theirs in config_lib.differing_keys(new, read).values())


@pytest.mark.parametrize(("former", "now"), [(False, "off"), (True, "full"), ("light", "light")])
def test_former_spellings_are_read_as_todays(tmp_path, former, now):
    folder = changed_file(tmp_path, model__remat=former, train__former=3, loss=None)
    new = config_lib.upgraded(config_lib.read_config(folder / "config.json"))
    assert new.model.remat == now and "former" not in new.train and new.loss.scale == 50.0
    config_lib.validate(new)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "\0", '{"a": NaN'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json: expected"):
        config_lib.read_config(tmp_path / "config.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="there is no such file"):
        config_lib.read_config(tmp_path / "config.json")
