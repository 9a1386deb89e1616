"""Overrides as people write them."""

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("init_from=None", None),
        ("init_from=runs/a=b/model", "runs/a=b/model"),
        ("data.image_size=(384, 128)", (384, 128)),
        ("data.image_size=384x128", (384, 128)),
        ("train.max_steps=1e3", 1000),
        ("optimizer.learning_rate=1", 1.0),
        ("atp.groups=4", 4),
        ("atp.groups=phrases", "phrases"),
        ("ara.causal=False", False),
        ("eval.datasets=", ""),
    ],
)
def test_usual_spellings_are_read(override, value):
    name, _, text = override.partition("=")
    for arguments in ([f"--config.{override}"], [f"--config.{name}", text]):
        others, read = config_lib.split_overrides(["program", *arguments, "--workdir=x"])
        assert others == ["program", "--workdir=x"] and read == {name: value}
        assert type(read[name]) is type(value)


def test_the_last_override_of_a_field_holds():
    given = ["--config.train.epochs=3", "--config.train.epochs=4"]
    assert config_lib.split_overrides(given)[1] == {"train.epochs": 4}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--config.trian.epochs=3"], "did you mean config.train.epochs?"),
        (["--config.learning_rate=3"], "did you mean config.optimizer.learning_rate?"),
        (["--config.train.epochs"], "config.train.epochs is ''"),
        (["--config.data.image_size=384"], "is (384,); allowed: a pair (height, width)"),
    ],
)
def test_a_wrong_override_is_one_line_with_the_next_step(arguments, part):
    with pytest.raises(UsageError) as error:
        config_lib.split_overrides(arguments)
    assert "\n" not in str(error.value) and part in str(error.value)


def test_overrides_change_a_locked_configuration_and_references_follow():
    config = config_lib.default_config().lock()
    config_lib.apply_overrides(config, {"data.image_size": (384, 128), "init_from": "x"})
    assert config.model.image.size == (384, 128) and config.init_from == "x" and config.is_locked
    with config.unlocked():
        del config.mesh
    with pytest.raises(UsageError, match="--config.mesh.data: the configuration of this file"):
        config_lib.apply_overrides(config, {"mesh.data": 1})
