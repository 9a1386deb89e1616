"""Configurations by name and with changed fields."""

import pytest

from cada_jax.common.errors import UsageError
from tools import config_file


def test_changes_reach_the_configuration_and_its_references():
    changes = ["data.image_size=(384,128)", "train.epochs=3", "data.data_dir=/a=b"]
    config = config_file.read_config("rstp", changes)
    assert config.model.image.size == (384, 128) and config.train.epochs == 3
    assert config.data.data_dir == "/a=b"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("train.batch=3", "did you mean config.train.batch_size?"),
        ("train.epochs", "--set train.epochs: expected FIELD=VALUE"),
    ],
)
def test_a_change_that_cannot_be_is_one_message(change, part):
    with pytest.raises(UsageError, match=part.replace("?", r"\?")):
        config_file.read_config("rstp", [change])
