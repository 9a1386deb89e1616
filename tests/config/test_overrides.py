"""Overrides as people write them."""

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("init_from=None", None),
        ("init_from=none", None),
        ("init_from=null", None),
        ("init_from=runs/a/model", "runs/a/model"),
        ("data.image_size=384,128", (384, 128)),
        ("data.image_size=(384,128)", (384, 128)),
        ("data.image_size=(384, 128)", (384, 128)),
        ("data.image_size=[384,128]", (384, 128)),
        ("data.image_size=384x128", (384, 128)),
        ("augment.erase_area=0.1,0.2", (0.1, 0.2)),
        ("train.batch_size=64.0", 64),
        ("train.max_steps=1e3", 1000),
        ("train.max_steps=1_000", 1000),
        ("optimizer.learning_rate=1", 1.0),
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("atp.groups=4", 4),
        ("atp.groups=4.0", 4),
        ("atp.groups=phrases", "phrases"),
        ("loss.global=tal", "tal"),
        ("ara.causal=false", False),
        ("ara.causal=False", False),
        ("ara.causal=0", False),
        ("ara.causal=yes", True),
        ("eval.datasets=", ""),
        ("mesh.data=-1", -1),
    ],
)
def test_usual_spellings_are_read(override, value):
    others, read = config_lib.split_overrides(["program", f"--config.{override}", "--workdir=x"])
    assert others == ["program", "--workdir=x"]
    assert read == {override.partition("=")[0]: value}
    assert type(read.popitem()[1]) is type(value)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--config.train.epochs", "3"], {"train.epochs": 3}),
        (["-config.train.epochs=3"], {"train.epochs": 3}),
        (["--config.train.epochs=3", "--config.train.epochs=4"], {"train.epochs": 4}),
        (["--config.init_from=x", "--config.init_from=None"], {"init_from": None}),
        (["--config.eval.track_test"], {"eval.track_test": True}),
        (["--noconfig.ara.causal"], {"ara.causal": False}),
        (["--config.data.image_size=9", "--config.data.image_size=8"], {"data.image_size": (9, 8)}),
        (["--config.data.image_size=9,8", "--config.data.image_size=8,9"],
         {"data.image_size": (8, 9)}),
    ],
)  # fmt: skip
def test_flags_in_other_forms_are_read(arguments, value):
    assert config_lib.split_overrides(arguments) == ([], value)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config.trian.epochs=3"], ["'trian'", "did you mean config.train.epochs?"]),
        (["--config.train.epoch=3"], ["'epoch'", "did you mean config.train.epochs?"]),
        (["--config.train.epochs.x=3"], ["'x'", "`python -m cada_jax.config` lists all fields"]),
        (["--config.learning_rate=3"], ["did you mean config.optimizer.learning_rate?"]),
        (["--config.train=3"], ["config.train is a group of fields"]),
        (["--config.=3"], ["--config.=3"]),
        (["--config.train.epochs"], ["value is missing"]),
        (["--noconfig.train.epochs"], ["True or False"]),
        (["--config.train.batch_size=64.5"], ["config.train.batch_size is '64.5'"]),
        (["--config.train.batch_size=1e400"], ["config.train.batch_size is '1e400'"]),
        (["--config.train.batch_size=" + "9" * 5000], ["config.train.batch_size is "]),
        (["--config.augment.erase_area=abc"], ["config.augment.erase_area is 'abc'", "0.02,0.4"]),
        (["--config.data.image_size=(nan,nan)"], ["'(nan,nan)'", "--config.data.image_size="]),
        (["--config.data.image_size=384"], ["is '384'; allowed: a pair (height, width)"]),
        (["--config.data.image_size=1,2,3"], ["is '1,2,3'"]),
        (["--config.ara.causal=maybe"], ["allowed: True or False"]),
        (
            ["--config.atp.groups=halves"],
            ["is 'halves'; allowed: a whole number", "or 'phrases' ("],
        ),
        (["--config.atp.groups=0"], ["config.atp.groups is 0; allowed: a whole number from 1"]),
        (["--config.train.epochs=True"], ["config.train.epochs is 'True'"]),
        (["--config.data.data_dir=~nouser/x"], ["there is no user ~nouser"]),
        (["--config.data.vocab=a\0b"], ["control character"]),
    ],
)
def test_a_wrong_override_is_one_line_with_the_next_step(arguments, parts):
    with pytest.raises(UsageError) as error:
        config_lib.split_overrides(arguments)
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    for part in parts:
        assert part in text


def test_overrides_change_a_locked_configuration_and_references_follow():
    config = config_lib.default_config().lock()
    config_lib.apply_overrides(config, {"data.image_size": (384, 128), "init_from": "x"})
    assert config.model.image.size == (384, 128) and config.init_from == "x" and config.is_locked
    config_lib.apply_overrides(config, {"init_from": None})
    config_lib.validate(config)


def test_an_override_of_a_field_that_the_file_lacks_is_refused():
    config = config_lib.default_config()
    del config.mesh
    with pytest.raises(UsageError, match="--config.mesh.data: the configuration of this file"):
        config_lib.apply_overrides(config, {"mesh.data": 1})
